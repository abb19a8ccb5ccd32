// Package firmware says what the firmware of the machine vouches for: whether
// Secure Boot is enforced, whether the kernel is locked down for it, and whether
// there is a TPM. The banner, systemctl status and hostnamectl show it.
//
// It reads what the kernel shows: UEFI's variables (UEFI specification, 3.3), and
// files of sysfs and securityfs. All of them can be read by everyone.
package firmware

import (
	"errors"
	"io/fs"
	"strings"
)

// Of sysfs, without the leading slash.
const (
	variables = "sys/firmware/efi/efivars/"
	global    = "-8be4df61-93ca-11d2-aa0d-00e098032b8c"
)

// State is what the firmware vouches for.
type State struct {
	UEFI       bool
	SecureBoot bool   // enforced: only what its keys signed was started
	SetupMode  bool   // it takes the first keys that it is given
	Lockdown   string // of the kernel: "none", "integrity", "confidentiality"; "" when it does not say
	TPM        string // "2" or "1", the major version; "" without one
}

// Read reads the state of the machine whose root is given. What cannot be read
// is taken for off.
func Read(root fs.FS) State {
	var s State
	_, err := fs.Stat(root, "sys/firmware/efi")
	s.UEFI = !errors.Is(err, fs.ErrNotExist)
	s.SecureBoot, s.SetupMode = flag(root, "SecureBoot"), flag(root, "SetupMode")
	if text, err := fs.ReadFile(root, "sys/kernel/security/lockdown"); err == nil {
		_, after, _ := strings.Cut(string(text), "[")
		s.Lockdown, _, _ = strings.Cut(after, "]")
	}
	if text, err := fs.ReadFile(root, "sys/class/tpm/tpm0/tpm_version_major"); err == nil {
		s.TPM = strings.TrimSpace(string(text))
	}
	return s
}

// flag reads a variable of one byte: four bytes of attributes are before it.
func flag(root fs.FS, name string) bool {
	content, err := fs.ReadFile(root, variables+name+global)
	return err == nil && len(content) == 5 && content[4] == 1
}

// Boot describes Secure Boot in a few words.
func (s State) Boot() string {
	switch {
	case !s.UEFI:
		return "not there (no UEFI)"
	case s.SecureBoot && s.Lockdown != "" && s.Lockdown != "none":
		return "enabled, kernel lockdown: " + s.Lockdown
	case s.SecureBoot:
		return "enabled"
	case s.SetupMode:
		return "disabled (setup mode: no keys)"
	}
	return "disabled"
}

// Module describes the TPM in a few words.
func (s State) Module() string {
	if s.TPM == "" {
		return "none"
	}
	return "version " + s.TPM
}
