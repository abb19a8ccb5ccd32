package sandbox

import (
	"runtime"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// fprog is struct sock_fprog.
type fprog struct {
	n      uint16
	filter unsafe.Pointer
}

// Exec becomes the program, with the seccomp programs loaded before. From the
// first of them on nothing but this must make system calls in the thread, so it
// does not go through syscall.Exec. It returns only if loading fails; when
// execve fails after that, the process ends with status.
func (p Plan) Exec(path string, args, env []string, status int) error {
	if len(p.Programs) == 0 {
		return syscall.Exec(path, args, env)
	}
	file, err := syscall.BytePtrFromString(path)
	if err != nil {
		return err
	}
	argv, err := syscall.SlicePtrFromStrings(args)
	if err != nil {
		return err
	}
	envv, err := syscall.SlicePtrFromStrings(env)
	if err != nil {
		return err
	}
	list := make([]fprog, len(p.Programs))
	for i, b := range p.Programs {
		list[i] = fprog{uint16(len(b) / unix.SizeofSockFilter), unsafe.Pointer(unsafe.SliceData(b))}
	}
	const setModeFilter = 1
	for i := range list {
		_, _, errno := unix.RawSyscall(unix.SYS_SECCOMP, setModeFilter, 0, uintptr(unsafe.Pointer(&list[i])))
		if errno == unix.EACCES && i == 0 { // without the capability
			_, _, errno = unix.RawSyscall6(unix.SYS_PRCTL, unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0, 0)
			if errno == 0 {
				_, _, errno = unix.RawSyscall(unix.SYS_SECCOMP, setModeFilter, 0, uintptr(unsafe.Pointer(&list[i])))
			}
		}
		if errno != 0 {
			return &LoadError{errno}
		}
	}
	unix.RawSyscall(unix.SYS_EXECVE, uintptr(unsafe.Pointer(file)), uintptr(unsafe.Pointer(&argv[0])), uintptr(unsafe.Pointer(&envv[0])))
	unix.RawSyscall(unix.SYS_EXIT_GROUP, uintptr(status), 0, 0)
	runtime.KeepAlive(p.Programs)
	return nil
}

// LoadError says that the kernel did not take a seccomp program.
type LoadError struct{ Err error }

func (e *LoadError) Error() string { return "load a seccomp program: " + e.Err.Error() }

// Unwrap returns the kernel's error.
func (e *LoadError) Unwrap() error { return e.Err }
