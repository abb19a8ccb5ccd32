package diskinstall

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"time"

	"github.com/coracle-os/coracle/initrd/cmdline"
	"github.com/coracle-os/coracle/rootfs/program"
	userdata "github.com/coracle-os/coracle/rootfs/userdata/fetch"
)

// Arguments reads the kernel arguments of an installation that nobody watches:
//
//	coracle.install=DISK         the disk; starts it
//	coracle.config=ADDRESS       cloud-config or Ignition config
//	coracle.image=ADDRESS        -f; coracle.image-sha256=DIGEST goes with it
//	coracle.install-channel=NAME -C, and coracle.install-server=ADDRESS
//	coracle.install-version=V    -V
//	coracle.report=ADDRESS       asked for when all is done, so that a boot server knows
//	coracle.after=WORD           then reboot (the default), poweroff, or stay
func Arguments(line string) (options, error) {
	args := cmdline.Parse(line)
	value := func(name string) string {
		v, _ := args.Lookup(name)
		return v
	}
	o := options{
		disk: value("coracle.install"), config: value("coracle.config"), file: value("coracle.image"), digest: value("coracle.image-sha256"),
		channel: value("coracle.install-channel"), server: value("coracle.install-server"), version: value("coracle.install-version"),
		report: value("coracle.report"), after: value("coracle.after"),
	}
	if o.after == "" {
		o.after = "reboot"
	}
	switch {
	case o.disk == "":
		return o, errors.New("the kernel's arguments have no coracle.install=DISK")
	case o.version != "" && o.channel == "":
		return o, errors.New("coracle.install-version= goes with coracle.install-channel=")
	case o.after != "reboot" && o.after != "poweroff" && o.after != "stay":
		return o, fmt.Errorf("coracle.after=%q: write reboot, poweroff or stay", o.after)
	}
	return o, nil
}

// patience is how long a disk may take to appear.
const patience = time.Minute

// unattended does what the kernel's arguments say.
func unattended(ctx context.Context, stdio program.Stdio) error {
	line, err := os.ReadFile("/proc/cmdline")
	if err != nil {
		return err
	}
	o, err := Arguments(string(line))
	if err != nil {
		return err
	}
	for deadline := time.Now().Add(patience); ; {
		if _, err := os.Stat(o.disk); err == nil || time.Now().After(deadline) {
			break
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(time.Second):
		}
	}
	if err := run(ctx, o, stdio); err != nil {
		return err
	}
	if o.report != "" {
		if _, err := (userdata.Getter{}).Get(ctx, o.report); err != nil {
			// To restart now might be to install again and again.
			return fmt.Errorf("the disk is ready, but the boot server cannot be told: %w", err)
		}
	}
	if o.after == "stay" {
		return nil
	}
	if out, err := exec.CommandContext(ctx, "systemctl", o.after).CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", o.after, err, out)
	}
	return nil
}
