package journalctl

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"regexp/syntax"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/coracle-os/coracle/rootfs/journal"
	"github.com/coracle-os/coracle/rootfs/journal/query"
)

// filter makes the query of the options.
func (o *options) filter(j *query.Journal, now time.Time) (*query.Filter, error) {
	f := &query.Filter{Units: o.units, UserUnits: o.userUnits, Identifiers: o.identifiers, Kernel: o.kernel}
	if o.utc {
		now = now.UTC()
	}
	if one := (o.flags.Changed("since") || o.cursor != "") && o.afterCursor != "" || o.flags.Changed("since") && o.cursor != ""; one {
		return nil, errors.New("Please specify only one of --since=, --cursor=, and --after-cursor=.")
	}
	for _, limit := range []struct {
		name, text string
		to         *uint64
	}{{"since", o.since, &f.Since}, {"until", o.until, &f.Until}} {
		if o.flags.Changed(limit.name) {
			t, err := parseTime(limit.text, now)
			if err != nil {
				return nil, err
			}
			*limit.to = uint64(max(1, t.UnixMicro()))
		}
	}
	if f.Since != 0 && f.Until != 0 && f.Since > f.Until {
		return nil, errors.New("--since= must be before --until=.")
	}
	for _, step := range []func(*query.Journal, *query.Filter) error{o.bootFilter, o.unitFilter, o.levelFilter, o.matchFilter, o.grepFilter, o.placeFilter} {
		if err := step(j, f); err != nil {
			return nil, err
		}
	}
	return f, nil
}

// unitFilter refuses globs that no unit of the journal matches.
func (o *options) unitFilter(j *query.Journal, _ *query.Filter) error {
	for _, pattern := range o.units {
		if !strings.ContainsAny(pattern, "*?[") {
			continue
		}
		found := false
		for record := range j.Forward(nil) {
			names := []string{record.Get("_SYSTEMD_UNIT"), record.Get("UNIT"), record.Get("OBJECT_SYSTEMD_UNIT"), record.Get("COREDUMP_UNIT")}
			if found = slices.ContainsFunc(names, func(name string) bool { return query.MatchUnit([]string{pattern}, name) }); found {
				break
			}
		}
		if !found {
			return errors.New("Failed to add filter for units: No data available")
		}
	}
	return nil
}

// matchFilter reads FIELD=VALUE and paths of programs.
func (o *options) matchFilter(_ *query.Journal, f *query.Filter) (err error) {
	terms := slices.Clone(o.matches)
	for i, term := range terms {
		if strings.HasPrefix(term, "/") {
			if terms[i], err = programMatch(term); err != nil {
				return err
			}
		}
	}
	f.Fields, err = query.ParseMatches(terms)
	return err
}

// programMatch makes a match of a program's path: a script runs as its
// interpreter, so it is found by its name.
func programMatch(path string) (string, error) {
	real, err := filepath.EvalSymlinks(path)
	if err != nil {
		return "", fmt.Errorf("Couldn't canonicalize path: %s", errnoText(err))
	}
	file, err := os.Open(real)
	if err != nil {
		return "", fmt.Errorf("Failed to read %s: %s", real, errnoText(err))
	}
	defer file.Close()
	begin := make([]byte, 2)
	if n, _ := file.Read(begin); n == 2 && string(begin) == "#!" {
		name := filepath.Base(real)
		return "_COMM=" + name[:min(len(name), 15)], nil // what the kernel keeps of it
	}
	return "_EXE=" + real, nil
}

// errnoText is the kernel's reason, as C programs print it.
func errnoText(err error) string {
	if errors.Is(err, os.ErrNotExist) {
		return "No such file or directory"
	}
	if errors.Is(err, os.ErrPermission) {
		return "Permission denied"
	}
	return err.Error()
}

