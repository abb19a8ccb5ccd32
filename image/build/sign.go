package build

import (
	"bytes"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/coracle-os/coracle/image/efisign"
	"github.com/coracle-os/coracle/image/measure"
	"github.com/coracle-os/coracle/image/secureboot"
	"github.com/coracle-os/coracle/image/step"
	"github.com/coracle-os/coracle/image/tree"
	"github.com/coracle-os/coracle/image/uki"
)

// signing is how EFI programs are signed for Secure Boot; the zero value leaves
// them as they are.
type signing struct {
	signer *efisign.Signer
	// measurements signs what a TPM measures of a UKI.
	measurements *rsa.PrivateKey
	id           string // of certificate and updates, for keys of steps
	updates      []tree.Entry
	loaderConf   string // more lines
}

// readSigning reads what the recipe names: key and certificate of db, and the
// updates of the variables.
func (b *builder) readSigning() error {
	dir := b.Recipe.SecureBoot.Keys
	if dir == "" {
		return nil
	}
	if !filepath.IsAbs(dir) {
		dir = filepath.Join(b.RecipeDir, dir)
	}
	store := secureboot.Store{Dir: dir}
	signer, err := store.Signer("db")
	if err != nil {
		return fmt.Errorf("%w; coracle key secure-boot -dir %s makes keys", err, dir)
	}
	if err := signer.CheckTime(b.Now()); err != nil {
		return fmt.Errorf("sign the release: %w", err)
	}
	if left := signer.Certificate.NotAfter.Sub(b.Now()); left < secureboot.Soon {
		b.report(step.Event{Name: "uki", State: step.Note, Text: fmt.Sprintf(
			"the Secure Boot certificate expires in %d days: coracle key secure-boot -rotate db", left/(24*time.Hour))})
	}
	b.sign.signer = &signer
	if b.sign.measurements, err = store.MeasurementKey(); err != nil {
		return fmt.Errorf("key for measurements: %w", err)
	}
	public, err := measure.PublicKey(b.sign.measurements)
	if err != nil {
		return err
	}
	key := step.NewKey("signing", string(signer.Certificate.Raw), string(public))
	enroll := b.Recipe.SecureBoot.Enroll
	if enroll == "" {
		enroll = "if-safe"
	}
	b.sign.loaderConf = "secure-boot-enroll " + enroll + "\nsecure-boot-enroll-timeout-sec 5\n"
	for _, name := range secureboot.Variables() {
		// systemd-boot takes NAME.auth, the menus of firmware often only NAME.cer.
		for place, file := range []string{name + ".auth", name + ".cer"} {
			content, err := os.ReadFile(filepath.Join(dir, file))
			if errors.Is(err, fs.ErrNotExist) && (name == "dbx" || place == 1) {
				continue
			}
			if err != nil {
				return fmt.Errorf("keys to enrol: %w", err)
			}
			path := [...]string{"loader/keys/auto/", "EFI/coracle/"}[place] + file
			b.sign.updates = append(b.sign.updates, tree.File(path, 0o644, content))
			key.Add(path, string(content))
		}
	}
	b.sign.id = key.Sum()
	return nil
}

// uki builds a UKI with the measurements that its stub will make, signed, and
// signs the whole.
func (s signing) uki(stub []byte, sections []uki.Section) ([]byte, error) {
	if s.signer == nil {
		return uki.Build(stub, sections...)
	}
	public, err := measure.PublicKey(s.measurements)
	if err != nil {
		return nil, err
	}
	sections = append(sections, uki.Section{Name: measure.KeySection, Data: public})
	program, err := uki.Build(stub, sections...)
	if err != nil {
		return nil, err
	}
	image, err := uki.Read(bytes.NewReader(program))
	if err != nil {
		return nil, err
	}
	value, err := measure.UKI(image)
	if err != nil {
		return nil, err
	}
	signed, err := measure.Sign(value, s.measurements)
	if err != nil {
		return nil, err
	}
	text, err := json.Marshal(signed)
	if err != nil {
		return nil, err
	}
	if program, err = uki.Build(stub, append(sections, uki.Section{Name: measure.SignatureSection, Data: text})...); err != nil {
		return nil, err
	}
	return s.signer.Sign(program)
}

// program signs an EFI program.
func (s signing) program(program []byte) ([]byte, error) {
	if s.signer == nil {
		return program, nil
	}
	return s.signer.Sign(program)
}

// files are the updates on the ESP.
func (s signing) files() []tree.Entry { return append([]tree.Entry(nil), s.updates...) }
