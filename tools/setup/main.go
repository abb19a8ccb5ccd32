// Command setup installs the Debian packages that building, running and testing
// Coracle need and that are missing on this machine. It is the one place with
// their names. `setup -n` only says what is missing and ends with code 1 then.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"strings"
)

// need is a Debian package and what it is needed for.
type need struct{ name, why string }

// needs are the packages beside Go, git and make.
func needs() []need {
	return []need{
		{"ca-certificates", "fetching Go modules"},
		{"dpkg", "reading Debian packages"},
		{"debian-archive-keyring", "checking the signatures of Debian's archive"},
		{"kmod", "indexing the kernel modules of an image (depmod)"},
		{"e2fsprogs", "making the ext4 partitions (mke2fs), checking them in tests"},
		{"qemu-utils", "making virtual disks (qemu-img)"},
		{"xorriso", "writing ISO images"},
		{"isolinux", "writing ISO images: the boot loader for BIOS"},
		{"syslinux-common", "writing ISO images: the boot loader for BIOS"},
		{"ipxe", "starting machines over the network (coracle pxe serve)"},
		{"gcc", "compiling runc"},
		{"libc6-dev", "compiling runc"},
		{"pkg-config", "compiling runc"},
		{"libseccomp-dev", "compiling runc"},
		{"qemu-system-x86", "running an image"},
		{"ovmf", "running an image: UEFI firmware"},
		{"swtpm", "running an image with a TPM"},
		{"openssh-client", "tests: log in as users do"},
		{"rsync", "tests: copy folders as Vagrant does"},
		{"cryptsetup-bin", "tests: veritysetup checks the hash tree"},
		{"erofs-utils", "tests: fsck.erofs checks the root"},
		{"dosfstools", "tests: fsck.fat checks the ESP"},
		{"mtools", "tests: read and change files of the ESP"},
		{"gdisk", "tests: sgdisk checks the partition table"},
		{"fdisk", "tests: sfdisk reads the partition table"},
		{"sbsigntool", "tests: sbverify checks signatures for Secure Boot"},
		{"tpm2-tools", "tests: open what was sealed to a TPM"},
		{"libtss2-tcti-swtpm0", "tests: tpm2-tools of the emulated TPM"},
		{"efitools", "tests: sig-list-to-certs reads Secure Boot's variables"},
		{"binutils", "tests: objdump reads the UKI"},
		{"cpio", "tests: cpio reads the initrd"},
		{"zstd", "tests: zstd reads the compressed image"},
		{"genisoimage", "tests: config drives in ISO 9660"},
		{"busybox-static", "tests: the image of a container"},
		{"iproute2", "tests: network namespaces"},
		{"iputils-ping", "tests: packets of a given size"},
		{"curl", "tests: what our curl is compared with"},
		{"etcd-client", "tests: etcdctl of the v2 API's time"},
		{"etcd-server", "tests: an etcd with the v2 API of its time, as the other side"},
		{"systemd", "tests: systemd-analyze reads the same calendar expressions and time spans"},
		{"systemd-boot-efi", "tests: the stub and boot loader that UKIs and updates are made with"},
		{"nftables", "tests: rules that containers set"},
		{"ignition", "tests: ignition-validate checks the same configs"},
		{"dnsmasq-base", "tests: a DHCP server and IPv6 router that is not ours"},
		{"isc-dhcp-server", "tests: a DHCP server with leases of seconds"},
		{"radvd", "tests: an IPv6 router that is not ours"},
	}
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	check := flag.Bool("n", false, "only say what is missing")
	flag.Parse()
	if err := run(ctx, *check); err != nil {
		fmt.Fprintln(os.Stderr, "setup:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, check bool) error {
	missing, err := missing(ctx, needs())
	if err != nil {
		return err
	}
	if len(missing) == 0 {
		return nil
	}
	for _, n := range missing {
		fmt.Printf("missing: %-24s for %s\n", n.name, n.why)
	}
	if check {
		return errors.New("install the packages above, or let make setup do it")
	}
	if err := apt(ctx, "update"); err != nil {
		return err
	}
	args := []string{"install", "--yes", "--no-install-recommends"}
	for _, n := range missing {
		args = append(args, n.name)
	}
	return apt(ctx, args...)
}

// missing returns the packages of list that are not installed.
func missing(ctx context.Context, list []need) ([]need, error) {
	if _, err := exec.LookPath("dpkg-query"); err != nil {
		return nil, fmt.Errorf("find dpkg-query: %w; Coracle is built on Debian 12 or newer", err)
	}
	args := []string{"-W", "-f", "${Package} ${db:Status-Status}\n"}
	for _, n := range list {
		args = append(args, n.name)
	}
	// It ends with code 1 when it does not know one of the names.
	out, err := exec.CommandContext(ctx, "dpkg-query", args...).Output()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		return nil, fmt.Errorf("dpkg-query: %w", err)
	}
	installed := strings.Split(string(out), "\n")
	return slices.DeleteFunc(list, func(n need) bool {
		return slices.Contains(installed, n.name+" installed")
	}), nil
}

// apt runs apt-get as root.
func apt(ctx context.Context, args ...string) error {
	args = append([]string{"apt-get", "-q"}, args...)
	if os.Geteuid() != 0 {
		if _, err := exec.LookPath("sudo"); err != nil {
			return fmt.Errorf("not root and no sudo; as root, run: %s", strings.Join(args, " "))
		}
		args = append([]string{"sudo"}, args...)
	}
	fmt.Println(strings.Join(args, " "))
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive")
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s: %w", strings.Join(args, " "), err)
	}
	return nil
}
