package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/coracle-os/coracle/image/inspect"
	"github.com/coracle-os/coracle/image/verity"
	"github.com/coracle-os/coracle/rootfs/program"
)

// cmdInspect says what is in an image.
func cmdInspect(ctx context.Context, args []string, stdio program.Stdio) error {
	flags := flag.NewFlagSet("coracle inspect", flag.ContinueOnError)
	flags.SetOutput(stdio.Err)
	asJSON := flags.Bool("json", false, "write JSON")
	path, err := imageArgument(flags, args)
	if err != nil {
		return err
	}
	return withImage(ctx, path, func(img *inspect.Image) error {
		if !*asJSON {
			return img.Print(stdio.Out)
		}
		encoder := json.NewEncoder(stdio.Out)
		encoder.SetEscapeHTML(false)
		encoder.SetIndent("", "  ")
		return encoder.Encode(img)
	})
}

// cmdVerify checks every block of an image's roots.
func cmdVerify(ctx context.Context, args []string, stdio program.Stdio) error {
	flags := flag.NewFlagSet("coracle verify", flag.ContinueOnError)
	flags.SetOutput(stdio.Err)
	path, err := imageArgument(flags, args)
	if err != nil {
		return err
	}
	return withImage(ctx, path, func(img *inspect.Image) error {
		if err := img.Verify(); err != nil {
			return explain(err)
		}
		for _, slot := range img.Slots {
			if !slot.Empty && len(slot.UKIs) > 0 {
				fmt.Fprintf(stdio.Out, "slot %s: root hash %s holds\n", slot.Name, slot.RootHash)
			}
		}
		return nil
	})
}

// explain adds what to do about a bad block.
func explain(err error) error {
	var bad *verity.BadBlockError
	if errors.As(err, &bad) {
		return fmt.Errorf("%w; the image was changed or is damaged: get it again, or build it anew", err)
	}
	return err
}

// imageArgument parses the flags and returns the one argument, or the image
// that coracle build leaves.
func imageArgument(flags *flag.FlagSet, args []string) (string, error) {
	flags.Usage = func() {
		fmt.Fprintf(flags.Output(), "Usage: %s [FLAG...] [IMAGE]\nIMAGE is raw or qcow2; build/coracle.raw without it.\n", flags.Name())
		flags.PrintDefaults()
	}
	if err := flags.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return "", err
		}
		return "", errUsage
	}
	switch flags.NArg() {
	case 0:
		return filepath.Join("build", "coracle.raw"), nil
	case 1:
		return flags.Arg(0), nil
	}
	fmt.Fprintf(flags.Output(), "%s: want one image, got %d\n", flags.Name(), flags.NArg())
	return "", errUsage
}

// qcowMagic starts a qcow2 file.
const qcowMagic = "QFI\xfb"

// withImage opens an image, raw or qcow2, and calls look with it.
func withImage(ctx context.Context, path string, look func(*inspect.Image) error) error {
	return withRaw(ctx, path, func(raw *os.File) error {
		info, err := raw.Stat()
		if err != nil {
			return err
		}
		img, err := inspect.Open(raw, info.Size())
		if err == nil {
			err = look(img)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		return nil
	})
}

// withRaw opens an image, raw or qcow2, and calls use with it as raw.
func withRaw(ctx context.Context, path string, use func(*os.File) error) error {
	file, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("open image: %w", err)
	}
	defer file.Close()
	magic := make([]byte, len(qcowMagic))
	if _, err := io.ReadFull(file, magic); err == nil && string(magic) == qcowMagic {
		raw, err := toRaw(ctx, path)
		if err != nil {
			return err
		}
		defer os.Remove(raw.Name())
		defer raw.Close()
		file = raw
	}
	return use(file)
}

// toRaw converts a qcow2 image into a temporary raw one.
func toRaw(ctx context.Context, path string) (*os.File, error) {
	qemuImg, err := exec.LookPath("qemu-img")
	if err != nil {
		return nil, fmt.Errorf("find qemu-img: %w; install the Debian package qemu-utils (make setup does)", err)
	}
	raw, err := os.CreateTemp("", "coracle-*.raw")
	if err != nil {
		return nil, err
	}
	out, err := exec.CommandContext(ctx, qemuImg, "convert", "-f", "qcow2", "-O", "raw", path, raw.Name()).CombinedOutput()
	if err != nil {
		raw.Close()
		return nil, errors.Join(fmt.Errorf("qemu-img: %w: %s", err, out), os.Remove(raw.Name()))
	}
	return raw, nil
}
