package measure_test

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"encoding/hex"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/coracle-os/coracle/image/measure"
	"github.com/coracle-os/coracle/image/uki"
)

// TestUKI compares with systemd-measure of Debian.
func TestUKI(t *testing.T) {
	const tool = "/usr/lib/systemd/systemd-measure"
	dir := t.TempDir()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	public, err := measure.PublicKey(key)
	if err != nil {
		t.Fatal(err)
	}
	write := func(name string, content []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	stub, err := os.ReadFile("/usr/lib/systemd/boot/efi/linuxx64.efi.stub")
	if err != nil {
		t.Fatal(err)
	}
	sections := []uki.Section{
		{Name: ".osrel", Data: []byte("ID=coracle\n")}, {Name: ".cmdline", Data: []byte("roothash=1 quiet")},
		{Name: ".linux", Data: bytes.Repeat([]byte("linux"), 9999)}, {Name: ".initrd", Data: bytes.Repeat([]byte("initrd"), 999)}, {Name: ".pcrpkey", Data: public},
	}
	program, err := uki.Build(stub, sections...)
	if err != nil {
		t.Fatal(err)
	}
	image, err := uki.Read(bytes.NewReader(program))
	if err != nil {
		t.Fatal(err)
	}
	// systemd 252 does not know the stub's own section.
	image.Sections = slices.DeleteFunc(image.Sections, func(s uki.SectionInfo) bool { return s.Name == ".sbat" })
	value, err := measure.UKI(image)
	if err != nil {
		t.Fatal(err)
	}
	args := []string{"--bank=sha256", "--phase=enter-initrd", "--json=short"}
	for _, s := range sections {
		args = append(args, "--"+s.Name[1:]+"="+write(s.Name, s.Data))
	}
	ask := func(verb string) []byte {
		command := exec.Command(tool, append([]string{verb}, args...)...)
		var problem strings.Builder
		command.Stderr = &problem
		out, err := command.Output()
		if err != nil {
			t.Fatalf("systemd-measure %s: %v: %s", verb, err, problem.String())
		}
		return out
	}
	var theirs map[string][]struct{ Hash string }
	if err := json.Unmarshal(ask("calculate"), &theirs); err != nil {
		t.Fatal(err)
	}
	extended := value.Stage1()
	if got := hex.EncodeToString(extended[:]); len(theirs["sha256"]) != 1 || got != theirs["sha256"][0].Hash {
		t.Errorf("PCR 11 is %s, systemd-measure says %v", got, theirs)
	}
	got, err := measure.Sign(value, key) // a TPM judges it in the tests of initrd/tpm
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := measure.ParseKey(public)
	if err != nil || got.Check(value, parsed) != nil {
		t.Errorf("our own signature does not hold: %v", err)
	}
	if got.Check(value.Extend(nil), parsed) == nil {
		t.Error("the signature holds for another UKI")
	}
}
