// Package getty is agetty(8) and login(1) in one program: it opens a terminal,
// makes it the controlling one, prints the banner, asks for a name and a
// password, and becomes that user's login shell. It serves getty@.service and
// serial-getty@.service.
//
// A password is needed always, except for the user core on a console that the
// kernel command line opens with coracle.autologin (every console) or
// coracle.autologin=ttyS0: who can set that already owns the machine.
//
// Left out on purpose: utmp and wtmp (the journal has the logins), modems, baud
// rate detection, PAM, and securetty: root has no password on Coracle.
package getty

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/coracle-os/coracle/initrd/cmdline"
	"github.com/coracle-os/coracle/rootfs/banner"
	"github.com/coracle-os/coracle/rootfs/password"
	"github.com/coracle-os/coracle/rootfs/program"
	"github.com/coracle-os/coracle/rootfs/user"
)

var _ program.Main = Main

const (
	autologinUser = "core"
	// wrongDelay is what a wrong password costs.
	wrongDelay = 3 * time.Second
	// promptLimit is how long the password prompt waits.
	promptLimit = 60 * time.Second
	// bannerLooks times, bannerEvery apart, the prompt looks for a change.
	bannerLooks = 30
	bannerEvery = 2 * time.Second
	// lookLimit is long: what a busy machine left out once would look like a change.
	lookLimit = 3 * time.Second
	// attempts is how often a password may be wrong before the terminal is
	// set up anew.
	attempts = 5
)

// Main runs "agetty [options] TTY [TERM]". Options of agetty are accepted and
// have no effect, except --autologin, which is refused: see the package comment.
func Main(ctx context.Context, args []string, stdio program.Stdio) int {
	if err := run(ctx, args[1:]); err != nil {
		fmt.Fprintf(stdio.Err, "agetty: %v\n", err)
		return 1
	}
	return 0
}

func run(ctx context.Context, args []string) error {
	name, err := terminalName(args)
	if err != nil {
		return err
	}
	t, err := openTerminal(filepath.Join("/dev", name))
	if err != nil {
		return err
	}
	text, err := os.ReadFile("/proc/cmdline")
	if err != nil {
		return fmt.Errorf("read kernel command line: %w", err)
	}
	host, _ := os.Hostname()
	l := login{root: "/", terminal: name, in: t, out: t.file, host: host, autologin: Autologin(string(text), name),
		banner: func(limit time.Duration) string { return banner.Text(ctx, banner.Sources{Limit: limit}) }, sleep: time.Sleep, log: slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{ReplaceAttr: withoutTime}))}
	account, err := l.who()
	if err != nil {
		if errors.Is(err, io.EOF) {
			return nil // hung up, or ^D at the prompt: the unit starts again
		}
		return err
	}
	return becomeShell(t, name, account)
}

// withoutTime leaves out what the journal adds itself.
func withoutTime(groups []string, a slog.Attr) slog.Attr {
	if len(groups) == 0 && a.Key == slog.TimeKey {
		return slog.Attr{}
	}
	return a
}

// terminalName finds the terminal among agetty's arguments: the first word
// that is neither an option nor a list of speeds.
func terminalName(args []string) (string, error) {
	for i := 0; i < len(args); i++ {
		arg := args[i]
		switch {
		case arg == "-a", strings.HasPrefix(arg, "--autologin"):
			return "", fmt.Errorf("%s is not supported; put coracle.autologin=TTY on the kernel command line", arg)
		case arg == "-o", arg == "-l", arg == "-f", arg == "-t", arg == "-H", arg == "-I", arg == "-d", arg == "-c" && i+1 < len(args) && !strings.HasPrefix(args[i+1], "-"):
			if arg != "-c" {
				i++
			}
		case strings.HasPrefix(arg, "-"), strings.Trim(arg, "0123456789,") == "":
		default:
			name := strings.TrimPrefix(arg, "/dev/")
			if name == "" || strings.Contains(name, "..") {
				return "", fmt.Errorf("%q is not a terminal", arg)
			}
			return name, nil
		}
	}
	return "", errors.New("which terminal? usage: agetty TTY")
}