// grepFilter is --grep.
func (o *options) grepFilter(_ *query.Journal, f *query.Filter) (err error) {
	insensitive := strings.ToLower(o.grep) == o.grep
	if o.caseSensitive != "" {
		switch strings.ToLower(o.caseSensitive) {
		case "no", "n", "false", "f", "off", "0":
			insensitive = true
		case "yes", "y", "true", "t", "on", "1":
			insensitive = false
		default:
			return fmt.Errorf("Bad --case-sensitive= argument \"%s\": Invalid argument", o.caseSensitive)
		}
	}
	if o.grep == "" {
		return nil
	}
	pattern := "(?m)" + o.grep
	if insensitive {
		pattern = "(?i)" + pattern
	}
	if f.Grep, err = regexp.Compile(pattern); err != nil {
		var reason *syntax.Error
		if errors.As(err, &reason) {
			err = errors.New(reason.Code.String())
		}
		return fmt.Errorf("Bad pattern \"%s\": %w", o.grep, err)
	}
	return nil
}

// placeFilter is the cursors. With --reverse they say where to begin, too.
func (o *options) placeFilter(_ *query.Journal, f *query.Filter) error {
	cursor, inclusive := o.afterCursor, uint64(0)
	if o.cursor != "" {
		cursor, inclusive = o.cursor, 1
	}
	if cursor == "" {
		return nil
	}
	seq, _, err := journal.ParseCursor(cursor)
	if err != nil {
		return errors.New("Failed to seek to cursor: Invalid argument")
	}
	if o.reverse {
		f.BeforeSeq = seq + inclusive
	} else {
		f.AfterSeq = seq - min(inclusive, seq)
	}
	return nil
}

func (o *options) bootFilter(j *query.Journal, f *query.Filter) error {
	boot := o.boot
	if boot == "" && o.kernel {
		boot = "0"
	}
	if boot == "" || boot == "all" {
		return nil
	}
	if offset, err := strconv.Atoi(boot); err == nil && len(boot) < 32 {
		if offset == 0 && o.directory == "" && o.root == "" {
			if text, err := os.ReadFile("/proc/sys/kernel/random/boot_id"); err == nil {
				if id, err := journal.ParseID(string(text)); err == nil {
					f.Boot = &id
					return nil
				}
			}
		}
		id, err := j.BootAt(offset)
		if err != nil {
			return fmt.Errorf("Data from the specified boot (%+d) is not available: No such boot ID in journal", offset)
		}
		f.Boot = &id
		return nil
	}
	text, offset := boot[:min(len(boot), 32)], 0
	id, err := journal.ParseID(text)
	if err == nil && len(boot) > 32 {
		offset, err = strconv.Atoi(boot[32:])
	}
	if err != nil {
		return fmt.Errorf("Failed to parse boot descriptor '%s'", boot)
	}
	boots := j.Boots()
	i := slices.IndexFunc(boots, func(b query.Boot) bool { return b.ID == id })
	if i < 0 || i+offset < 0 || i+offset >= len(boots) {
		return fmt.Errorf("Data from the specified boot (%s) is not available: No such boot ID in journal", text)
	}
	f.Boot = &boots[i+offset].ID
	return nil
}

// levelFilter is --priority and --facility.
func (o *options) levelFilter(_ *query.Journal, f *query.Filter) error {
	for _, word := range o.facilities {
		n := slices.Index(facilities, word)
		if number, err := strconv.Atoi(word); n < 0 && err == nil && number >= 0 && number < len(facilities) {
			n = number
		}
		if n < 0 {
			return fmt.Errorf("Bad --facility= argument \"%s\".", word)
		}
		f.Facilities = append(f.Facilities, strconv.Itoa(n))
	}
	if o.priority == "" {
		return nil
	}
	from, to, isRange := strings.Cut(o.priority, "..")
	if !isRange {
		from, to = "0", from
	}
	low, err := journal.ParsePriority(from)
	high, highErr := journal.ParsePriority(to)
	if err != nil || highErr != nil {
		if isRange {
			return fmt.Errorf("Failed to parse log level range %s", o.priority)
		}
		return fmt.Errorf("Unknown log level %s", o.priority)
	}
	f.ByPriority, f.Priorities = true, [2]int{min(low, high), max(low, high)}
	return nil
}

// facilities are the names of syslog(3), by number.
var facilities = []string{"kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron", "authpriv", "ftp",
	"12", "13", "14", "15", "local0", "local1", "local2", "local3", "local4", "local5", "local6", "local7"}
