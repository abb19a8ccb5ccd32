package release

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/coracle-os/coracle/image/uki"
)

// fakeUKI is a UKI of a made-up stub, with sections that cannot be mistaken for
// each other.
func fakeUKI(t testing.TB, cmdline string) []byte {
	t.Helper()
	stub := make([]byte, 4096)
	copy(stub, "MZ")
	stub[0x3c] = 0x80
	pe := stub[0x80:]
	copy(pe, "PE\x00\x00\x64\x86") // no sections
	pe[20] = 112 + 16*8            // size of the optional header
	copy(pe[24:], "\x0b\x02")
	optional := pe[24:]
	optional[32+1] = 0x10 // section alignment 4096
	optional[36+1] = 0x02 // file alignment 512
	optional[60+1] = 0x10 // headers of 4096 bytes
	optional[68] = 10     // EFI application
	optional[108] = 16    // data directories
	image, err := uki.Build(stub, uki.Section{Name: ".cmdline", Data: []byte(cmdline)},
		uki.Section{Name: ".linux", Data: noise(500_000, 1)}, uki.Section{Name: ".initrd", Data: noise(700_001, 2)})
	if err != nil {
		t.Fatal(err)
	}
	return image
}

func noise(n int, seed byte) []byte {
	b := make([]byte, n)
	state := uint32(seed) + 1
	for i := range b {
		state = state*1664525 + 1013904223
		b[i] = byte(state >> 24)
	}
	return b
}

// sort -V is no oracle for everything: it puts 1.2.0-rc1 after 1.2.0 as
// systemd-boot does, and is asked about numbers.
func TestCompareVersions(t *testing.T) {
	ordered := []string{"0", "0.1.0", "0.1.1", "0.2", "0.9.10", "0.10", "0.10-a", "0.10-b", "0.10-b2", "0.10-b10", "0.10.0", "0.10.1", "1", "1-rc1", "1-rc1.1", "1-rc2", "1.0", "10"}
	for i, a := range ordered {
		for j, b := range ordered {
			want := min(1, max(-1, i-j))
			if got := CompareVersions(a, b); got != want {
				t.Errorf("CompareVersions(%q, %q) = %d, want %d", a, b, got, want)
			}
		}
	}
	if CompareVersions("1.02", "1.2") != 0 || CompareVersions("1.2", "01.002") != 0 {
		t.Error("leading zeros count")
	}
}

// systemd-analyze compares as systemd-boot does.
func TestCompareVersionsAsSystemd(t *testing.T) {
	analyze, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Log("no systemd-analyze on this machine; the order above stands alone")
		return
	}
	versions := []string{"1.2.0", "1.2.0-rc1", "1.2", "1.10", "1.2.0-rc10", "1.2.0.1", "2", "1.2.0-rc2.1", "1.2.1-a", "0.9"}
	for _, a := range versions {
		for _, b := range versions {
			out, err := exec.Command(analyze, "compare-versions", a, b).Output()
			if exit, ok := err.(*exec.ExitError); err != nil && (!ok || exit.ExitCode() < 0) {
				t.Fatal(err)
			}
			want := slices.Index([]string{"<", "==", ">"}, strings.Fields(string(out))[1]) - 1
			if got := CompareVersions(a, b); got != want {
				t.Errorf("CompareVersions(%q, %q) = %d, systemd says %s", a, b, got, out)
			}
		}
	}
}

func FuzzCompareVersions(f *testing.F) {
	f.Add("1.2.0", "1.2.0-rc1", "1.10")
	f.Add("", ".", "-")
	f.Add("1..2", "1.-2", "x")
	f.Fuzz(func(t *testing.T, a, b, c string) {
		if CompareVersions(a, b) != -CompareVersions(b, a) || CompareVersions(a, a) != 0 {
			t.Fatalf("%q and %q have no order", a, b)
		}
		if CheckVersion(a) == nil && CheckVersion(b) == nil && CheckVersion(c) == nil &&
			CompareVersions(a, b) <= 0 && CompareVersions(b, c) <= 0 && CompareVersions(a, c) > 0 {
			t.Fatalf("%q <= %q <= %q, but not the first and the last", a, b, c)
		}
	})
}

func TestWave(t *testing.T) {
	wave := Wave{{Percent: 10}, {After: Duration(24 * time.Hour), Percent: 50}, {After: Duration(72 * time.Hour), Percent: 100}}
	for since, want := range map[time.Duration]int{-time.Hour: 0, 0: 10, 23 * time.Hour: 10, 24 * time.Hour: 50, 1000 * time.Hour: 100} {
		if got := wave.Percent(since); got != want {
			t.Errorf("after %v: %d percent, want %d", since, got, want)
		}
	}
	if got := Wave(nil).Percent(-time.Hour); got != 100 {
		t.Errorf("no wave: %d percent", got)
	}
}

