package main

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	_ "embed"
	"encoding/pem"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/coracle-os/coracle/rootfs/program"
	"github.com/coracle-os/coracle/tools/qemu"
	"golang.org/x/crypto/ssh"
	"golang.org/x/term"
)

// defaultUserData sets up the machine of a plain `coracle run`; $KEY stands
// for the public key that the command makes for itself.
//
//go:embed user-data.yaml
var defaultUserData string

// bootTimeout bounds the time until the machine answers on its SSH port.
const bootTimeout = 5 * time.Minute

type runOptions struct {
	image, userData, firmware, disk string
	memory, cpus                    int
	console, secureBoot, tpm        bool
	forwards                        forwardFlag
}

// forwardFlag collects -forward HOST:GUEST.
type forwardFlag []qemu.Forward

func (f *forwardFlag) String() string { return fmt.Sprint(*f) }

func (f *forwardFlag) Set(s string) error {
	host, guest, ok := strings.Cut(s, ":")
	h, err1 := strconv.ParseUint(host, 10, 16)
	g, err2 := strconv.ParseUint(guest, 10, 16)
	if !ok || err1 != nil || err2 != nil || h == 0 || g == 0 {
		return fmt.Errorf("forward %q: want HOST:GUEST, two TCP ports such as 8080:80", s)
	}
	*f = append(*f, qemu.Forward{Host: int(h), Guest: int(g)})
	return nil
}

// cmdRun boots an image in QEMU and logs in.
func cmdRun(ctx context.Context, args []string, stdio program.Stdio) error {
	var o runOptions
	flags := flag.NewFlagSet("coracle run", flag.ContinueOnError)
	flags.SetOutput(stdio.Err)
	flags.StringVar(&o.image, "image", "build/coracle.raw", "the `image` to boot, raw or qcow2; it is not changed")
	flags.StringVar(&o.userData, "user-data", "", "`file` given to the machine as its user-data")
	flags.IntVar(&o.memory, "memory", 2048, "memory in `MiB`")
	flags.IntVar(&o.cpus, "cpus", 0, "`number` of processors; without it 2, and 1 under emulation, where two crash now and then")
	flags.StringVar(&o.firmware, "firmware", "uefi", "uefi, or the `path` of an OVMF code file")
	flags.StringVar(&o.disk, "disk", "", "keep the machine's disk in this `file` (qcow2) and go on with it next time")
	flags.Var(&o.forwards, "forward", "forward a port of the loopback into the machine, `HOST:GUEST`; may be repeated")
	flags.BoolVar(&o.secureBoot, "secure-boot", false, "a firmware that enrols the image's keys and then enforces Secure Boot")
	flags.BoolVar(&o.tpm, "tpm", false, "give the machine a TPM 2 (swtpm); its state ends with the machine")
	flags.BoolVar(&o.console, "console", false, "attach the serial console instead of logging in over SSH (Ctrl-A X ends QEMU)")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() > 0 {
		return fmt.Errorf("coracle run: unexpected argument %q", flags.Arg(0))
	}
	dir, err := os.MkdirTemp("", "coracle-run-")
	if err != nil {
		return fmt.Errorf("make a folder for the machine: %w", err)
	}
	defer os.RemoveAll(dir)
	config, keyFile, err := o.config(dir)
	if err != nil {
		return err
	}
	if o.console {
		return runConsole(ctx, config, stdio)
	}
	return runSSH(ctx, config, keyFile, stdio)
}

// config turns the flags into a machine whose files lie in dir.
func (o runOptions) config(dir string) (c qemu.Config, keyFile string, err error) {
	name := o.firmware
	if o.secureBoot && name == "uefi" {
		name = "secure-boot"
	}
	firmware, err := qemu.FindFirmware(name)
	if err != nil {
		return c, "", err
	}
	keyFile, public, err := writeKey(dir)
	if err != nil {
		return c, "", err
	}
	document := []byte(strings.ReplaceAll(defaultUserData, "$KEY", public))
	if o.userData != "" {
		if document, err = os.ReadFile(o.userData); err != nil {
			return c, "", fmt.Errorf("read user-data: %w", err)
		}
	}
	userData := filepath.Join(dir, "user-data")
	if err := os.WriteFile(userData, document, 0o600); err != nil {
		return c, "", fmt.Errorf("write user-data: %w", err)
	}
	c = qemu.Config{Name: "run", Dir: dir, Image: o.image, Disk: o.disk, Memory: o.memory, CPUs: o.cpus,
		Accel: qemu.DetectAccel(), Firmware: firmware, UserData: userData, Forwards: o.forwards, DiskSize: runDiskSize,
		SecureBoot: o.secureBoot, TPM: o.tpm}
	if o.console {
		c.Stdio = true
		c.KernelArgs = "coracle.autologin"
	}
	return c, keyFile, nil
}

// runDiskSize is the size of the machine's disk in bytes, larger than the
// image's, so that the state partition has room for containers.
const runDiskSize = 16 << 30

