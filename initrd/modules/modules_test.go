package modules

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

func TestMatch(t *testing.T) {
	tests := []struct {
		pattern, name string
		want          bool
	}{
		{"virtio:d00000002v*", "virtio:d00000002v00001AF4", true},
		{"virtio:d00000002v*", "virtio:d00000001v00001AF4", false},
		{"pci:v00001AF4d*sv*sd*bc*sc*i*", "pci:v00001AF4d00001001sv00001AF4sd00000002bc01sc00i00", true},
		{"pci:v*d*sv*sd*bc01sc06i01*", "pci:v00008086d00002922sv00001AF4sd00001100bc01sc06i01", true},
		{"pci:v*d*sv*sd*bc01sc06i01*", "pci:v00008086d00002922sv00001AF4sd00001100bc01sc07i01", false},
		{"scsi:t-0x00*", "scsi:t-0x00", true},
		{"acpi*:PNP0C0A:*", "acpi:PNP0C0A:", true},
		{"x:[0-3]b?", "x:2bz", true},
		{"x:[0-3]b?", "x:4bz", false},
		{"x:[ab", "x:[ab", true},
		{"of:N*T*Cfoo,bar/*", "of:NnT(null)Cfoo,bar/baz", true},
		{"*a*b", "xaxbxab", true},
		{"*a*b", "xaxbxac", false},
		{"", "", true}, {"", "a", false}, {"*", "", true}, {"**", "ab", true},
	}
	for _, test := range tests {
		if got := match(test.pattern, test.name); got != test.want {
			t.Errorf("match(%q, %q) = %v, want %v", test.pattern, test.name, got, test.want)
		}
	}
}

func FuzzMatch(f *testing.F) {
	f.Add("*a[b-d]*?", "xxac")
	f.Fuzz(func(t *testing.T, pattern, name string) {
		match(pattern, name)
		if !strings.ContainsAny(name, "*?[") && !match(name, name) {
			t.Errorf("%q does not match itself", name)
		}
		if !match("*", name) {
			t.Errorf("* does not match %q", name)
		}
	})
}

const aliasFile = `# Aliases extracted from modules themselves.
alias pci:v00001AF4d*sv*sd*bc*sc*i* virtio_pci
alias virtio:d00000002v* virtio_blk
alias virtio:d00000008v* virtio_scsi
alias fs-erofs erofs
alias scsi:t-0x00* sd_mod
alias pci:v00001AF4d00001001* other
`

func TestLoadFor(t *testing.T) {
	aliases, err := ParseAliases(strings.NewReader(aliasFile))
	if err != nil {
		t.Fatal(err)
	}
	bad := errors.New("bad module")
	var calls []string
	loader := &Loader{aliases: aliases, tried: map[string]bool{}, Async: true, probe: func(module, parameters string) error {
		calls = append(calls, module+" "+parameters)
		switch module {
		case "virtio_scsi":
			return bad
		case "sd_mod":
			return unix.ENODEV
		}
		return nil
	}}
	sys := t.TempDir()
	for device, alias := range map[string]string{
		"pci/devices/0000:00:01.0": "pci:v00001AF4d00001001sv00001AF4sd00000002bc01sc00i00\n",
		"pci/devices/0000:00:02.0": "pci:v00001AF4d00001002sv00001AF4sd00000002bc01sc00i00\n",
		"virtio/devices/virtio0":   "virtio:d00000002v00001AF4\n",
		"platform/devices/pcspkr":  "platform:pcspkr\n",
	} {
		directory := filepath.Join(sys, "bus", device)
		if err := os.MkdirAll(directory, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(directory, "modalias"), []byte(alias), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	loaded, err := loader.LoadForAll(sys)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"virtio_pci", "other", "virtio_blk"}
	if diff := cmp.Diff(want, loaded); diff != "" {
		t.Errorf("loaded (-want +got):\n%s", diff)
	}
	if _, err := loader.LoadFor("virtio:d00000008v1"); !errors.Is(err, bad) || !strings.Contains(err.Error(), `"virtio_scsi"`) {
		t.Errorf("got %v, want an error that names virtio_scsi", err)
	}
	if loaded, err := loader.LoadFor("scsi:t-0x00"); err != nil || loaded != nil {
		t.Errorf("driver without a device: got %v, %v; want nothing", loaded, err)
	}
	if err := loader.Load("erofs"); err != nil {
		t.Fatal(err)
	}
	wantCalls := []string{"virtio_pci async_probe", "other async_probe", "virtio_blk async_probe", "virtio_scsi async_probe", "sd_mod async_probe", "erofs "}
	if diff := cmp.Diff(wantCalls, calls); diff != "" {
		t.Errorf("calls, each once (-want +got):\n%s", diff)
	}
}

func TestNewWithoutModules(t *testing.T) {
	if _, err := New(t.TempDir()); err == nil || !strings.Contains(err.Error(), "same build") {
		t.Errorf("got %v, want an error that says what to do", err)
	}
}
