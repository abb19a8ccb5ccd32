package autofs

import (
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// use looks into a directory from a process group of its own.
func use(dir string) (wait func() error) {
	cmd := exec.Command("/bin/ls", filepath.Join(dir, "."))
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	err := cmd.Start()
	return func() error {
		if err != nil {
			return err
		}
		return cmd.Wait()
	}
}

// TestPoint needs root and a kernel with autofs.
func TestPoint(t *testing.T) {
	dir := t.TempDir()
	p, err := Mount(dir, time.Second)
	if err != nil {
		t.Fatal(err)
	}
	requests := make(chan Request)
	ended := make(chan error, 1)
	go func() { ended <- p.Run(func(r Request) { requests <- r }) }()
	next := func() Request {
		t.Helper()
		select {
		case r := <-requests:
			return r
		case <-time.After(30 * time.Second):
			t.Fatal("the kernel asks for nothing")
		}
		panic("unreachable")
	}

	wait := use(dir)
	r := next()
	if r.Expire || r.PID <= 0 {
		t.Errorf("%+v", r)
	}
	if err := p.Fail(r.Token); err != nil {
		t.Error(err)
	}
	if wait() == nil {
		t.Error("the directory could be used though its mounting failed")
	}

	wait = use(dir)
	r = next()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "file"), nil, 0o644); err != nil {
		t.Error(err)
	}
	if err := p.Ready(r.Token); err != nil {
		t.Error(err)
	}
	if err := wait(); err != nil {
		t.Error(err)
	}

	expired := make(chan error, 1)
	go func() {
		for {
			if done, err := p.Expire(); done || err != nil {
				expired <- err
				return
			}
			time.Sleep(50 * time.Millisecond)
		}
	}()
	if r = next(); !r.Expire {
		t.Errorf("%+v", r)
	}
	if err := unix.Unmount(dir, 0); err != nil {
		t.Error(err)
	}
	if err := p.Ready(r.Token); err != nil {
		t.Error(err)
	}
	if err := <-expired; err != nil {
		t.Error(err)
	}
	if err := p.Unmount(); err != nil {
		t.Error(err)
	}
	<-ended
	if err := use(dir)(); err != nil {
		t.Errorf("after the unmounting: %v", err)
	}
}
