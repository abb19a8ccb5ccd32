package metadata

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/coracle-os/coracle/initrd/modules"
	"github.com/coracle-os/coracle/rootfs/userdata/azure"
	"github.com/coracle-os/coracle/rootfs/userdata/imds"
	"github.com/coracle-os/coracle/rootfs/userdata/mounted"
)

// cdTimeout bounds the wait for the CD drive to get its device.
const cdTimeout = 2 * time.Second

// provisioningCD reads Azure's CD, which is UDF. The error wraps fs.ErrNotExist
// when there is no CD with the file, as on later boots.
func provisioningCD(ctx context.Context) ([]byte, error) {
	if loader, err := modules.New("/"); err == nil {
		// Without them there is no device, or it can not be mounted, which is said.
		_, _ = loader.Load("sr_mod"), loader.Load("udf")
	}
	ctx, cancel := context.WithTimeout(ctx, cdTimeout)
	defer cancel()
	devices, _ := filepath.Glob("/dev/sr*")
	for len(devices) == 0 && hasDrive("/sys") && ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-time.After(20 * time.Millisecond):
		}
		devices, _ = filepath.Glob("/dev/sr*")
	}
	problem := fmt.Errorf("no CD drive: %w", fs.ErrNotExist)
	for _, device := range devices {
		for _, kind := range []string{"udf", "iso9660"} {
			var data []byte
			err := mounted.Do(device, kind, func(fsys fs.FS) (err error) {
				data, err = environment(fsys)
				return err
			})
			if err == nil {
				return data, nil
			}
			problem = err
		}
	}
	if isNoMedium(problem) {
		problem = fs.ErrNotExist
	}
	return nil, fmt.Errorf("read Azure's provisioning CD: %w", problem)
}

// hasDrive tells whether there is a CD drive, with or without a device: a SCSI
// device of type 5.
func hasDrive(sys string) bool {
	types, _ := filepath.Glob(sys + "/bus/scsi/devices/*/type")
	for _, path := range types {
		if data, err := os.ReadFile(path); err == nil && strings.TrimSpace(string(data)) == "5" {
			return true
		}
	}
	return false
}

func environment(fsys fs.FS) ([]byte, error) {
	f, err := fsys.Open(azure.Environment)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, imds.MaxSize+1))
	if err == nil && len(data) > imds.MaxSize {
		err = errors.New(azure.Environment + " is too large")
	}
	return data, err
}

// isNoMedium recognizes a drive without a CD in it, or with another's.
func isNoMedium(err error) bool {
	return errors.Is(err, unix.ENOMEDIUM) || errors.Is(err, unix.EINVAL)
}
