package build

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/coracle-os/coracle/image/efisign"
	"github.com/coracle-os/coracle/image/measure"
	"github.com/coracle-os/coracle/image/recipe"
	"github.com/coracle-os/coracle/image/secureboot"
	"github.com/coracle-os/coracle/image/step"
	"github.com/coracle-os/coracle/image/uki"
)

// TestSigning signs a UKI: what was signed fits what is in it, and the same
// inputs give the same bytes.
func TestSigning(t *testing.T) {
	base := t.TempDir()
	store := secureboot.Store{Dir: filepath.Join(base, "keys"), Now: time.Now, Valid: 48 * time.Hour}
	if err := store.Create(); err != nil {
		t.Fatal(err)
	}
	var notes []string
	newBuilder := func(at time.Time, keys string) *builder {
		return &builder{Options: Options{
			Recipe: &recipe.Recipe{SecureBoot: recipe.SecureBoot{Keys: keys}}, RecipeDir: base,
			Now: func() time.Time { return at }, Report: func(e step.Event) { notes = append(notes, e.Text) },
		}}
	}
	stub, err := os.ReadFile("/usr/lib/systemd/boot/efi/linuxx64.efi.stub")
	if err != nil {
		t.Fatal(err)
	}
	var programs [2][]byte
	for i := range programs {
		b := newBuilder(time.Now(), "keys")
		if err := b.readSigning(); err != nil {
			t.Fatal(err)
		}
		if programs[i], err = b.sign.uki(stub, []uki.Section{{Name: ".cmdline", Data: []byte("quiet")}, {Name: ".linux", Data: []byte("linux")}}); err != nil {
			t.Fatal(err)
		}
		if got := len(b.sign.files()); got != 6 || !strings.Contains(b.sign.loaderConf, "secure-boot-enroll if-safe\n") {
			t.Errorf("%d files for the ESP, want 3 updates and 3 certificates; loader.conf %q", got, b.sign.loaderConf)
		}
	}
	if !bytes.Equal(programs[0], programs[1]) {
		t.Error("signed twice, the bytes differ")
	}
	if _, err := efisign.Verify(bytes.NewReader(programs[0])); err != nil {
		t.Error(err)
	}
	if all := strings.Join(notes, " "); !strings.Contains(all, "expires in 1 days") {
		t.Errorf("notes %q, want one about the expiry", notes)
	}
	checkMeasurements(t, programs[0])

	for keys, want := range map[string]string{"keys": "has expired", "none": "coracle key secure-boot -dir"} {
		if err := newBuilder(time.Now().Add(72*time.Hour), keys).readSigning(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s, later: %v, want %q", keys, err, want)
		}
	}
	if b := newBuilder(time.Now(), ""); b.readSigning() != nil || b.sign.id != "" {
		t.Error("without keys something is signed")
	}
}

func checkMeasurements(t *testing.T, program []byte) {
	t.Helper()
	image, err := uki.Read(bytes.NewReader(program))
	if err != nil {
		t.Fatal(err)
	}
	value, err1 := measure.UKI(image)
	signature, err2 := image.Section(measure.SignatureSection)
	public, err3 := image.Section(measure.KeySection)
	signed, err4 := measure.ParseSignatures(signature)
	key, err5 := measure.ParseKey(public)
	for _, err := range []error{err1, err2, err3, err4, err5} {
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := signed.Check(value, key); err != nil {
		t.Error(err)
	}
}
