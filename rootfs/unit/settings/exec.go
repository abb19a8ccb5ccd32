package settings

import (
	"encoding/base64"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"unicode/utf8"

	"github.com/coracle-os/coracle/rootfs/unit"
	"github.com/coracle-os/coracle/rootfs/unit/words"
)

// execOf returns the execution context of units that have one.
func execOf(u *unit.Unit) *unit.ExecContext {
	switch {
	case u.Service != nil:
		return &u.Service.ExecContext
	case u.Socket != nil:
		return &u.Socket.ExecContext
	case u.Mount != nil:
		return &u.Mount.ExecContext
	}
	return nil
}

// killOf returns how units that can be killed are.
func killOf(u *unit.Unit) *unit.Kill {
	switch {
	case u.Service != nil:
		return &u.Service.Kill
	case u.Socket != nil:
		return &u.Socket.Kill
	}
	return &u.Mount.Kill
}

var execSettings = map[string]setting{
	"Environment":         environment,
	"EnvironmentFile":     environmentFile,
	"PassEnvironment":     list(func(u *unit.Unit) *[]string { return &execOf(u).PassEnvironment }, nil),
	"UnsetEnvironment":    list(func(u *unit.Unit) *[]string { return &execOf(u).UnsetEnvironment }, nil),
	"User":                text(func(u *unit.Unit) *string { return &execOf(u).User }),
	"Group":               text(func(u *unit.Unit) *string { return &execOf(u).Group }),
	"SupplementaryGroups": list(func(u *unit.Unit) *[]string { return &execOf(u).SupplementaryGroups }, nil),
	"DynamicUser":         boolean(func(u *unit.Unit) *bool { return &execOf(u).DynamicUser }),
	"WorkingDirectory":    workingDirectory,
	"RootDirectory":       absPath(func(u *unit.Unit) *string { return &execOf(u).RootDirectory }),
	"UMask":               octal(func(u *unit.Unit) *int { return &execOf(u).UMask }),
	"Nice":                optional(func(u *unit.Unit) **int { return &execOf(u).Nice }, -20, 19),
	"OOMScoreAdjust":      optional(func(u *unit.Unit) **int { return &execOf(u).OOMScoreAdjust }, -1000, 1000),
	"NoNewPrivileges":     boolean(func(u *unit.Unit) *bool { return &execOf(u).NoNewPrivileges }),

	"RuntimeDirectory":           directories(func(u *unit.Unit) *[]string { return &execOf(u).RuntimeDirectory }),
	"RuntimeDirectoryMode":       octal(func(u *unit.Unit) *int { return &execOf(u).RuntimeDirectoryMode }),
	"RuntimeDirectoryPreserve":   text(func(u *unit.Unit) *string { return &execOf(u).RuntimeDirectoryPreserve }),
	"StateDirectory":             directories(func(u *unit.Unit) *[]string { return &execOf(u).StateDirectory }),
	"StateDirectoryMode":         octal(func(u *unit.Unit) *int { return &execOf(u).StateDirectoryMode }),
	"CacheDirectory":             directories(func(u *unit.Unit) *[]string { return &execOf(u).CacheDirectory }),
	"CacheDirectoryMode":         octal(func(u *unit.Unit) *int { return &execOf(u).CacheDirectoryMode }),
	"LogsDirectory":              directories(func(u *unit.Unit) *[]string { return &execOf(u).LogsDirectory }),
	"LogsDirectoryMode":          octal(func(u *unit.Unit) *int { return &execOf(u).LogsDirectoryMode }),
	"ConfigurationDirectory":     directories(func(u *unit.Unit) *[]string { return &execOf(u).ConfigurationDirectory }),
	"ConfigurationDirectoryMode": octal(func(u *unit.Unit) *int { return &execOf(u).ConfigurationMode }),

	"StandardInput":     stream(func(u *unit.Unit) *unit.Stream { return &execOf(u).StandardInput }, inputs),
	"StandardOutput":    stream(func(u *unit.Unit) *unit.Stream { return &execOf(u).StandardOutput }, outputs),
	"StandardError":     stream(func(u *unit.Unit) *unit.Stream { return &execOf(u).StandardError }, outputs),
	"StandardInputText": inputText,
	"StandardInputData": inputData,
	"TTYPath":           absPath(func(u *unit.Unit) *string { return &execOf(u).TTYPath }),
	"TTYReset":          boolean(func(u *unit.Unit) *bool { return &execOf(u).TTYReset }),
	"TTYVHangup":        boolean(func(u *unit.Unit) *bool { return &execOf(u).TTYVHangup }),
	"TTYVTDisallocate":  boolean(func(u *unit.Unit) *bool { return &execOf(u).TTYVTDisallocate }),
	"SyslogIdentifier":  text(func(u *unit.Unit) *string { return &execOf(u).SyslogIdentifier }),
	"SyslogLevel":       word(func(u *unit.Unit) *int { return &execOf(u).SyslogLevel }, levels),
	"SyslogFacility":    word(func(u *unit.Unit) *int { return &execOf(u).SyslogFacility }, facilities),
	"SyslogLevelPrefix": boolean(func(u *unit.Unit) *bool { return &execOf(u).SyslogLevelPrefix }),
	"UtmpIdentifier":    text(func(u *unit.Unit) *string { return &execOf(u).UtmpIdentifier }),
	"IgnoreSIGPIPE":     boolean(func(u *unit.Unit) *bool { return &execOf(u).IgnoreSIGPIPE }),

	"KillMode":          oneOf(func(u *unit.Unit) *unit.KillMode { return &killOf(u).KillMode }, killModes...),
	"KillSignal":        signal(func(u *unit.Unit) *syscall.Signal { return &killOf(u).KillSignal }),
	"RestartKillSignal": signal(func(u *unit.Unit) *syscall.Signal { return &killOf(u).RestartKillSignal }),
	"FinalKillSignal":   signal(func(u *unit.Unit) *syscall.Signal { return &killOf(u).FinalKillSignal }),
	"WatchdogSignal":    signal(func(u *unit.Unit) *syscall.Signal { return &killOf(u).WatchdogSignal }),
	"SendSIGKILL":       boolean(func(u *unit.Unit) *bool { return &killOf(u).SendSIGKILL }),
	"SendSIGHUP":        boolean(func(u *unit.Unit) *bool { return &killOf(u).SendSIGHUP }),

	"LimitCPU": rlimit("CPU", 0), "LimitFSIZE": rlimit("FSIZE", 1), "LimitDATA": rlimit("DATA", 2),
	"LimitSTACK": rlimit("STACK", 3), "LimitCORE": rlimit("CORE", 4), "LimitRSS": rlimit("RSS", 5),
	"LimitNPROC": rlimit("NPROC", 6), "LimitNOFILE": rlimit("NOFILE", 7), "LimitMEMLOCK": rlimit("MEMLOCK", 8),
	"LimitAS": rlimit("AS", 9), "LimitLOCKS": rlimit("LOCKS", 10), "LimitSIGPENDING": rlimit("SIGPENDING", 11),
	"LimitMSGQUEUE": rlimit("MSGQUEUE", 12), "LimitNICE": rlimit("NICE", 13), "LimitRTPRIO": rlimit("RTPRIO", 14),
	"LimitRTTIME": rlimit("RTTIME", 15),
}

