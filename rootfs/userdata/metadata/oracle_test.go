package metadata

import (
	"io"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	awsimds "github.com/aws/aws-sdk-go-v2/feature/ec2/imds"

	"github.com/coracle-os/coracle/rootfs/userdata/platform"
)

// TestServerIsAsAWSHasIt asks the test's own EC2 with AWS's own client, by
// version 2 only: the server that our reader is tested against is one that AWS's
// understands.
func TestServerIsAsAWSHasIt(t *testing.T) {
	c := &cloud{t: t, userData: plainUserData}
	client := awsimds.New(awsimds.Options{Endpoint: start(t, c.handler(platform.EC2)), EnableFallback: aws.FalseTernary})
	ours, err := asker(start(t, c.handler(platform.EC2))).Ask(t.Context(), platform.EC2)
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		"hostname": ours.Metadata.Hostname, "local-ipv4": ours.Metadata.PrivateIPv4, "public-ipv4": ours.Metadata.PublicIPv4,
		"ipv6": ours.Metadata.PublicIPv6, "public-keys/0/openssh-key": ours.Metadata.SSHKeys[0] + "\n",
	} {
		out, err := client.GetMetadata(t.Context(), &awsimds.GetMetadataInput{Path: path})
		if err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		if data, _ := io.ReadAll(out.Content); string(data) != want {
			t.Errorf("%s: AWS's client reads %q, ours %q", path, data, want)
		}
	}
	out, err := client.GetUserData(t.Context(), &awsimds.GetUserDataInput{})
	if err != nil {
		t.Fatal(err)
	}
	if data, _ := io.ReadAll(out.Content); string(data) != string(ours.UserData) {
		t.Errorf("user-data: AWS's client reads %q, ours %q", data, ours.UserData)
	}
}
