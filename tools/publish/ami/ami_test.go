package ami

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/ebs"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/google/go-cmp/cmp"
)

// image is an image with data in the blocks 0, 3, and the last, which is half.
func image() []byte {
	data := make([]byte, 40*BlockSize+BlockSize/2)
	copy(data[512:], "EFI PART")
	for i := 3; i < 30; i += 3 {
		copy(data[i*BlockSize+100:], strings.Repeat("block", i))
	}
	data[len(data)-1] = 1
	return data
}

const imageBlocks = 11

func publisher(t *testing.T, a *fakeAWS, dir string, data []byte) (*Publisher, *[]string) {
	t.Helper()
	server := httptest.NewServer(a)
	t.Cleanup(server.Close)
	config := aws.Config{
		Region: "eu-west-1", BaseEndpoint: aws.String(server.URL), HTTPClient: server.Client(),
		Credentials: credentials.NewStaticCredentialsProvider("AKIDEXAMPLE", "secret", ""),
		Retryer: func() aws.Retryer {
			return retry.NewStandard(func(o *retry.StandardOptions) { o.MaxBackoff = time.Millisecond; o.MaxAttempts = 5 })
		},
	}
	plan, err := MakePlan(t.Context(), bytes.NewReader(data), int64(len(data)))
	if err != nil {
		t.Fatal(err)
	}
	var said []string
	return &Publisher{
		EBS: ebs.NewFromConfig(config), EC2: ec2.NewFromConfig(config), Region: "eu-west-1", Name: "coracle-0.1.0", Description: "Coracle 0.1.0",
		Image: bytes.NewReader(data), Plan: plan, State: filepath.Join(dir, "state"), Poll: time.Millisecond, Workers: 1,
		Say: func(text string) { said = append(said, text) },
	}, &said
}

func TestPublish(t *testing.T) {
	a := newAWS(t)
	a.failures["put"], a.failures["throttle"] = 2, 2
	dir, data := t.TempDir(), image()
	p, _ := publisher(t, a, dir, data)
	p.Workers = 0
	id, err := p.Publish(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	form := a.images[id]
	delete(form, "Version")
	delete(form, "Action")
	want := map[string]string{
		"Name": "coracle-0.1.0", "Description": "Coracle 0.1.0", "Architecture": "x86_64", "VirtualizationType": "hvm", "BootMode": "uefi",
		"EnaSupport": "true", "SriovNetSupport": "simple", "ImdsSupport": "v2.0", "RootDeviceName": "/dev/xvda",
		"BlockDeviceMapping.1.DeviceName": "/dev/xvda", "BlockDeviceMapping.1.Ebs.SnapshotId": "snap-00000000000000001",
		"BlockDeviceMapping.1.Ebs.VolumeSize": "1", "BlockDeviceMapping.1.Ebs.VolumeType": "gp3", "BlockDeviceMapping.1.Ebs.DeleteOnTermination": "true",
	}
	if diff := cmp.Diff(want, form); diff != "" {
		t.Errorf("RegisterImage (-want +got):\n%s", diff)
	}
	s := a.snapshots["snap-00000000000000001"]
	if len(s.blocks) != imageBlocks || a.puts != imageBlocks {
		t.Errorf("%d blocks, %d sent; want %d", len(s.blocks), a.puts, imageBlocks)
	}
	padded := append(bytes.Clone(data), make([]byte, BlockSize)...)
	for i, sum := range s.blocks {
		if sum != sha256.Sum256(padded[i*BlockSize:(i+1)*BlockSize]) {
			t.Errorf("block %d is another", i)
		}
	}
	if _, err := os.Stat(p.State); !os.IsNotExist(err) {
		t.Errorf("the state file stays: %v", err)
	}
	if _, err := p.Publish(t.Context()); err == nil || !strings.Contains(err.Error(), id+" of that name already") {
		t.Errorf("again: %v", err)
	}
}

// TestResume cuts a run off after some blocks, in the middle of writing its
// state, and goes on.
func TestResume(t *testing.T) {
	a := newAWS(t)
	a.cutAfter = 4
	dir := t.TempDir()
	p, _ := publisher(t, a, dir, image())
	if _, err := p.Publish(t.Context()); err == nil || !strings.Contains(err.Error(), "the same command goes on from here") {
		t.Fatalf("cut off: %v", err)
	}
	f, err := os.OpenFile(p.State, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	f.WriteString("2") // cut off in the middle of a line
	f.Close()
	a.cutAfter = 0
	p, said := publisher(t, a, dir, image())
	if _, err := p.Publish(t.Context()); err != nil {
		t.Fatal(err)
	}
	if a.puts != imageBlocks || len(a.snapshots) != 1 || !strings.Contains(strings.Join(*said, "\n"), "4 of 11 blocks are there") {
		t.Errorf("%d blocks sent, %d snapshots, said %q", a.puts, len(a.snapshots), *said)
	}
}

func TestResumeAnotherOrGone(t *testing.T) {
	for name, change := range map[string]func(a *fakeAWS, data []byte){
		"another image":    func(_ *fakeAWS, data []byte) { data[20*BlockSize] = 9 },
		"snapshot is gone": func(a *fakeAWS, _ []byte) { clear(a.snapshots); a.snapshots["snap-x"] = nil },
	} {
		t.Run(name, func(t *testing.T) {
			a, dir, data := newAWS(t), t.TempDir(), image()
			a.cutAfter = 4
			p, _ := publisher(t, a, dir, data)
			if _, err := p.Publish(t.Context()); err == nil {
				t.Fatal("no error")
			}
			a.cutAfter, a.puts = 0, 0
			change(a, data)
			p, _ = publisher(t, a, dir, data)
			if _, err := p.Publish(t.Context()); err != nil {
				t.Fatal(err)
			}
			if a.puts < imageBlocks || len(a.snapshots) != 2 {
				t.Errorf("%d blocks sent, %d snapshots", a.puts, len(a.snapshots))
			}
		})
	}
}

func TestPlan(t *testing.T) {
	if _, err := MakePlan(t.Context(), strings.NewReader("QFI\xfb"+strings.Repeat("x", 1000)), 1004); !errors.Is(err, ErrNotRaw) {
		t.Errorf("qcow2: %v", err)
	}
	if _, err := MakePlan(t.Context(), strings.NewReader(""), 0); !errors.Is(err, ErrNotRaw) {
		t.Errorf("empty: %v", err)
	}
	data := image()
	p, err := MakePlan(t.Context(), bytes.NewReader(data), int64(len(data)))
	if err != nil || len(p.Blocks) != imageBlocks || p.GiB() != 1 {
		t.Errorf("%d blocks, %v", len(p.Blocks), err)
	}
	data[5] = 1
	other, _ := MakePlan(t.Context(), bytes.NewReader(data), int64(len(data)))
	if p.Digest() == other.Digest() || p.Checksum() == other.Checksum() {
		t.Error("two images have one digest")
	}
}

func TestDryRunAsksNobody(t *testing.T) {
	var said []string
	data := image()
	plan, err := MakePlan(t.Context(), bytes.NewReader(data), int64(len(data)))
	if err != nil {
		t.Fatal(err)
	}
	p := &Publisher{Region: "eu-west-1", Name: "x", Plan: plan, Say: func(text string) { said = append(said, text) }}
	p.DryRun()
	if all := strings.Join(said, "\n"); !strings.Contains(all, "11 blocks of 512 KiB, 5 MiB; 30 blocks of zeros are not sent") {
		t.Errorf("says\n%s", all)
	}
}