// environment takes words NAME=value; an empty value resets the list.
func environment(p *pass, value string) error {
	env := &execOf(p.u).Environment
	if value == "" {
		*env = nil
		return nil
	}
	all, bad, err := words.Split(value)
	if bad {
		p.warn("Ignoring unknown escape sequences: \"%s\"", value)
	}
	for _, w := range all {
		e, err := p.x.Expand(w)
		if err != nil {
			p.warn("Failed to resolve unit specifiers in %q, ignoring: %s", w, err)
			continue
		}
		name, _, ok := strings.Cut(e, "=")
		if !ok || !validName(name) || !utf8.ValidString(e) {
			p.warn("Invalid environment assignment, ignoring: %s", e)
			continue
		}
		same := func(old string) bool { return strings.HasPrefix(old, name+"=") }
		if i := slices.IndexFunc(*env, same); i >= 0 {
			(*env)[i] = e
		} else {
			*env = append(*env, e)
		}
	}
	return err
}

func validName(s string) bool {
	for i, c := range []byte(s) {
		letter := c == '_' || c|0x20 >= 'a' && c|0x20 <= 'z'
		if !letter && (i == 0 || c < '0' || c > '9') {
			return false
		}
	}
	return s != ""
}

func environmentFile(p *pass, value string) error {
	files := &execOf(p.u).EnvironmentFiles
	if value == "" {
		*files = nil
		return nil
	}
	v, err := p.x.Expand(value)
	if err != nil {
		return fmt.Errorf("Failed to resolve unit specifiers in %q, ignoring: %w", value, err)
	}
	v, optional := strings.CutPrefix(v, "-")
	if v, err = absolute(v); err == nil {
		*files = append(*files, unit.EnvironmentFile{Path: v, Optional: optional})
	}
	return err
}

