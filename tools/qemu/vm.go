package qemu

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

// VM is a running machine.
type VM struct {
	Config
	cmd     *exec.Cmd
	done    chan struct{}
	waitErr error
	stderr  *syncBuffer
}

// Start prepares the overlay and the firmware variables and starts QEMU. The
// machine ends with ctx, with its guest's power-off, or by Kill.
func Start(ctx context.Context, c Config) (*VM, error) {
	args, err := c.ready(ctx)
	if err != nil {
		return nil, err
	}
	vm := &VM{Config: c, done: make(chan struct{}), stderr: &syncBuffer{}}
	vm.cmd = exec.CommandContext(ctx, "qemu-system-x86_64", args...)
	vm.cmd.Stderr = vm.stderr
	if c.Stdio {
		vm.cmd.Stdin, vm.cmd.Stdout, vm.cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	}
	if err := vm.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start qemu: %w (Debian's package is qemu-system-x86)", err)
	}
	go func() {
		vm.waitErr = vm.cmd.Wait()
		close(vm.done)
	}()
	return vm, nil
}

// ready fills in what is the host's, makes the files, and returns the arguments.
func (c *Config) ready(ctx context.Context) ([]string, error) {
	if c.Accel == "" {
		c.Accel = DetectAccel()
	}
	if c.Firmware.Code == "" && !c.BIOS {
		name := ""
		if c.SecureBoot {
			name = "secure-boot"
		}
		firmware, err := FindFirmware(name)
		if err != nil {
			return nil, err
		}
		c.Firmware = firmware
	}
	if err := c.prepare(ctx); err != nil {
		return nil, err
	}
	args, err := c.Args()
	if err == nil && c.TPM {
		err = c.startTPM(ctx)
	}
	return args, err
}

// prepare makes what Args only names: overlay and variable store. A disk that
// is there already is kept: the machine goes on where it stopped.
func (c Config) prepare(ctx context.Context) error {
	if !c.BIOS && !exists(c.vars()) {
		vars, err := os.ReadFile(c.Firmware.Vars)
		if err != nil {
			return fmt.Errorf("copy firmware variables: %w", err)
		}
		if err := os.WriteFile(c.vars(), vars, 0o600); err != nil {
			return fmt.Errorf("copy firmware variables: %w", err)
		}
	}
	if c.WriteLog != "" {
		if err := os.WriteFile(c.WriteLog, nil, 0o600); err != nil {
			return fmt.Errorf("make the log of writes: %w", err)
		}
	}
	if exists(c.disk()) {
		return nil
	}
	return CreateOverlay(ctx, c.Image, c.disk(), c.DiskSize)
}

// CreateOverlay makes a qcow2 file over image; size in bytes, 0 keeps the
// image's own.
func CreateOverlay(ctx context.Context, image, overlay string, size int64) error {
	image, err := filepath.Abs(image)
	if err != nil {
		return fmt.Errorf("create overlay: %w", err)
	}
	if !exists(image) {
		return fmt.Errorf("create overlay: no image %q; build one first (make image)", image)
	}
	format := "raw"
	if strings.HasSuffix(image, ".qcow2") {
		format = "qcow2"
	}
	args := []string{"create", "-q", "-f", "qcow2", "-b", image, "-F", format, overlay}
	if size > 0 {
		args = append(args, fmt.Sprint(size))
	}
	if out, err := exec.CommandContext(ctx, "qemu-img", args...).CombinedOutput(); err != nil {
		return fmt.Errorf("create overlay %q: %w: %s", overlay, err, out)
	}
	return nil
}

// Done is closed when QEMU has ended.
func (vm *VM) Done() <-chan struct{} { return vm.done }

// Running says whether QEMU has not ended yet.
func (vm *VM) Running() bool {
	select {
	case <-vm.done:
		return false
	default:
		return true
	}
}

// Wait waits for the machine to end; an error carries QEMU's own words.
func (vm *VM) Wait(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return fmt.Errorf("wait for machine %q to end: %w", vm.Name, ctx.Err())
	case <-vm.done:
	}
	if vm.waitErr != nil {
		return fmt.Errorf("qemu: %w: %s", vm.waitErr, strings.TrimSpace(vm.stderr.String()))
	}
	return nil
}

// Kill ends the machine at once, as a power cut would.
func (vm *VM) Kill() {
	_ = vm.cmd.Process.Kill()
	<-vm.done
}

// PID is QEMU's process identifier.
func (vm *VM) PID() int { return vm.cmd.Process.Pid }

// PowerButton presses the machine's power button.
func (vm *VM) PowerButton() error { return qmp(vm.qmpSocket(), "system_powerdown") }

// Reset presses the reset button.
func (vm *VM) Reset() error { return qmp(vm.qmpSocket(), "system_reset") }

// qmp gives QEMU one command without arguments.
func qmp(socket, command string) error {
	conn, err := net.DialTimeout("unix", socket, 5*time.Second)
	if err != nil {
		return fmt.Errorf("talk to qemu: %w", err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(5 * time.Second))
	if _, err := io.WriteString(conn, fmt.Sprintf("{\"execute\":\"qmp_capabilities\"}{\"execute\":%q}\n", command)); err != nil {
		return fmt.Errorf("talk to qemu: %w", err)
	}
	buf, got := make([]byte, 4096), ""
	for strings.Count(got, `"return"`) < 2 {
		n, err := conn.Read(buf)
		if err != nil {
			return fmt.Errorf("talk to qemu: %w after %q", err, got)
		}
		got += string(buf[:n])
		if strings.Contains(got, `"error"`) {
			return fmt.Errorf("talk to qemu: %s", got)
		}
	}
	return nil
}

// DialConsole connects to the serial console. QEMU serves one peer at a time;
// what was printed before is in ConsoleLog.
func (vm *VM) DialConsole(ctx context.Context) (net.Conn, error) {
	var d net.Dialer
	for {
		conn, err := d.DialContext(ctx, "unix", vm.consoleSocket())
		if err == nil {
			return conn, nil
		}
		select {
		case <-ctx.Done():
			return nil, errors.Join(ctx.Err(), err)
		case <-vm.done:
			return nil, fmt.Errorf("connect to the console: %w", vm.Wait(ctx))
		case <-time.After(20 * time.Millisecond):
		}
	}
}

type syncBuffer struct {
	mu sync.Mutex
	b  strings.Builder
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}
