package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/coracle-os/coracle/image/efisign"
	"github.com/coracle-os/coracle/image/secureboot"
	"github.com/coracle-os/coracle/rootfs/program"
)

func TestCommandLine(t *testing.T) {
	dir := t.TempDir()
	recipe := filepath.Join(dir, "recipe.yaml")
	if err := os.WriteFile(recipe, []byte("recipe: 1\nchanel: dev\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	empty := filepath.Join(dir, "empty.raw")
	if err := os.WriteFile(empty, make([]byte, 1<<20), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name string
		args []string
		code int
		want string // in what is printed
	}{
		{"nothing", nil, 2, "Usage: coracle COMMAND"},
		{"help", []string{"help"}, 0, "inspect"},
		{"unknown command", []string{"biuld"}, 2, `no command "biuld"`},
		{"unknown flag", []string{"build", "-x"}, 2, "-recipe"},
		{"help of a command", []string{"build", "-h"}, 0, "-recipe"},
		{"left over", []string{"build", "now"}, 2, `unexpected argument "now"`},
		{"bad recipe", []string{"build", "-recipe", recipe}, 1, recipe + `:2:1: chanel: unknown key; did you mean "channel"?`},
		{"encrypted for nobody", []string{"build", "-encrypt"}, 1, "wants -secure-boot too"},
		{"no recipe", []string{"build", "-recipe", recipe + "x"}, 1, "read recipe"},
		{"not the sources", []string{"build", "-source", dir, "-o", dir}, 1, "name it with -source"},
		{"no image", []string{"inspect", filepath.Join(dir, "none")}, 1, "open image"},
		{"empty image", []string{"verify", empty}, 1, empty},
		{"two images", []string{"verify", empty, empty}, 2, "want one image, got 2"},
	} {
		t.Run(test.name, func(t *testing.T) {
			var out bytes.Buffer
			code := run(t.Context(), append([]string{"coracle"}, test.args...), program.Stdio{Out: &out, Err: &out})
			if code != test.code || !strings.Contains(out.String(), test.want) {
				t.Errorf("code %d, want %d; output %q, want %q in it", code, test.code, out.String(), test.want)
			}
		})
	}
}

// TestKeySecureBoot makes keys, replaces one, and revokes what they signed.
func TestKeySecureBoot(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "keys")
	stub, err := os.ReadFile("/usr/lib/systemd/boot/efi/linuxx64.efi.stub")
	if err != nil {
		t.Fatal(err)
	}
	efi := filepath.Join(t.TempDir(), "old.efi")
	for _, test := range []struct {
		args []string
		code int
		want string
	}{
		{nil, 0, "PK.key and KEK.key"},
		{nil, 1, "is there already"},
		{[]string{"-rotate", "DB"}, 2, "PK, KEK or db"},
		{[]string{"-rotate", "db"}, 0, "db.auth"},
		{[]string{"-rotate", "PK"}, 0, "PK-update.auth"},
		{[]string{"-revoke", efi}, 1, "not signed"},
		{[]string{"-revoke", efi}, 0, "1 added"},
		{[]string{"-revoke", efi}, 0, "0 added"},
	} {
		var out bytes.Buffer
		code := run(t.Context(), append([]string{"coracle", "key", "secure-boot", "-dir", dir}, test.args...), program.Stdio{Out: &out, Err: &out})
		if code != test.code || !strings.Contains(out.String(), test.want) {
			t.Errorf("%q: code %d, want %d; output %q, want %q in it", test.args, code, test.code, out.String(), test.want)
		}
		if test.want == "PK-update.auth" {
			err = os.WriteFile(efi, stub, 0o644)
		} else if test.want == "not signed" {
			var signer efisign.Signer
			if signer, err = (secureboot.Store{Dir: dir}).Signer("db"); err == nil {
				if stub, err = signer.Sign(stub); err == nil {
					err = os.WriteFile(efi, stub, 0o644)
				}
			}
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}