func workingDirectory(p *pass, value string) error {
	v, err := p.x.Expand(value)
	if err != nil {
		return fmt.Errorf("Failed to resolve unit specifiers in %q, ignoring: %w", value, err)
	}
	v, optional := strings.CutPrefix(v, "-")
	if v != "~" && v != "" {
		v, err = absolute(v)
		switch {
		case err != nil && !optional:
			return &refusal{err} // the program would run in the wrong place
		case err != nil:
			return err
		}
	}
	e := execOf(p.u)
	e.WorkingDirectory, e.WorkingDirectoryOptional = v, optional
	return nil
}

// optional takes a number that may be not set.
func optional(f field[*int], low, high int) setting {
	return func(p *pass, value string) error {
		if value == "" {
			*f(p.u) = nil
			return nil
		}
		n := 0
		err := number(func(*unit.Unit) *int { return &n }, low, high)(p, strings.TrimPrefix(value, "+"))
		if err == nil {
			*f(p.u) = &n
		}
		return err
	}
}

// directories takes relative paths.
func directories(f field[[]string]) setting {
	return list(f, func(w string) error {
		w, link, linked := strings.Cut(w, ":")
		if linked && (link == "" || strings.HasPrefix(link, "/") || slices.Contains(strings.Split(link, "/"), "..")) {
			return fmt.Errorf("%q is not a relative path without %q, ignoring", link, "..")
		}
		if strings.HasPrefix(w, "/") || w == "." || slices.Contains(strings.Split(w, "/"), "..") {
			return fmt.Errorf("%q is not a relative path without %q, ignoring", w, "..")
		}
		return nil
	})
}

// word takes a name from a table, or the number itself.
func word(f field[int], table []string) setting {
	return func(p *pass, value string) error {
		n := slices.Index(table, value)
		if n < 0 {
			var err error
			if n, err = strconv.Atoi(value); err != nil || n < 0 || n >= len(table) {
				return fmt.Errorf("Failed to parse %q, ignoring: it is one of %v", value, table)
			}
		}
		*f(p.u) = n
		return nil
	}
}

var (
	levels     = []string{"emerg", "alert", "crit", "err", "warning", "notice", "info", "debug"}
	facilities = []string{"kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron", "authpriv", "ftp",
		"12", "13", "14", "15", "local0", "local1", "local2", "local3", "local4", "local5", "local6", "local7"}
	inputs  = []unit.StreamKind{unit.StreamNull, unit.StreamTTY, unit.StreamTTYForce, unit.StreamTTYFail, unit.StreamSocket, unit.StreamData, unit.StreamFD}
	outputs = []unit.StreamKind{unit.StreamInherit, unit.StreamNull, unit.StreamTTY, unit.StreamJournal, unit.StreamJournalConsole,
		unit.StreamKmsg, unit.StreamKmsgConsole, unit.StreamSocket, unit.StreamFD}
)

// stream takes where a standard stream goes.
func stream(f field[unit.Stream], allowed []unit.StreamKind) setting {
	return func(p *pass, value string) error {
		v, err := p.x.Expand(value)
		if err != nil {
			return fmt.Errorf("Failed to resolve unit specifiers in %q, ignoring: %w", value, err)
		}
		kind, rest, _ := strings.Cut(v, ":")
		at := f(p.u)
		switch k := unit.StreamKind(kind); {
		case k == unit.StreamFile, k == unit.StreamAppend, k == unit.StreamTruncate:
			file, err := absolute(rest)
			if err == nil {
				*at = unit.Stream{Kind: k, Path: file, Data: at.Data}
			}
			return err
		case kind == "syslog" || kind == "syslog+console":
			p.warn("Standard output type %s is obsolete, using journal instead.", kind)
			*at = unit.Stream{Kind: unit.StreamKind("journal" + strings.TrimPrefix(kind, "syslog"))}
		case slices.Contains(allowed, k) && (rest == "" || k == unit.StreamFD):
			*at = unit.Stream{Kind: k, Name: rest, Data: at.Data}
		default:
			return fmt.Errorf("Failed to parse %q, ignoring: it is one of %v or file:, append:, truncate: with a path", value, allowed)
		}
		return nil
	}
}

// inputText adds a line to the data of standard input.
func inputText(p *pass, value string) error {
	in := &execOf(p.u).StandardInput
	if value == "" {
		in.Data = nil
		return nil
	}
	v, err := p.x.Expand(value)
	if err == nil {
		in.Data = append(append(in.Data, unescapeAll(v)...), '\n')
	}
	return err
}

func inputData(p *pass, value string) error {
	in := &execOf(p.u).StandardInput
	if value == "" {
		in.Data = nil
		return nil
	}
	raw, err := base64.StdEncoding.DecodeString(strings.Join(strings.Fields(value), ""))
	if err != nil {
		return fmt.Errorf("Failed to decode base64 data, ignoring: %w", err)
	}
	in.Data = append(in.Data, raw...)
	return nil
}
