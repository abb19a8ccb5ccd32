// Package bootinfo is what stage 1 tells the programs of the root about the
// boot: a small JSON file that stage 1 writes once, before it switches root,
// and PID 1, the login banner and the update agents read.
//
// Nothing in it is trusted for security: the kernel has already verified the
// root by the time that anyone can read it.
package bootinfo

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
)

// Path is where stage 1 leaves the file, seen from the running system.
const Path = "/run/coracle/boot.json"

// Info is one boot as stage 1 saw it.
type Info struct {
	// RootHash is the dm-verity root hash of the mounted root, 64 lower-case
	// hexadecimal digits: the identity of the release.
	RootHash string `json:"rootHash"`
	// Slot is "A" or "B", from the name of the root partition; "" when the
	// partition is named otherwise.
	Slot string `json:"slot"`
	// Live is how a machine was started that does not run from a disk of its
	// own: "memory" (the root came with the initrd) or "medium" (a CD or USB
	// stick); "" for others. A live system is not updated in place.
	Live string `json:"live,omitempty"`
	// BootFiles is the directory of the files that a live system needs to
	// install itself, as package live names them; "" when they are not there.
	BootFiles string `json:"bootFiles,omitempty"`
	// RootDevice, VerityDevice and StateDevice are device nodes, such as
	// "/dev/vda3". StateDevice is "" when there is no state partition.
	RootDevice   string `json:"rootDevice"`
	VerityDevice string `json:"verityDevice"`
	StateDevice  string `json:"stateDevice"`
	// StateKey is what opened an encrypted state partition, one of the constants
	// below; "" when it is not encrypted.
	StateKey string `json:"stateKey,omitempty"`
	// VolatileState is true when /var is a tmpfs because the state partition
	// is missing or unusable. The reason is in Notices.
	VolatileState bool `json:"volatileState"`
	// Notices are sentences for the owner of the machine: what was not as it
	// should be, and what to do. Empty when all is well.
	Notices []string `json:"notices"`
	// Watchdogs are the armed watchdogs. Stage 1 closes the devices without
	// disarming them: whoever reads this must open each Device again and ping
	// it within its TimeoutSeconds, or the machine resets.
	Watchdogs []Watchdog `json:"watchdogs,omitempty"`
	// KernelMillis is the time from kernel start to stage 1, and
	// Stage1Millis from there to the switch of roots, in milliseconds.
	KernelMillis int64 `json:"kernelMillis"`
	Stage1Millis int64 `json:"stage1Millis"`
	// Steps are the parts of Stage1Millis in the order they ended.
	Steps []Step `json:"steps,omitempty"`
}

// Values of Info.StateKey.
const (
	ByTPM         = "tpm2"
	ByRecoveryKey = "recovery key"
	Closed        = "closed" // nothing did
)

// Encryption describes the encryption of the state partition in a few words.
func (i Info) Encryption() string {
	switch i.StateKey {
	case "":
		return "none"
	case ByTPM:
		return "state partition, opened by the TPM"
	case Closed:
		return "state partition, closed (/var is in memory): restart and type the recovery key on the console"
	}
	return "state partition, opened by the " + i.StateKey
}

// Watchdog is an armed watchdog, of the hardware or of the kernel.
type Watchdog struct {
	Device         string `json:"device"`
	TimeoutSeconds int    `json:"timeoutSeconds"`
}

// Step is one timed step of stage 1.
type Step struct {
	Name string `json:"name"`
	// EndMillis is when it ended, in milliseconds since kernel start.
	EndMillis int64 `json:"endMillis"`
	Millis    int64 `json:"millis"`
}

// Read reads the file at path. The error wraps fs.ErrNotExist when the
// machine was not started by stage 1, in a container for instance.
func Read(path string) (Info, error) {
	var info Info
	data, err := os.ReadFile(path)
	if err != nil {
		return info, fmt.Errorf("read boot information: %w", err)
	}
	if err := json.Unmarshal(data, &info); err != nil {
		return Info{}, fmt.Errorf("read boot information %q: %w", path, err)
	}
	return info, nil
}

// Write writes info to path, which is replaced as a whole, and makes the
// directory if need be.
func Write(path string, info Info) error {
	if info.Notices == nil {
		info.Notices = []string{}
	}
	data, err := json.MarshalIndent(info, "", "  ")
	if err != nil {
		return fmt.Errorf("write boot information: %w", err)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return fmt.Errorf("write boot information: %w", err)
	}
	temp := path + ".new"
	if err := os.WriteFile(temp, append(data, '\n'), 0o644); err != nil {
		return fmt.Errorf("write boot information: %w", err)
	}
	if err := os.Rename(temp, path); err != nil {
		return fmt.Errorf("write boot information: %w", err)
	}
	return nil
}
