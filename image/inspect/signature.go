package inspect

import (
	"encoding/hex"
	"errors"
	"io"
	"path"
	"strings"
	"time"

	"github.com/coracle-os/coracle/image/efisign"
	"github.com/coracle-os/coracle/image/esp"
	"github.com/coracle-os/coracle/image/measure"
	"github.com/coracle-os/coracle/image/uki"
)

// readLoader notes the file if it is a boot loader or a key to enrol.
func (img *Image) readLoader(volume *esp.Volume, f esp.File) {
	dir, ext := strings.ToLower(path.Dir(f.Path)), strings.ToLower(path.Ext(f.Path))
	switch {
	case f.Dir:
	case dir == "loader/keys/auto" && ext == ".auth":
		img.Enrol = append(img.Enrol, strings.TrimSuffix(path.Base(f.Path), path.Ext(f.Path)))
	case ext == ".efi" && (dir == "efi/boot" || dir == "efi/systemd"):
		img.Loaders = append(img.Loaders, Loader{f.Path, img.signature(volume, f)})
	}
}

// signature returns the signer of a program, "" when there is none. One that
// does not fit is a problem.
func (img *Image) signature(volume *esp.Volume, f esp.File) string {
	r, err := volume.OpenFile(f)
	if err == nil {
		return img.signer(f.Path, r)
	}
	img.problem("%s: %v; write the image anew", f.Path, err)
	return ""
}

func (img *Image) signer(name string, r io.ReaderAt) string {
	certificate, err := efisign.Verify(r)
	if errors.Is(err, efisign.ErrUnsigned) {
		return ""
	}
	if err != nil {
		img.problem("%s: %v; a firmware with Secure Boot refuses it", name, err)
		return ""
	}
	return certificate.Subject.CommonName + ", valid until " + certificate.NotAfter.Format(time.DateOnly)
}

// measure notes what a TPM measures of a UKI. A signature that does not fit is a
// problem.
func (img *Image) measure(volume *esp.Volume, f esp.File, u *UKI) {
	r, err := volume.OpenFile(f)
	if err != nil {
		return // readUKI has said so
	}
	image, err := uki.Read(r)
	if err != nil {
		return
	}
	value, err := measure.UKI(image)
	if err != nil {
		img.problem("%s: %v; write the image anew", f.Path, err)
		return
	}
	running := value.Running()
	u.PCR11 = hex.EncodeToString(running[:])
	text, err := optionalText(image, measure.SignatureSection)
	if err != nil || text == "" {
		return
	}
	public, err := optionalText(image, measure.KeySection)
	if err == nil {
		err = checkMeasured(value, text, public)
	}
	if err != nil {
		img.problem("%s: section %s: %v; a secret that is sealed to the signer does not open under it", f.Path, measure.SignatureSection, err)
	}
	u.PCR11Signed = err == nil
}

func checkMeasured(value measure.Value, signatures, public string) error {
	signed, err := measure.ParseSignatures([]byte(signatures))
	if err != nil {
		return err
	}
	key, err := measure.ParseKey([]byte(public))
	if err != nil {
		return err
	}
	return signed.Check(value, key)
}

// checkSignatures reports an ESP of which only a part is signed.
func (img *Image) checkSignatures() {
	signed := len(img.Enrol) > 0
	for _, l := range img.Loaders {
		signed = signed || l.Signature != ""
	}
	if !signed {
		return
	}
	for _, l := range img.Loaders {
		if l.Signature == "" {
			img.problem("%s is not signed: with Secure Boot the firmware refuses it", l.Path)
		}
	}
	for _, u := range img.UKIs {
		if u.Signature == "" {
			img.problem("%s is not signed: with Secure Boot the firmware refuses it", u.Path)
		}
	}
}

func signatureText(signature string) string {
	if signature == "" {
		return "not signed for Secure Boot"
	}
	return "signed by " + signature
}
