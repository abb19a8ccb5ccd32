package main

import (
	"crypto/sha256"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/coracle-os/coracle/image/efisign"
	"github.com/coracle-os/coracle/image/secureboot"
	"github.com/coracle-os/coracle/rootfs/program"
)

// revokeFlag collects -revoke FILE.efi.
type revokeFlag []string

func (r *revokeFlag) String() string     { return fmt.Sprint(*r) }
func (r *revokeFlag) Set(s string) error { *r = append(*r, s); return nil }

// cmdKeySecureBoot makes and changes the keys of Secure Boot.
func cmdKeySecureBoot(args []string, stdio program.Stdio) error {
	flags := flag.NewFlagSet("coracle key secure-boot", flag.ContinueOnError)
	flags.SetOutput(stdio.Err)
	dir := flags.String("dir", "secure-boot", "`directory` of the keys")
	days := flags.Int("days", 3650, "`number` of days that a new certificate is valid")
	rotate := flags.String("rotate", "", "replace the key with this `name`: PK, KEK or db")
	var revoke revokeFlag
	flags.Var(&revoke, "revoke", "add this signed EFI `file` to dbx; may be repeated")
	if err := parseFlags(flags, args); err != nil {
		return err
	}
	if *days < 1 || *rotate != "" && (len(revoke) > 0 || !slices.Contains(secureboot.Names(), *rotate)) {
		fmt.Fprint(stdio.Err, "coracle key secure-boot: want at least one day, and either -rotate with PK, KEK or db, or -revoke\n")
		return errUsage
	}
	store := secureboot.Store{Dir: *dir, Now: time.Now, Valid: time.Duration(*days) * 24 * time.Hour}
	switch {
	case *rotate != "":
		if err := store.Rotate(*rotate); err != nil {
			return err
		}
		fmt.Fprintf(stdio.Out, "%s is another key now; machines that run take %s.auth%s\n", *rotate, *rotate,
			map[bool]string{true: " (PK-update.auth, which the old key signed)"}[*rotate == "PK"])
	case len(revoke) > 0:
		return revokeFiles(store, revoke, stdio)
	default:
		if err := store.Create(); err != nil {
			return err
		}
		fmt.Fprintf(stdio.Out, "keys are in %s: move PK.key and KEK.key to a safe place; coracle build -secure-boot %s signs with db.key\n", *dir, *dir)
	}
	return nil
}

// revokeFiles adds programs to dbx.
func revokeFiles(store secureboot.Store, files []string, stdio program.Stdio) error {
	var digests [][sha256.Size]byte
	for _, name := range files {
		f, err := os.Open(name)
		if err != nil {
			return fmt.Errorf("revoke: %w", err)
		}
		defer f.Close()
		if _, err := efisign.Verify(f); err != nil {
			return fmt.Errorf("revoke %q: %w: only what is signed starts, so only that is revoked", name, err)
		}
		digest, err := efisign.Digest(f)
		if err != nil {
			return fmt.Errorf("revoke %q: %w", name, err)
		}
		fmt.Fprintf(stdio.Out, "%x  %s\n", digest, name)
		digests = append(digests, digest)
	}
	added, err := store.Revoke(digests...)
	if err != nil {
		return err
	}
	fmt.Fprintf(stdio.Out, "%d added to %s; machines take it as root with:\n"+
		"  (printf '\\047\\0\\0\\0'; cat dbx.auth) > dbx; chattr -i VAR; cat dbx > VAR, where VAR is /sys/firmware/efi/efivars/dbx-d719b2cb-3d3a-4596-a3bc-dad00e67656f\n",
		added, filepath.Join(store.Dir, "dbx.auth"))
	return nil
}
