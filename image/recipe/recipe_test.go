package recipe

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/coracle-os/coracle/image/recipe/strict"
)

func TestDefaultRecipeIsValid(t *testing.T) {
	r, err := ReadFile("")
	if err != nil {
		t.Fatal(err)
	}
	if r.Version == "" || len(r.Components) == 0 {
		t.Errorf("got a recipe without version or components: %+v", r)
	}
}

// edit returns the default recipe with one piece of text replaced.
func edit(t *testing.T, old, replacement string) []byte {
	t.Helper()
	if !strings.Contains(string(defaultText), old) {
		t.Fatalf("the default recipe has no %q", old)
	}
	return []byte(strings.Replace(string(defaultText), old, replacement, 1))
}

func TestFaults(t *testing.T) {
	for _, test := range []struct{ name, old, replacement, want string }{
		{"other format", "recipe: 1", "recipe: 2", "reads recipes of format 1, not 2"},
		{"no version", "version: 0.1.0\n", "", "version: got \"\""},
		{"number for version", "version: 0.1.0", "version: 0.1", "version: want text (in quotes, if it looks like something else), got the number 0.1"},
		{"misspelt key", "channel: dev", "chanel: dev", `unknown key; did you mean "channel"?`},
		{"no size", "esp: 512 MiB", "esp: big", `"big" is no size`},
		{"small ESP", "esp: 512 MiB", "esp: 32 MiB", "32 MiB is too small"},
		{"unaligned root", "root: 1 GiB", "root: 1000001 KiB", "not a whole number of MiB"},
		{"small verity", "verity: 16 MiB", "verity: 8 MiB", "8 MiB cannot hold the hash tree of a root of 1 GiB, want at least 9 MiB"},
		{"missing size", "  oem: 64 MiB\n", "", "partitions.oem: the size is missing"},
		{"huge disk", "root: 1 GiB", "root: 3000 GiB", "is too much"},
		{"unknown suite", "suite: forky", "suite: potato", `"potato" is not one of the recipe's suites (trixie, forky)`},
		{"roothash", "console=tty0", "roothash=12", "the builder sets roothash itself"},
		{"argument with space", "console=tty0", `"console=tty0 quiet"`, "is not one argument"},
		{"absolute path", "path: usr/bin/docker\n", "path: /usr/bin/docker\n", "is no path in the root"},
		{"same path twice", "path: usr/bin/docker\n", "path: usr/bin/dockerd\n", "another component is installed at"},
		{"no stage 1", "initrd: true", "initrd: false", "want one with initrd: true and path: init"},
		{"bad mode", "mode: 04755", "mode: 999", `"999" is no file mode`},
		{"bad pattern", "usr/bin/sed", `"usr/bin/["`, "is no pattern"},
		{"list for text", "channel: dev", "channel: [dev]", "channel: want text (in quotes, if it looks like something else), got a list"},
		{"text for list", "base: [rootfs/base]", "base: rootfs/base", `base: want a list, got "rootfs/base"`},
		{"unit name", "units: []", "units: [{name: hello, content: x}]", "want the name of a unit"},
		{"encrypted how", "units: []", "secure-boot: {keys: k, encrypt: luks}", `secure-boot.encrypt: got "luks", want tpm2`},
		{"encrypted for nobody", "units: []", "secure-boot: {encrypt: tpm2}", "secure-boot.encrypt: want secure-boot.keys too"},
		{"empty unit", "units: []", "units: [{name: hello.service}]", "want content, source or enable: true"},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := Parse(edit(t, test.old, test.replacement))
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("error = %v\nwant one with %q", err, test.want)
			}
		})
	}
}

func TestAllFaultsAreReportedWithTheirPlace(t *testing.T) {
	text := `recipe: 1
version: next
channel: dev
suites: [{name: trixie}]
kernel: {package: linux-image-cloud-amd64, sute: forky}
boot: {package: systemd-boot-efi, suite: sid}
components:
  - {name: stage1, package: ./initrd/init, initrd: yes please, path: init}
partitions:
  esp: 512 MiB
  root: 1 GiB
  verity: 16 MiB
  oem: 64 MiB
  state: 1
`
	_, err := Parse([]byte(text))
	var faults strict.Faults
	if !errors.As(err, &faults) {
		t.Fatalf("error = %v, want strict.Faults", err)
	}
	var got []string
	for _, fault := range faults {
		got = append(got, fault.Error())
	}
	want := []string{
		`2:10: version: got "next", want numbers with dots, such as 1.2.0`,
		`5:44: kernel.sute: unknown key; did you mean "suite"?`,
		`6:42: boot.suite: "sid" is not one of the recipe's suites (trixie)`,
		`8:3: components: want one with initrd: true and path: init, the kernel's first program`,
		`8:52: components[0].initrd: want true or false, got "yes please"`,
		`14:10: partitions.state: "1" is no size; write a whole number with KiB, MiB or GiB, such as 512 MiB`,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("faults (-want +got):\n%s", diff)
	}
}

func TestReadFileNamesTheFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "r.yaml")
	if err := os.WriteFile(path, []byte("recipe: 1\n\tversion: 2\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	_, err := ReadFile(path)
	if err == nil || !strings.HasPrefix(err.Error(), path+":2:") {
		t.Errorf("error = %v, want one that starts with %s:2:", err, path)
	}
	if _, err := ReadFile(path + ".missing"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("error = %v, want os.ErrNotExist", err)
	}
}

func TestSize(t *testing.T) {
	for text, want := range map[string]Size{"1 MiB": MiB, "512MiB": 512 * MiB, "2 GiB": 2 * GiB, "8 KiB": 8 * KiB} {
		var s Size
		if err := s.UnmarshalText([]byte(text)); err != nil || s != want {
			t.Errorf("%q = %v, %v; want %v", text, s, err, want)
		}
	}
	for _, text := range []string{"", "5", "-1 MiB", "0 MiB", "1.5 GiB", "1 MB", "1 MiB or so", "99999999999 GiB"} {
		var s Size
		if err := s.UnmarshalText([]byte(text)); err == nil {
			t.Errorf("%q = %v, want an error", text, s)
		}
	}
}

// FuzzParse makes sure that no text makes the reader panic or accept something
// without a place for its faults.
func FuzzParse(f *testing.F) {
	f.Add(string(defaultText))
	f.Add("recipe: 1\nsuites: [{name: &a x, with: *a}]")
	f.Add("<<: {recipe: 1}")
	f.Add("- 1\n- 2")
	f.Fuzz(func(t *testing.T, text string) {
		r, err := Parse([]byte(text))
		if (r == nil) == (err == nil) {
			t.Errorf("Parse = %v, %v", r, err)
		}
	})
}
