package inspect

import (
	"bytes"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/coracle-os/coracle/image/efisign"
	"github.com/coracle-os/coracle/image/secureboot"
)

func TestSignature(t *testing.T) {
	store := secureboot.Store{Dir: t.TempDir(), Now: time.Now, Valid: time.Hour}
	if err := store.Create(); err != nil {
		t.Fatal(err)
	}
	signer := must[efisign.Signer](t)(store.Signer("db"))
	stub := must[[]byte](t)(os.ReadFile("/usr/lib/systemd/boot/efi/linuxx64.efi.stub"))
	signed := must[[]byte](t)(signer.Sign(stub))
	flipped := bytes.Clone(signed)
	flipped[5000] ^= 1
	img := &Image{}
	for _, test := range []struct {
		program       []byte
		want, problem string
	}{
		{stub, "", ""},
		{signed, signer.Certificate.Subject.CommonName + ", valid until", ""},
		{flipped, "", "changed after it was signed"},
		{[]byte("no program"), "", "no EFI program"},
	} {
		img.Problems = nil
		got := img.signer("a.efi", bytes.NewReader(test.program))
		problems := strings.Join(img.Problems, "; ")
		if !strings.HasPrefix(got, test.want) || (got == "") != (test.want == "") || !strings.Contains(problems, test.problem) || (problems == "") != (test.problem == "") {
			t.Errorf("signer %q, problems %q; want %q, %q", got, problems, test.want, test.problem)
		}
	}
	for _, test := range []struct {
		img  Image
		want int
	}{
		{Image{Loaders: []Loader{{Path: "l"}}, UKIs: []UKI{{Path: "u"}}}, 0},
		{Image{Loaders: []Loader{{"l", "x"}}, UKIs: []UKI{{Path: "u", Signature: "x"}}}, 0},
		{Image{Loaders: []Loader{{"l", "x"}}, UKIs: []UKI{{Path: "u"}}}, 1},
		{Image{Loaders: []Loader{{Path: "l"}}, UKIs: []UKI{{Path: "u", Signature: "x"}}, Enrol: []string{"db"}}, 1},
	} {
		if test.img.checkSignatures(); len(test.img.Problems) != test.want {
			t.Errorf("problems %q, want %d", test.img.Problems, test.want)
		}
	}
}
