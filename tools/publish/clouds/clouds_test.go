package clouds

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestShellRunsThem has a shell run the commands with programs of the clouds'
// names that write down how they are called.
func TestShellRunsThem(t *testing.T) {
	dir := t.TempDir()
	for _, tool := range []string{"gcloud", "az", "doctl", "openstack", "s3cmd"} {
		script := "#!/bin/sh\nprintf '%s' " + tool + " >> \"$CALLS\"; for a; do printf '|%s' \"$a\" >> \"$CALLS\"; done; echo >> \"$CALLS\"\n" +
			"[ \"$2\" != show ] || md5sum < \"$IMAGE\" | cut -d' ' -f1\n"
		if err := os.WriteFile(filepath.Join(dir, tool), []byte(script), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	image := filepath.Join(dir, "it's an image.qcow2")
	if err := os.WriteFile(image, []byte("image"), 0o644); err != nil {
		t.Fatal(err)
	}
	f := File{Path: image, Name: "coracle-0.1.0", Version: "0.1.0"}
	file, err := os.Open(image)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if f.Size, f.SHA256, f.MD5, err = Digest(file); err != nil || f.Size != 5 {
		t.Fatal(f.Size, err)
	}
	target := Target{"bucket": "b", "project": "p", "resource-group": "g", "storage-account": "acct", "container": "c", "space": "s", "region": "fra1"}
	want := map[string][]string{
		"gce": {"gcloud|storage|cp|" + image + "|gs://b/coracle-0.1.0.tar.gz", "gcloud|compute|images|create|coracle-0-1-0|--project=p|--source-uri=gs://b/coracle-0.1.0.tar.gz|"},
		"azure": {"--content-md5|eIBaIhqYjnnvP0LXxb/UGA==", // of printf image, by openssl md5 -binary | base64
			"--source|https://acct.blob.core.windows.net/c/coracle-0.1.0.vhd|"},
		"digitalocean": {"s3cmd|put|--acl-public|--host=fra1.digitaloceanspaces.com|--host-bucket=%(bucket)s.fra1.digitaloceanspaces.com|" + image + "|s3://s/coracle-0.1.0.qcow2",
			"--image-url|https://s.fra1.digitaloceanspaces.com/coracle-0.1.0.qcow2|"},
		"openstack": {"openstack|image|create|coracle-0.1.0|--file|" + image, "openstack|image|show|"},
	}
	for _, cloud := range All() {
		f.Ending = cloud.Ending
		lines, err := cloud.Lines(f, target)
		if err != nil {
			t.Fatal(err)
		}
		calls := filepath.Join(dir, cloud.Name+".calls")
		sh := exec.Command("sh", "-c", strings.Join(lines, "\n"))
		sh.Env = append(os.Environ(), "PATH="+dir+":"+os.Getenv("PATH"), "CALLS="+calls, "IMAGE="+image)
		if out, err := sh.CombinedOutput(); err != nil {
			t.Errorf("%s: %v\n%s\n%s", cloud.Name, err, strings.Join(lines, "\n"), out)
		}
		got, _ := os.ReadFile(calls)
		for _, part := range want[cloud.Name] {
			if !strings.Contains(string(got), part) {
				t.Errorf("%s: %q is not in\n%s", cloud.Name, part, got)
			}
		}
		if _, err := cloud.Lines(f, Target{}); (err == nil) != (len(cloud.Needs) == 0) {
			t.Errorf("%s without names: %v", cloud.Name, err)
		}
	}
}