// Autologin reports whether the kernel command line opens a terminal.
func Autologin(kernelArgs, terminal string) bool {
	value, found := cmdline.Parse(kernelArgs).Lookup("coracle.autologin")
	return found && (value == "" || value == "1" || strings.TrimPrefix(value, "/dev/") == terminal)
}

// lineReader is the input side of a terminal.
type lineReader interface {
	// Line prints the prompt and returns a line without its end. With echo
	// off nothing of it is shown, and what was typed before the prompt is dropped.
	// limit 0 means to wait for ever; after it the error is
	// os.ErrDeadlineExceeded. io.EOF means a hang-up or ^D.
	Line(prompt string, echo bool, limit time.Duration) (string, error)
}

// login asks who is there.
type login struct {
	root      string
	terminal  string
	in        lineReader
	out       io.Writer
	host      string
	banner    func(limit time.Duration) string
	autologin bool
	sleep     func(time.Duration)
	log       *slog.Logger
}

// who returns the account that logged in, or io.EOF.
func (l *login) who() (user.Account, error) {
	shown := l.banner(banner.Limit)
	fmt.Fprintf(l.out, "\n%s", shown)
	if issue, err := os.ReadFile(filepath.Join(l.root, "etc/issue")); err == nil {
		fmt.Fprint(l.out, string(issue))
	}
	if l.autologin {
		account, err := user.Lookup(l.root, autologinUser)
		if err == nil {
			fmt.Fprintf(l.out, "\n%s login: %s (automatic login)\n\n", l.host, autologinUser)
			l.log.Info("automatic login", "user", account.Name, "terminal", l.terminal)
			return account, nil
		}
		fmt.Fprintf(l.out, "Automatic login is not possible: %v\n", err)
	}
	for range attempts {
		name, err := l.name(&shown)
		if err != nil {
			return user.Account{}, err
		}
		if name = strings.TrimSpace(name); name == "" {
			continue
		}
		secret, err := l.in.Line("Password: ", false, promptLimit)
		fmt.Fprint(l.out, "\n")
		if errors.Is(err, os.ErrDeadlineExceeded) {
			fmt.Fprintf(l.out, "Login timed out after %v\n", promptLimit)
			return user.Account{}, io.EOF
		}
		if err != nil {
			return user.Account{}, err
		}
		if account, ok := l.check(name, secret); ok {
			l.log.Info("login", "user", account.Name, "terminal", l.terminal)
			return account, nil
		}
		l.log.Warn("login failed", "user", fmt.Sprintf("%.32q", name), "terminal", l.terminal)
		l.sleep(wrongDelay)
		fmt.Fprint(l.out, "Login incorrect\n")
	}
	return user.Account{}, io.EOF
}

// name reads who wants to log in. A machine that just booted gets its addresses
// while the prompt waits, so for a while the banner is shown again when it
// changes, as agetty does.
func (l *login) name(shown *string) (string, error) {
	prompt := fmt.Sprintf("\n%s login: ", l.host)
	for range bannerLooks {
		line, err := l.in.Line(prompt, true, bannerEvery)
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			return line, err
		}
		if now := l.banner(lookLimit); now != *shown {
			*shown = now
			prompt = fmt.Sprintf("\n\n%s\n%s login: ", now, l.host)
		} else {
			prompt = ""
		}
	}
	return l.in.Line(prompt, true, 0)
}

// check says yes only to a user with a password that was given right. The
// answer to an unknown user looks the same.
func (l *login) check(name, secret string) (user.Account, bool) {
	account, err := user.Lookup(l.root, name)
	if err != nil || account.Name != name {
		return user.Account{}, false
	}
	hash, err := user.PasswordHash(l.root, name)
	if err != nil {
		l.log.Warn("read password", "user", name, "err", err)
		return user.Account{}, false
	}
	ok, err := password.Check(hash, secret)
	if err != nil {
		l.log.Warn("check password", "user", name, "err", err)
		return user.Account{}, false
	}
	return account, ok
}
