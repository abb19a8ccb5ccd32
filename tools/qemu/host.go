package qemu

import (
	"bytes"
	"fmt"
	"net"
	"os"
)

// DetectAccel returns kvm where the processor offers virtualisation and
// /dev/kvm can be opened, else tcg. The device node alone proves nothing:
// nested machines often have one that boots no guest, so the processor's own
// flags decide.
func DetectAccel() string {
	info, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return "tcg"
	}
	return accel(info, func() error {
		f, err := os.OpenFile("/dev/kvm", os.O_RDWR, 0)
		if err != nil {
			return err
		}
		return f.Close()
	})
}

func accel(cpuinfo []byte, openKVM func() error) string {
	for _, line := range bytes.Split(cpuinfo, []byte("\n")) {
		if !bytes.HasPrefix(line, []byte("flags")) {
			continue
		}
		for _, flag := range bytes.Fields(line) {
			if (string(flag) == "vmx" || string(flag) == "svm") && openKVM() == nil {
				return "kvm"
			}
		}
		return "tcg"
	}
	return "tcg"
}

// FindFirmware returns the OVMF build for a name: "uefi" (or empty),
// "secure-boot" (that enforces it once keys are enrolled), or the
// path of a code file whose variables lie beside it with CODE replaced by VARS.
func FindFirmware(name string) (Firmware, error) {
	candidates := []Firmware{
		{"/usr/share/OVMF/OVMF_CODE_4M.fd", "/usr/share/OVMF/OVMF_VARS_4M.fd"},
		{"/usr/share/OVMF/OVMF_CODE.fd", "/usr/share/OVMF/OVMF_VARS.fd"},
	}
	if name == "secure-boot" {
		candidates = []Firmware{{"/usr/share/OVMF/OVMF_CODE_4M.secboot.fd", "/usr/share/OVMF/OVMF_VARS_4M.fd"}}
		name = ""
	}
	if name != "" && name != "uefi" {
		candidates = []Firmware{{name, string(bytes.Replace([]byte(name), []byte("CODE"), []byte("VARS"), 1))}}
	}
	for _, f := range candidates {
		if exists(f.Code) && exists(f.Vars) {
			return f, nil
		}
	}
	return Firmware{}, fmt.Errorf("find firmware: no %q with its variable store; install Debian's ovmf package or name a code file", candidates[0].Code)
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// FreePort returns a TCP port of the loopback that nobody listens on now.
func FreePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, fmt.Errorf("find a free port: %w", err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}
