// Package devicemapper makes devices of one target by the ioctls of
// device-mapper (linux/dm-ioctl.h, Documentation/admin-guide/device-mapper):
// create the device, load its table, resume, and read the table of one. Stage 1
// opens the verified root and an encrypted state partition with it, Ignition
// other encrypted volumes.
//
// There is no kept Go library for it. Left out on purpose: several targets,
// status, events.
package devicemapper

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

const control = "/dev/mapper/control"

// Target is a device of one target.
type Target struct {
	Name, UUID string
	Sectors    uint64 // of 512 bytes
	Kind       string // of target: "verity", "crypt"
	Params     string // the target's line of the table
	ReadOnly   bool
	Secret     bool // Params hold a key: the kernel does not keep its copy of the call
}

// Offsets of struct dm_ioctl and dm_target_spec, and flags, of linux/dm-ioctl.h.
const (
	headerSize   = 312
	specSize     = 40
	readOnlyFlag = 1 << 0
	tableFlag    = 1 << 4 // the table, not the status
	secureFlag   = 1 << 15
	majorVersion = 4
)

// Create makes a device, and removes it again when its table is refused. It
// returns the kernel's name, "dm-0".
func Create(t Target) (string, error) {
	spec, err := encodeSpec(t)
	if err != nil {
		return "", err
	}
	file, err := os.OpenFile(control, os.O_RDWR, 0)
	if err != nil {
		return "", fmt.Errorf("open device-mapper (is the module dm-mod loaded?): %w", err)
	}
	defer file.Close()
	// Only this call may give the UUID as well as the name.
	request := message(t.Name, 0, nil)
	copy(request[176:176+128], t.UUID)
	reply, err := call(file, unix.DM_DEV_CREATE, "create device", request)
	if err != nil {
		return "", err
	}
	var flags uint32
	if t.ReadOnly {
		flags = readOnlyFlag
	}
	load := flags
	if t.Secret {
		load |= secureFlag
	}
	if _, err = call(file, unix.DM_TABLE_LOAD, "load table of target "+t.Kind+" (dmesg says more)", message(t.Name, load, spec)); err == nil {
		// Suspend without the suspend flag is resume.
		_, err = call(file, unix.DM_DEV_SUSPEND, "resume device", message(t.Name, flags, nil))
	}
	if err != nil {
		_, removeErr := call(file, unix.DM_DEV_REMOVE, "remove device", message(t.Name, 0, nil))
		return "", errors.Join(err, removeErr)
	}
	return fmt.Sprintf("dm-%d", unix.Minor(binary.NativeEndian.Uint64(reply[40:]))), nil
}

// Remove closes a device that nobody uses.
func Remove(name string) error {
	file, err := os.OpenFile(control, os.O_RDWR, 0)
	if err != nil {
		return fmt.Errorf("open device-mapper (is the module dm-mod loaded?): %w", err)
	}
	defer file.Close()
	_, err = call(file, unix.DM_DEV_REMOVE, "remove device "+name, message(name, 0, nil))
	return err
}

// Params returns the target's line of a device's table, with its key if it is
// encrypted: what Target.Params was.
func Params(name string) (string, error) {
	file, err := os.OpenFile(control, os.O_RDWR, 0)
	if err != nil {
		return "", fmt.Errorf("open device-mapper: %w", err)
	}
	defer file.Close()
	reply, err := call(file, unix.DM_TABLE_STATUS, "read the table of "+name, message(name, tableFlag|secureFlag, nil))
	if err != nil {
		return "", err
	}
	return decodeParams(reply)
}

// decodeParams reads the first target behind a struct dm_ioctl.
func decodeParams(reply []byte) (string, error) {
	at := int64(binary.NativeEndian.Uint32(reply[16:])) + specSize
	if binary.NativeEndian.Uint32(reply[20:]) != 1 || at >= int64(len(reply)) {
		return "", errors.New("read device-mapper table: not one target")
	}
	params, _, _ := bytes.Cut(reply[at:], []byte{0})
	return string(params), nil
}

// message builds a struct dm_ioctl with data behind it.
func message(name string, flags uint32, spec []byte) []byte {
	b := make([]byte, headerSize+max(len(spec), 16<<10-headerSize))
	put := binary.NativeEndian.PutUint32
	put(b[0:], majorVersion)
	put(b[12:], uint32(len(b))) // data_size
	put(b[16:], headerSize)     // data_start
	if spec != nil {
		put(b[20:], 1) // target_count
	}
	put(b[28:], flags)
	copy(b[48:48+127], name)
	copy(b[headerSize:], spec)
	return b
}

// encodeSpec builds a struct dm_target_spec and its parameters.
func encodeSpec(t Target) ([]byte, error) {
	if len(t.Kind) > 15 || len(t.Name) > 127 || len(t.UUID) > 128 {
		return nil, fmt.Errorf("name %q, uuid %q or target %q is too long for device-mapper", t.Name, t.UUID, t.Kind)
	}
	b := make([]byte, (specSize+len(t.Params)+1+7)&^7)
	binary.NativeEndian.PutUint64(b[8:], t.Sectors)
	binary.NativeEndian.PutUint32(b[20:], uint32(len(b))) // next
	copy(b[24:39], t.Kind)
	copy(b[specSize:], t.Params)
	return b, nil
}

func call(file *os.File, request uintptr, what string, b []byte) ([]byte, error) {
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, file.Fd(), request, uintptr(unsafe.Pointer(&b[0])))
	if errno != 0 {
		return nil, fmt.Errorf("%s: %w", what, errno)
	}
	return b, nil
}
