package locksmith

import (
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// terminals are the devices that people log in on, below dev. The login
// programs give one to its user and take it back at the end.
var terminals = []string{"pts/[0-9]*", "tty[1-9]*", "ttyS[0-9]*", "hvc[0-9]*"}

// loggedIn returns the terminals that belong to a user.
func loggedIn(dev string) []string {
	var out []string
	for _, pattern := range terminals {
		paths, _ := filepath.Glob(filepath.Join(dev, pattern)) // the patterns are good
		for _, p := range paths {
			info, err := os.Stat(p)
			if err != nil {
				continue
			}
			if st, ok := info.Sys().(*syscall.Stat_t); ok && st.Uid != 0 {
				out = append(out, p)
			}
		}
	}
	return out
}

// wall writes to each terminal; one that nobody reads does not hold it up.
func wall(paths []string, text string) {
	for _, p := range paths {
		f, err := os.OpenFile(p, os.O_WRONLY|syscall.O_NONBLOCK|syscall.O_NOCTTY, 0)
		if err != nil {
			continue
		}
		_ = f.SetWriteDeadline(time.Now().Add(time.Second))
		_, _ = f.WriteString("\r\n\aBroadcast message from locksmithd:\r\n" + text + "\r\n")
		f.Close()
	}
}
