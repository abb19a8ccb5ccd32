package dmverity

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

const control = "/dev/mapper/control"

// target is a device of one target.
type target struct {
	name, uuid string
	sectors    uint64 // of 512 bytes
	kind       string // of target
	params     string
}

// Offsets of struct dm_ioctl and dm_target_spec, and flags, of linux/dm-ioctl.h.
const (
	headerSize   = 312
	specSize     = 40
	readOnlyFlag = 1 << 0
	majorVersion = 4
)

// create makes a read-only device, and removes it again when its table is
// refused. It returns the kernel's name, "dm-0".
func create(t target) (string, error) {
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
	request := message(t.name, 0, nil)
	copy(request[176:176+128], t.uuid)
	reply, err := call(file, unix.DM_DEV_CREATE, "create device", request)
	if err != nil {
		return "", err
	}
	load := message(t.name, readOnlyFlag, spec)
	if _, err = call(file, unix.DM_TABLE_LOAD, "load table \""+t.params+"\" (dmesg says more)", load); err == nil {
		// Suspend without the suspend flag is resume.
		_, err = call(file, unix.DM_DEV_SUSPEND, "resume device", message(t.name, readOnlyFlag, nil))
	}
	if err != nil {
		_, removeErr := call(file, unix.DM_DEV_REMOVE, "remove device", message(t.name, 0, nil))
		return "", errors.Join(err, removeErr)
	}
	return fmt.Sprintf("dm-%d", unix.Minor(binary.NativeEndian.Uint64(reply[40:]))), nil
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
func encodeSpec(t target) ([]byte, error) {
	if len(t.kind) > 15 || len(t.name) > 127 || len(t.uuid) > 128 {
		return nil, fmt.Errorf("name %q, uuid %q or target %q is too long for device-mapper", t.name, t.uuid, t.kind)
	}
	b := make([]byte, (specSize+len(t.params)+1+7)&^7)
	binary.NativeEndian.PutUint64(b[8:], t.sectors)
	binary.NativeEndian.PutUint32(b[20:], uint32(len(b))) // next
	copy(b[24:39], t.kind)
	copy(b[specSize:], t.params)
	return b, nil
}

func call(file *os.File, request uintptr, what string, b []byte) ([]byte, error) {
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, file.Fd(), request, uintptr(unsafe.Pointer(&b[0])))
	if errno != 0 {
		return nil, fmt.Errorf("%s: %w", what, errno)
	}
	return b, nil
}
