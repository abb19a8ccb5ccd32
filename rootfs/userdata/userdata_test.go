package userdata

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/coracle-os/coracle/rootfs/cloudconfig"
	"github.com/google/go-cmp/cmp"
)

func write(t *testing.T, root, path, content string) {
	t.Helper()
	full := filepath.Join(root, path)
	if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(full, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestFindOrder(t *testing.T) {
	root := t.TempDir()
	if found := (Places{Root: root}).Find(context.Background()); len(found) != 0 {
		t.Errorf("found %v on an empty machine", found)
	}
	write(t, root, "/var/lib/coreos-install/user_data", "install")
	write(t, root, "/usr/share/oem/cloud-config.yml", "oem")
	write(t, root, "/usr/share/oem/config.ign", "ignition")
	write(t, root, "/var/lib/coreos-vagrant/vagrantfile-user-data", "")
	write(t, root, fwCfgDevice, "")
	load := func(name string) error {
		if name != "qemu_fw_cfg" {
			t.Errorf("loads %q", name)
		}
		write(t, root, FWCfg, "fw_cfg")
		return nil
	}
	var got []string
	for _, s := range (Places{Root: root, LoadModule: load}).Find(context.Background()) {
		got = append(got, s.Name+": "+string(s.Data))
	}
	want := []string{
		"/usr/share/oem/cloud-config.yml: oem",
		"/usr/share/oem/config.ign: ignition",
		"QEMU fw_cfg opt/coracle/user-data: fw_cfg",
		"/var/lib/coreos-install/user_data: install",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestCDDriveGetsItsDriver(t *testing.T) {
	root := t.TempDir()
	write(t, root, "/sys/bus/scsi/devices/0:0:0:0/type", "0\n")
	var loaded []string
	places := Places{Root: root, Devices: func() []string { return BlockDevices(root) }, LoadModule: func(name string) error {
		loaded = append(loaded, name)
		write(t, root, "/sys/class/block/sr0/size", "1")
		return nil
	}}
	places.Find(context.Background())
	if loaded != nil {
		t.Errorf("loads %q without a CD drive", loaded)
	}
	write(t, root, "/sys/bus/scsi/devices/1:0:0:0/type", "5\n")
	places.Find(context.Background())
	places.Find(context.Background())
	if diff := cmp.Diff([]string{"sr_mod"}, loaded); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestUnreadablePlaceIsReported(t *testing.T) {
	root := t.TempDir()
	if err := os.MkdirAll(filepath.Join(root, "/usr/share/oem/cloud-config.yml"), 0o755); err != nil {
		t.Fatal(err)
	}
	write(t, root, "/var/lib/coreos-install/user_data", "x")
	found := (Places{Root: root}).Find(context.Background())
	if len(found) != 2 || found[0].Err == nil || !strings.Contains(found[0].Err.Error(), "cloud-config.yml") {
		t.Errorf("found %+v", found)
	}
}

func TestFWCfgMetadata(t *testing.T) {
	full := `{"hostname": "coracle2", "public_keys": {"b": "ssh-rsa B", "a": "ssh-rsa A"}, "local-ipv4": "10.9.0.2", "public-ipv6": "2001:db8::2", "other": 1}`
	known := cloudconfig.Metadata{Hostname: "coracle2", SSHKeys: []string{"ssh-rsa A", "ssh-rsa B"},
		Addresses: cloudconfig.Addresses{PrivateIPv4: "10.9.0.2", PublicIPv6: "2001:db8::2"}}
	for name, tt := range map[string]struct {
		data, metadata string
		want           cloudconfig.Metadata
		wrong          string
	}{
		"both":                {data: "d", metadata: full, want: known},
		"without user-data":   {metadata: full, want: known},
		"nothing in it":       {data: "d"},
		"not JSON":            {data: "d", metadata: "hostname: x", wrong: "parse the metadata"},
		"not an address":      {data: "d", metadata: `{"local-ipv4": "10.9.0"}`, wrong: "parse the metadata"},
		"a number for a name": {data: "d", metadata: `{"hostname": 5}`, wrong: "hostname"},
	} {
		t.Run(name, func(t *testing.T) {
			root := t.TempDir()
			write(t, root, FWCfg, tt.data)
			write(t, root, FWCfgMetadata, tt.metadata)
			found := Places{Root: root}.Find(t.Context())
			if len(found) != 1 {
				t.Fatalf("found %+v", found)
			}
			s := found[0]
			if diff := cmp.Diff(tt.want, s.Metadata); diff != "" || string(s.Data) != tt.data {
				t.Errorf("data %q, metadata (-want +got):\n%s", s.Data, diff)
			}
			if (s.Err != nil) != (tt.wrong != "") || s.Err != nil && !strings.Contains(s.Err.Error(), tt.wrong) {
				t.Errorf("error %v, want one with %q", s.Err, tt.wrong)
			}
		})
	}
}

func TestURL(t *testing.T) {
	tests := []struct{ line, want string }{
		{"quiet", ""},
		{"a cloud-config-url=http://x/1 b\n", "http://x/1"},
		{"cloud_config_url=http://x/1 cloud-config-url=http://x/2", "http://x/2"},
		{"cloud-config-url=", ""},
		{"cloud-config-url=http://x/?a=b", "http://x/?a=b"},
	}
	for _, tt := range tests {
		got, found := URL(tt.line)
		if got != tt.want || found != (tt.want != "") {
			t.Errorf("URL(%q) = %q, %v, want %q", tt.line, got, found, tt.want)
		}
	}
}

func TestBlockDevices(t *testing.T) {
	root := t.TempDir()
	for _, name := range []string{"vda/size", "vda1/partition", "sr0/size", "loop0/size", "dm-0/size", "cciss!c0d0/size"} {
		write(t, root, "/sys/class/block/"+name, "1")
	}
	var got []string
	for _, d := range BlockDevices(root) {
		got = append(got, strings.TrimPrefix(d, root))
	}
	if diff := cmp.Diff([]string{"/dev/cciss/c0d0", "/dev/sr0", "/dev/vda", "/dev/vda1"}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestDrives finds the disk that the platform made, with the labels that tools
// give and on the file systems that they use.
func TestDrives(t *testing.T) {
	folder := t.TempDir()
	write(t, folder, "user-data", "#cloud-config\n")
	write(t, folder, "meta-data", "local-hostname: boat\npublic-keys: [ssh-ed25519 A]\n")
	write(t, folder, "network-config", "version: 2\nethernets: {eth0: {addresses: [192.0.2.5/24]}}\n")
	run := func(name string, args ...string) {
		t.Helper()
		if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", name, err, out)
		}
	}
	images := t.TempDir()
	iso, fat, drive := images+"/iso", images+"/fat", images+"/drive"
	run("genisoimage", "-quiet", "-V", "cidata", "-J", "-r", "-o", iso, folder)
	run("/usr/sbin/mkfs.vfat", "-n", "CIDATA", "-C", fat, "1440")
	run("mcopy", "-i", fat, folder+"/user-data", folder+"/meta-data", folder+"/network-config", "::/")
	write(t, folder, "drive/openstack/latest/meta_data.json", `{"hostname":"nova"}`)
	run("genisoimage", "-quiet", "-V", "config-2", "-J", "-r", "-o", drive, folder+"/drive")
	find := func(devices ...string) []Source {
		return Places{Root: t.TempDir(), Devices: func() []string { return devices }}.Find(t.Context())
	}
	for _, image := range []string{iso, fat} {
		found := find(image)
		if len(found) != 1 || found[0].Err != nil || !found[0].IsPlatform || string(found[0].Data) != "#cloud-config\n" ||
			found[0].Metadata.Hostname != "boat" || len(found[0].Metadata.SSHKeys) != 1 || len(found[0].Network) != 1 {
			t.Errorf("%s: %+v", image, found)
		}
	}
	found := find(fat, drive)
	if len(found) != 1 || found[0].Metadata.Hostname != "nova" || len(found[0].Notes) != 1 || !strings.Contains(found[0].Notes[0], "the config drive wins") {
		t.Errorf("both: %+v", found)
	}
}
