package password

import (
	"errors"
	"os/exec"
	"strings"
	"testing"
)

func TestCheck(t *testing.T) {
	// $5$, $6$: the examples of the SHA-crypt specification; $y$ and $2b$:
	// made by libxcrypt.
	tests := []struct {
		name, hash, password string
		want                 bool
		err                  error
	}{
		{"sha512", "$6$saltstring$svn8UoSVapNtMuq1ukKS4tPQd8iKwSMHWjl/O817G3uBnIFNjnQJuesI68u4OTLiBFdcbYEdFCoEOfaS35inz1", "Hello world!", true, nil},
		{"sha512 rounds", "$6$rounds=10000$saltstringsaltst$OW1/O6BYHV6BcXZu8QVeXbDWra3Oeqh0sbHbbMCVNSnCM/UrjmM0Dp8vOuZeHBy/YTBmSK6H9qs/y3RnOaw5v.", "Hello world!", true, nil},
		{"sha256", "$5$saltstring$5B8vYYiY.CVt1RlTTf8KbXBH3hsxY/GNooZaBBGWEc5", "Hello world!", true, nil},
		{"wrong", "$5$saltstring$5B8vYYiY.CVt1RlTTf8KbXBH3hsxY/GNooZaBBGWEc5", "Hello world", false, nil},
		{"locked", "*", "x", false, nil},
		{"locked hash", "!$5$saltstring$5B8vYYiY.CVt1RlTTf8KbXBH3hsxY/GNooZaBBGWEc5", "Hello world!", false, nil},
		{"no password needed", "", "", false, nil},
		{"empty password", "$5$saltstring$5B8vYYiY.CVt1RlTTf8KbXBH3hsxY/GNooZaBBGWEc5", "", false, nil},
		{"too long", "$5$saltstring$5B8vYYiY.CVt1RlTTf8KbXBH3hsxY/GNooZaBBGWEc5", strings.Repeat("x", 1000), false, nil},
		{"des", "abJnggxhB/yWI", "x", false, ErrUnsupported},
		{"md5", "$1$salt$UsdFqFVB.FsuinRDK5eE..", "x", false, ErrUnsupported},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got, err := Check(test.hash, test.password)
			if test.err == nil && err != nil && test.want {
				t.Fatal(err)
			}
			if test.err != nil && !errors.Is(err, test.err) {
				t.Fatalf("err = %v, want %v", err, test.err)
			}
			if got != test.want {
				t.Errorf("Check = %v, want %v", got, test.want)
			}
		})
	}
}

// TestAgainstLibxcrypt compares with the C library's own crypt(3), by Perl.
func TestAgainstLibxcrypt(t *testing.T) {
	perl, err := exec.LookPath("perl")
	if err != nil {
		t.Fatalf("the test needs perl (Debian package perl-base): %v", err)
	}
	for _, setting := range []string{"$y$j9T$F5Jx5fExrKuPp53xLKQ..1", "$6$abcdefgh", "$6$rounds=1000$abc", "$5$xyz", "$2b$05$abcdefghijklmnopqrstuu"} {
		for _, password := range []string{"a", "correct horse", "pässword", strings.Repeat("long", 17)} {
			out, err := exec.Command(perl, "-e", "print crypt($ARGV[0], $ARGV[1])", password, setting).Output()
			if err != nil {
				t.Fatal(err)
			}
			hash := string(out)
			if ok, err := Check(hash, password); !ok || err != nil {
				t.Errorf("Check(%q, %q) = %v, %v; want true", hash, password, ok, err)
			}
			if ok, _ := Check(hash, password+"x"); ok && len(password) < 72 {
				t.Errorf("Check(%q, %q) = true", hash, password+"x")
			}
		}
	}
}