func TestChannelText(t *testing.T) {
	c := &Channel{
		Version: "1.2.0", RootHash: strings.Repeat("0f", 32), Published: time.Unix(1_700_000_000, 0).UTC(),
		Wave: Wave{{After: Duration(24 * time.Hour), Percent: 10}},
	}
	b, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains(b, []byte(`"after":"24h0m0s"`)) {
		t.Errorf("got %s", b)
	}
	got, err := ParseChannel(b)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(c, got); diff != "" {
		t.Error(diff)
	}
	for text, want := range map[string]string{
		``: "EOF", `[]`: "cannot unmarshal", `{}`: `version ""`, string(b) + `{}`: "more than one value",
		`{"version":"1","rootHash":"00"}`:                                                "want 64 hex digits",
		`{"version":"../1","rootHash":"` + c.RootHash + `"}`:                             `version "../1"`,
		`{"version":"1","rootHash":"` + c.RootHash + `","wave":[{"percent":101}]}`:       "101 percent",
		`{"version":"1","rootHash":"` + c.RootHash + `","wave":[{"after":"yesterday"}]}`: "invalid duration",
	} {
		if _, err := ParseChannel([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want an error with %q", text, err, want)
		}
	}
}

func FuzzParseIndex(f *testing.F) {
	x, _ := write(f, sample(40), fakeUKI(f, "roothash=1"))
	f.Add(must(x.MarshalBinary()))
	small, _ := write(f, sample(1), nil)
	f.Add(must(small.MarshalBinary()))
	patched, _, _ := writePatched(f)
	f.Add(must(patched.MarshalBinary()))
	f.Add([]byte(magic))
	f.Fuzz(func(t *testing.T, b []byte) {
		x, err := ParseIndex(b)
		if err != nil {
			return
		}
		again, err := x.MarshalBinary()
		if err != nil || !bytes.Equal(again, b) {
			t.Fatalf("written again it differs: %v", err)
		}
		for i := range x.Root {
			if r := x.Root[i].Range(); r.Offset < 0 || r.End() > x.BlobSize() {
				t.Fatalf("chunk %d is outside the blob: %+v", i, r)
			}
		}
		for _, p := range x.UKI {
			if p.Range().End() > x.BlobSize() || p.At+p.Size > x.UKISize {
				t.Fatalf("piece outside: %+v", p)
			}
		}
		for _, base := range x.Bases {
			last := -1
			for _, p := range base.Patches {
				if p.Chunk <= last || p.Chunk >= len(x.Root) || p.Length < 1 || p.Length > x.Root[p.Chunk].Length || p.Blocks*BlockSize > MaxDictionary ||
					p.Offset < x.treeStart() || p.Range().End() > x.BlobSize() {
					t.Fatalf("patch outside: %+v", p)
				}
				last = p.Chunk
			}
		}
	})
}

func FuzzParseInfo(f *testing.F) {
	f.Add([]byte(`{"version":"1.0","rootHash":"` + strings.Repeat("0f", 32) + `","dataBlocks":10,"treeBlocks":1,"sizes":{"root":40960},"wave":[{"after":"1h","percent":5}]}`))
	f.Add([]byte(`{"version":"1.0","published":"2026-01-01T00:00:00Z"}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		if i, err := ParseInfo(b); err == nil && (i.DataBlocks < 1 || i.DataBlocks > MaxDataBlocks || CheckVersion(i.Version) != nil) {
			t.Fatalf("accepted %+v", i)
		}
		if c, err := ParseChannel(b); err == nil && CheckVersion(c.Version) != nil {
			t.Fatalf("accepted %+v", c)
		}
	})
}

func TestBundle(t *testing.T) {
	files := map[string]string{"metadata/timestamp.json": "{}", "targets/1.0/x.image.blob": strings.Repeat("blob", 3000), "channels/stable.json": ""}
	names := []string{"metadata/timestamp.json", "channels/stable.json", "targets/1.0/x.image.blob"}
	pack := func() []byte {
		var list []BundleFile
		for _, n := range names {
			list = append(list, BundleFile{n, int64(len(files[n])), strings.NewReader(files[n])})
		}
		var out bytes.Buffer
		if err := WriteBundle(&out, list); err != nil {
			t.Fatal(err)
		}
		return out.Bytes()
	}
	b := pack()
	if !bytes.Equal(b, pack()) {
		t.Error("two bundles of the same files differ")
	}
	bundle, err := OpenBundle(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range files {
		r, err := bundle.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		got := make([]byte, r.Size())
		if _, err := r.ReadAt(got, 0); len(got) > 0 && err != nil || string(got) != want {
			t.Errorf("%s: %d bytes, want %d: %v", name, len(got), len(want), err)
		}
	}
	if len(bundle.Names()) != len(files) {
		t.Errorf("names %q", bundle.Names())
	}
	for _, name := range []string{"none", bundleMagic} {
		if _, err := bundle.Open(name); err == nil {
			t.Errorf("%s can be opened", name)
		}
	}
	for n := 0; n < len(b)-2*512-12000; n += 511 {
		if _, err := OpenBundle(bytes.NewReader(b[:n]), int64(n)); err == nil {
			t.Errorf("a bundle of %d of %d bytes is accepted", n, len(b))
		}
	}
	if err := WriteBundle(&bytes.Buffer{}, []BundleFile{{"../etc/passwd", 0, strings.NewReader("")}}); err == nil {
		t.Error("a name outside is accepted")
	}
	if err := WriteBundle(&bytes.Buffer{}, []BundleFile{{"short", 5, strings.NewReader("1")}}); err == nil {
		t.Error("a short file is accepted")
	}
	name := t.TempDir() + "/b"
	if err := os.WriteFile(name, b, 0o644); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("tar", "-tf", name).CombinedOutput(); err != nil || !strings.Contains(string(out), "channels/stable.json") {
		t.Errorf("tar -t: %v: %s", err, out)
	}
}

func FuzzOpenBundle(f *testing.F) {
	var out bytes.Buffer
	if err := WriteBundle(&out, []BundleFile{{"metadata/1.root.json", 2, strings.NewReader("{}")}}); err != nil {
		f.Fatal(err)
	}
	f.Add(out.Bytes())
	f.Add([]byte("coracle-bundle"))
	f.Fuzz(func(t *testing.T, b []byte) {
		bundle, err := OpenBundle(bytes.NewReader(b), int64(len(b)))
		if err != nil {
			return
		}
		for _, name := range bundle.Names() {
			r, err := bundle.Open(name)
			if err != nil || r.Size() > int64(len(b)) {
				t.Fatalf("%q: %v", name, err)
			}
		}
	})
}