// writeKey makes the key pair that `coracle run` logs in with.
func writeKey(dir string) (file, public string, err error) {
	pub, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return "", "", fmt.Errorf("make an SSH key: %w", err)
	}
	block, err := ssh.MarshalPrivateKey(private, "coracle run")
	if err != nil {
		return "", "", fmt.Errorf("make an SSH key: %w", err)
	}
	file = filepath.Join(dir, "id_ed25519")
	if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
		return "", "", fmt.Errorf("write the SSH key: %w", err)
	}
	key, err := ssh.NewPublicKey(pub)
	if err != nil {
		return "", "", fmt.Errorf("make an SSH key: %w", err)
	}
	return file, strings.TrimSpace(string(ssh.MarshalAuthorizedKey(key))), nil
}

// runConsole gives the terminal to the serial console until QEMU ends.
func runConsole(ctx context.Context, c qemu.Config, stdio program.Stdio) error {
	fmt.Fprintf(stdio.Err, "serial console of %s; Ctrl-A X ends QEMU, `sudo poweroff` the machine\n", c.Image)
	if fd := int(os.Stdin.Fd()); term.IsTerminal(fd) {
		if state, err := term.MakeRaw(fd); err == nil {
			defer term.Restore(fd, state)
		}
	}
	vm, err := qemu.Start(ctx, c)
	if err != nil {
		return err
	}
	return vm.Wait(ctx)
}

// runSSH boots the machine and logs in as core; without a terminal it says how
// to log in and waits for the machine's end.
func runSSH(ctx context.Context, c qemu.Config, keyFile string, stdio program.Stdio) error {
	port, err := qemu.FreePort()
	if err != nil {
		return err
	}
	c.Forwards = append(c.Forwards, qemu.Forward{Host: port, Guest: 22})
	start := time.Now()
	vm, err := qemu.Start(ctx, c)
	if err != nil {
		return err
	}
	defer vm.Kill()
	fmt.Fprintf(stdio.Err, "booting %s (%s, %d MiB; console in %s)\n", c.Image, c.Accel, c.Memory, c.ConsoleLog())
	if err := waitSSH(ctx, vm, port, start, stdio.Err); err != nil {
		return err
	}
	args := sshArgs(keyFile, port)
	if !term.IsTerminal(int(os.Stdin.Fd())) {
		fmt.Fprintf(stdio.Err, "ready after %.0f s; log in with\n  ssh %s\nand end the machine with Ctrl-C or `sudo poweroff` inside\n",
			time.Since(start).Seconds(), strings.Join(args, " "))
		if err := vm.Wait(ctx); err != nil && ctx.Err() == nil {
			return err
		}
		return powerOff(vm, stdio.Err)
	}
	fmt.Fprintf(stdio.Err, "ready after %.0f s; leaving the shell switches the machine off\n", time.Since(start).Seconds())
	login := exec.CommandContext(ctx, "ssh", args...)
	login.Stdin, login.Stdout, login.Stderr = os.Stdin, os.Stdout, os.Stderr
	err = login.Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.ExitCode() == 255 && vm.Running() {
		fmt.Fprintln(stdio.Err, "the login over SSH failed; does your user-data hold one of your keys? -console gives the serial console")
	}
	return powerOff(vm, stdio.Err)
}

// waitSSH waits until the machine's SSH server greets.
func waitSSH(ctx context.Context, vm *qemu.VM, port int, start time.Time, progress io.Writer) error {
	ctx, cancel := context.WithTimeout(ctx, bootTimeout)
	defer cancel()
	tick := time.NewTicker(250 * time.Millisecond)
	defer tick.Stop()
	live := term.IsTerminal(int(os.Stderr.Fd()))
	for {
		if greets(port) {
			if live {
				fmt.Fprint(progress, "\r\x1b[K")
			}
			return nil
		}
		if live {
			fmt.Fprintf(progress, "\r\x1b[K%4.0f s  %.100s", time.Since(start).Seconds(), lastLine(vm.ConsoleLog()))
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for the machine's SSH server: %w; its console ends with %q", ctx.Err(), lastLine(vm.ConsoleLog()))
		case <-vm.Done():
			return fmt.Errorf("the machine ended before it was up: %w", vm.Wait(ctx))
		case <-tick.C:
		}
	}
}

func greets(port int) bool {
	conn, err := net.DialTimeout("tcp", fmt.Sprintf("127.0.0.1:%d", port), time.Second)
	if err != nil {
		return false
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(5 * time.Second))
	greeting := make([]byte, 4)
	_, err = io.ReadFull(conn, greeting)
	return err == nil && string(greeting) == "SSH-"
}

// lastLine returns the last printable line of the console log.
func lastLine(file string) string {
	data, err := os.ReadFile(file)
	if err != nil {
		return ""
	}
	printable := func(r rune) rune {
		if r == '\n' || r >= ' ' && r < 0x7f {
			return r
		}
		return -1
	}
	lines := strings.Split(strings.TrimSpace(strings.Map(printable, string(data[max(0, len(data)-2000):]))), "\n")
	return lines[len(lines)-1]
}

// powerOff presses the power button and gives the machine a minute.
func powerOff(vm *qemu.VM, progress io.Writer) error {
	if !vm.Running() {
		fmt.Fprintln(progress, "the machine is off")
		return nil
	}
	if err := vm.PowerButton(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := vm.Wait(ctx); err != nil {
		return fmt.Errorf("switch the machine off: %w; it is ended now", err)
	}
	fmt.Fprintln(progress, "the machine is off")
	return nil
}
