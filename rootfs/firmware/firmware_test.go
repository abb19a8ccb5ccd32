package firmware

import (
	"testing"
	"testing/fstest"
)

func TestRead(t *testing.T) {
	file := func(s string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(s)} }
	const secure, setup = variables + "SecureBoot" + global, variables + "SetupMode" + global
	for _, test := range []struct {
		name      string
		files     fstest.MapFS
		boot, tpm string
	}{
		{"BIOS", fstest.MapFS{}, "not there (no UEFI)", "none"},
		{"UEFI, variables not mounted", fstest.MapFS{"sys/firmware/efi/systab": file("")}, "disabled", "none"},
		{"setup mode", fstest.MapFS{secure: file("\x06\x00\x00\x00\x00"), setup: file("\x06\x00\x00\x00\x01")}, "disabled (setup mode: no keys)", "none"},
		{"enforced", fstest.MapFS{secure: file("\x06\x00\x00\x00\x01"), setup: file("\x06\x00\x00\x00\x00"),
			"sys/kernel/security/lockdown": file("none [integrity] confidentiality\n"), "sys/class/tpm/tpm0/tpm_version_major": file("2\n")},
			"enabled, kernel lockdown: integrity", "version 2"},
		{"a kernel that is not locked down", fstest.MapFS{secure: file("\x06\x00\x00\x00\x01"),
			"sys/kernel/security/lockdown": file("[none] integrity confidentiality\n")}, "enabled", "none"},
		{"a variable of another size", fstest.MapFS{secure: file("\x06\x00\x00\x00\x01\x00")}, "disabled", "none"},
	} {
		if got := Read(test.files); got.Boot() != test.boot || got.Module() != test.tpm {
			t.Errorf("%s: %q, TPM %q; want %q, %q", test.name, got.Boot(), got.Module(), test.boot, test.tpm)
		}
	}
}
