package configdrive

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"
)

const (
	label    = "config-2"
	userData = "#cloud-config\nhostname: box\n"
	metaData = `{"hostname": "meta", "public_keys": {"b": "ssh-ed25519 BB", "a": "ssh-ed25519 AA"}, "network_config": {"content_path": "/content/0000"}}`
)

// names are the files that are looked for.
var names = []string{"openstack/latest/user_data", "openstack/latest/meta_data.json", "openstack/latest/network_data.json"}

// image makes an image with the files of a config drive by the tools that
// people make them with.
func image(t *testing.T, label string, make func(image, folder string)) string {
	t.Helper()
	dir := t.TempDir()
	latest := filepath.Join(dir, "cd/openstack/latest")
	if err := os.MkdirAll(latest, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string]string{"user_data": userData, "meta_data.json": metaData} {
		if err := os.WriteFile(filepath.Join(latest, name), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	path := filepath.Join(dir, label+".img")
	make(path, filepath.Join(dir, "cd"))
	return path
}

func command(t *testing.T, name string, args ...string) {
	t.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
}

func fat(t *testing.T, bits, kib, label string) string {
	return image(t, label, func(image, folder string) {
		command(t, "/usr/sbin/mkfs.vfat", "-F", bits, "-n", label, "-C", image, kib)
		command(t, "mcopy", "-s", "-i", image, filepath.Join(folder, "openstack"), "::/")
	})
}

func iso(t *testing.T, options ...string) string {
	return image(t, label, func(image, folder string) {
		command(t, "genisoimage", append(options, "-quiet", "-V", label, "-o", image, folder)...)
	})
}

func TestImages(t *testing.T) {
	images := map[string]string{
		"fat12":             fat(t, "12", "1440", "CONFIG-2"),
		"fat12 lower case":  fat(t, "12", "1440", label),
		"fat16":             fat(t, "16", "20480", "CONFIG-2"),
		"fat32":             fat(t, "32", "71680", "CONFIG-2"),
		"iso, Joliet, Rock": iso(t, "-J", "-r"),
		"iso, Rock Ridge":   iso(t, "-r"),
	}
	want := Files{names[0]: []byte(userData), names[1]: []byte(metaData)}
	for name, path := range images {
		t.Run(name, func(t *testing.T) {
			if device, ok := Find([]string{"/dev/null", "/nonexistent", path}, label); !ok || device != path {
				t.Fatalf("Find = %q, %v", device, ok)
			}
			got, err := Open(context.Background(), path, names...)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestDamagedImages(t *testing.T) {
	for name, path := range map[string]string{
		"fat12": fat(t, "12", "1440", "CONFIG-2"), "fat32": fat(t, "32", "71680", "CONFIG-2"), "iso": iso(t, "-J", "-r"),
	} {
		whole, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, size := range []int{0, 100, 512, 4096, 34816, 36000, 40960} {
			t.Run(name, func(t *testing.T) {
				if err := os.WriteFile(path, whole[:min(size, len(whole))], 0o644); err != nil {
					t.Fatal(err)
				}
				drive, err := Open(context.Background(), path, names...)
				if data := drive[names[0]]; err == nil && data != nil && string(data) != userData {
					t.Errorf("cut at %d bytes: user-data %q without an error", size, data)
				}
			})
		}
	}
}

func TestOtherLabelIsNotFound(t *testing.T) {
	if device, ok := Find([]string{fat(t, "12", "1440", "DATA")}, label); ok {
		t.Errorf("Find = %q", device)
	}
}

func TestRead(t *testing.T) {
	large := make([]byte, MaxFile+1)
	tests := []struct {
		name  string
		files fstest.MapFS
		want  Files
		err   string
	}{
		{"empty", fstest.MapFS{}, Files{}, ""},
		{"one of two", fstest.MapFS{names[1]: {Data: []byte("x")}}, Files{names[1]: []byte("x")}, ""},
		{"too large", fstest.MapFS{names[0]: {Data: []byte("x")}, names[1]: {Data: large}}, Files{names[0]: []byte("x")}, "larger than"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := Read(tt.files, names...)
			if (err != nil) != (tt.err != "") || (err != nil && !strings.Contains(err.Error(), tt.err)) {
				t.Errorf("error %v, want %q", err, tt.err)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}
