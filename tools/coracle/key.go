package main

import (
	"context"
	"fmt"
	"time"

	"github.com/coracle-os/coracle/rootfs/program"
	"github.com/coracle-os/coracle/tools/tufrepo"
)

const keyUsage = `Usage: coracle key init   -key-dir DIR -repo DIR [-root-keys N] [-root-threshold N]
       coracle key rotate -key-dir DIR... -repo DIR [-key ID] ROLE
       coracle key renew  -key-dir DIR... -repo DIR
       coracle key sign   -key-dir DIR... -repo DIR
       coracle key secure-boot [-dir DIR] [-days N] [-rotate NAME | -revoke FILE.efi...]
init makes keys and an empty repository. rotate gives a role (root, targets, snapshot, timestamp)
new keys; renew moves the expiry of the root metadata. Both need the threshold of root keys: what
is signed by too few waits in the repository until sign, with other keys, completes it. Keep root
and targets keys offline; the timestamp key belongs where coracle release refresh runs.
secure-boot makes the keys of UEFI Secure Boot (PK, KEK, db), replaces one, or revokes a UKI.
`

// cmdKey makes and changes keys.
func cmdKey(_ context.Context, args []string, stdio program.Stdio) error {
	if len(args) > 0 {
		switch args[0] {
		case "init":
			return cmdKeyInit(args[1:], stdio)
		case "rotate", "renew", "sign":
			return cmdKeyChange(args[0], args[1:], stdio)
		case "secure-boot":
			return cmdKeySecureBoot(args[1:], stdio)
		case "-h", "-help", "--help":
			fmt.Fprint(stdio.Out, keyUsage)
			return nil
		}
	}
	fmt.Fprint(stdio.Err, keyUsage)
	return errUsage
}

func cmdKeyInit(args []string, stdio program.Stdio) error {
	f := newRepoFlags("coracle key init", keyUsage, stdio)
	keys := f.Int("root-keys", 1, "`number` of root keys")
	threshold := f.Int("root-threshold", 1, "`number` of root keys that must sign root metadata")
	if _, err := f.parse(args, 0); err != nil {
		return err
	}
	if len(f.keyDirs) != 1 {
		fmt.Fprintln(stdio.Err, "coracle key init: name the directory for the keys with one -key-dir")
		return errUsage
	}
	repo, err := tufrepo.Create(f.repo, f.keyDirs[0], *keys, *threshold, time.Now)
	if err != nil {
		return err
	}
	defer repo.Close()
	fmt.Fprintf(stdio.Out, "keys are in %s: move the root keys to a safe place\n", f.keyDirs[0])
	fmt.Fprintf(stdio.Out, "machines trust %s: put it into the image (/usr/share/coracle/tuf/root.json) or on the machine (/etc/coracle/tuf/root.json)\n", repo.RootFile())
	return nil
}

func cmdKeyChange(verb string, args []string, stdio program.Stdio) error {
	f := newRepoFlags("coracle key "+verb, keyUsage, stdio)
	var old keyDirFlag
	if verb == "rotate" {
		f.Var(&old, "key", "replace only the key with this `ID` (its start will do); may be repeated; without it all keys of the role")
	}
	most := 0
	if verb == "rotate" {
		most = 1
	}
	repo, rest, err := f.open(args, most)
	if err != nil {
		return err
	}
	defer repo.Close()
	var missing int
	switch verb {
	case "rotate":
		if len(rest) == 0 {
			fmt.Fprintf(stdio.Err, "coracle key rotate: name a role, one of %q\n", tufrepo.Roles())
			return errUsage
		}
		missing, err = repo.Rotate(rest[0], old, f.keyDirs...)
	case "renew":
		missing, err = repo.Rotate("", nil)
	case "sign":
		missing, err = repo.Sign()
	}
	if err != nil {
		return err
	}
	if missing > 0 {
		fmt.Fprintf(stdio.Out, "root metadata %d wait for %d more signatures: run coracle key sign where the other root keys are\n", repo.RootVersion()+1, missing)
		return nil
	}
	fmt.Fprintf(stdio.Out, "published root metadata %d\n", repo.RootVersion())
	return nil
}
