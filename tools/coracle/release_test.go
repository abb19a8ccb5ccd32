package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/coracle-os/coracle/image/build"
	"github.com/coracle-os/coracle/image/manifest"
	"github.com/coracle-os/coracle/image/release"
	"github.com/coracle-os/coracle/image/uki"
	"github.com/coracle-os/coracle/image/verity"
	"github.com/coracle-os/coracle/rootfs/program"
)

type sink struct{}

func (sink) WriteAt(b []byte, _ int64) (int, error) { return len(b), nil }

// fakeBuild writes what coracle build writes, as far as a release needs it.
func fakeBuild(t *testing.T, version string) string {
	t.Helper()
	dir := t.TempDir()
	root := bytes.Repeat([]byte(version+"."), 100*4096)[:100*4096]
	hash, err := verity.Format(bytes.NewReader(root), int64(len(root)), sink{}, verity.Superblock{Salt: verity.Salt()})
	if err != nil {
		t.Fatal(err)
	}
	stub := make([]byte, 4096)
	copy(stub, "MZ")
	stub[0x3c] = 0x80
	pe := stub[0x80:]
	copy(pe, "PE\x00\x00\x64\x86")
	pe[20] = 112 + 16*8 // size of the optional header
	copy(pe[24:], "\x0b\x02")
	optional := pe[24:]
	optional[32+1], optional[36+1], optional[60+1] = 0x10, 0x02, 0x10 // alignments and size of headers
	optional[68], optional[108] = 10, 16
	efi, err := uki.Build(stub, uki.Section{Name: ".cmdline", Data: []byte("roothash=" + hex.EncodeToString(hash) + " quiet")},
		uki.Section{Name: ".linux", Data: []byte("kernel")})
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(efi)
	m, err := manifest.Manifest{
		Version: version, RootHash: hex.EncodeToString(hash), Results: []manifest.Result{{Name: build.UKIName, SHA256: hex.EncodeToString(sum[:])}},
	}.JSON()
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string][]byte{build.RootName: root, build.UKIName: efi, build.ManifestName: m, build.SBOMName: []byte("{}")} {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// The publisher's commands one after the other, in one repository.
func TestReleaseCommands(t *testing.T) {
	repo, keys, bundle := filepath.Join(t.TempDir(), "repo"), filepath.Join(t.TempDir(), "keys"), filepath.Join(t.TempDir(), "x.bundle")
	one, two, other, mixed := fakeBuild(t, "1.0.0"), fakeBuild(t, "1.1.0"), fakeBuild(t, "1.0.0"), fakeBuild(t, "1.2.0")
	if err := os.Rename(filepath.Join(fakeBuild(t, "1.3.0"), build.UKIName), filepath.Join(mixed, build.UKIName)); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		args string
		code int
		want string // in what is printed
	}{
		{"key", 2, "coracle key init"},
		{"key init -repo REPO", 2, "one -key-dir"},
		{"release -key-dir " + t.TempDir() + " -repo REPO -channel stable " + one, 1, "coracle key init"},
		{"key init -repo REPO -key-dir KEYS -root-keys 2 -root-threshold 3", 1, "threshold of 3 with 2 root keys"},
		{"key init -repo REPO -key-dir KEYS -root-keys 3 -root-threshold 2", 0, "1.root.json"},
		{"key init -repo REPO -key-dir KEYS", 1, "there is one"},
		{"release -key-dir KEYS -repo REPO " + one, 1, `channel ""`},
		{"release -key-dir KEYS -repo REPO -channel alpha nowhere", 1, "coracle build -o nowhere"},
		{"release -key-dir KEYS -repo REPO -channel alpha " + mixed, 1, "not the one that the manifest names"},
		{"release -key-dir KEYS -repo REPO -channel alpha -wave 10 " + one, 2, `step "10"`},
		{"release -key-dir KEYS -repo REPO -channel alpha -wave 10@0h,100@24h " + one, 0, "published 1.0.0"},
		{"release -key-dir KEYS -repo REPO -channel alpha " + other, 0, "channel alpha has 1.0.0"},
		{"release -key-dir KEYS -repo REPO -channel alpha " + two + " -min-version 1.0.0", 0, "published 1.1.0"},
		{"release -key-dir KEYS -repo REPO -channel alpha " + one, 1, "-downgrade"},
		{"release promote -key-dir KEYS -repo REPO -to beta", 2, "name a version"},
		{"release promote -key-dir KEYS -repo REPO -from alpha -to beta 1.1.0", 0, "channel beta has 1.1.0"},
		{"release promote -repo REPO -from alpha -to stable", 1, "0 of the 1 keys"},
		{"release refresh -key-dir KEYS -repo REPO", 0, "signed anew: timestamp\n"},
		{"key rotate -key-dir KEYS -repo REPO", 2, "name a role"},
		{"key rotate -key-dir KEYS -repo REPO timestamp", 0, "published root metadata 2"},
		{"key renew -repo REPO", 0, "wait for 2 more signatures"},
		{"key sign -key-dir KEYS -repo REPO", 0, "published root metadata 3"},
		{"release list -repo REPO", 0, "versions   1.0.0 1.1.0"},
		{"bundle -repo REPO -channel stable -o " + bundle, 1, `channels are ["alpha" "beta"]`},
		{"bundle -repo REPO -channel beta -o " + bundle, 0, "has 1.1.0"},
		{"bundle -repo REPO left over", 2, `unexpected argument "left"`},
	} {
		var out bytes.Buffer
		args := strings.Fields("coracle " + strings.NewReplacer("REPO", repo, "KEYS", keys).Replace(test.args))
		code := run(t.Context(), args, program.Stdio{Out: &out, Err: &out})
		if code != test.code || !strings.Contains(out.String(), test.want) {
			t.Fatalf("%s: code %d, want %d; output %q, want %q in it", test.args, code, test.code, out.String(), test.want)
		}
	}
	f, err := os.Open(bundle)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	b, err := release.OpenBundle(f, info.Size())
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"metadata/1.root.json", "metadata/3.root.json", "metadata/timestamp.json"} {
		if _, err := b.Open(name); err != nil {
			t.Error(err)
		}
	}
}
