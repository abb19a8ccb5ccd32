package journalctl

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/coracle-os/coracle/rootfs/journal/query"
	"github.com/coracle-os/coracle/rootfs/journal/store"
	"github.com/coracle-os/coracle/rootfs/program"
	"github.com/coracle-os/coracle/rootfs/unit/timespan"
)

// maintain does what is not printing records. done says that it did.
func maintain(o *options, dirs []string, stdio program.Stdio) (done bool, err error) {
	switch {
	case o.diskUsage:
		used, err := store.Usage(dirs...)
		if err != nil {
			return true, err
		}
		_, err = fmt.Fprintf(stdio.Out, "Archived and active journals take up %s in the file system.\n", byteSize(used))
		return true, err
	case o.flush:
		return true, signalDaemon(syscall.SIGUSR1)
	case o.sync:
		return true, signalDaemon(syscall.Signal(35))
	}
	if o.rotate {
		done = true
		if err := signalDaemon(syscall.SIGUSR2); err != nil {
			return true, err
		}
	}
	if o.vacuumSize != "" || o.vacuumTime != "" || o.vacuumFiles > 0 {
		return true, vacuum(o, dirs, stdio)
	}
	return done, nil
}

func vacuum(o *options, dirs []string, stdio program.Stdio) error {
	for _, dir := range dirs {
		if _, err := os.Stat(dir); err != nil {
			continue
		}
		before, _ := store.Usage(dir)
		paths, err := store.Segments(dir)
		if err != nil || len(paths) == 0 {
			continue
		}
		active := paths[len(paths)-1]
		var deleted []string
		if o.vacuumSize != "" {
			size, err := timespan.ParseSize(o.vacuumSize)
			if err != nil {
				return fmt.Errorf("Failed to parse vacuum size: %s", o.vacuumSize)
			}
			if deleted, err = store.Vacuum(dir, int64(min(size, 1<<62)), active); err != nil {
				return err
			}
		}
		if o.vacuumTime != "" {
			span, err := timespan.Parse(o.vacuumTime, time.Second)
			if err != nil {
				return fmt.Errorf("Failed to parse vacuum time: %s", o.vacuumTime)
			}
			more, err := store.VacuumTime(dir, time.Now().Add(-span), active)
			if err != nil {
				return err
			}
			deleted = append(deleted, more...)
		}
		for o.vacuumFiles > 0 && len(paths)-len(deleted) > o.vacuumFiles && len(deleted) < len(paths)-1 {
			path := paths[len(deleted)]
			if err := os.Remove(path); err != nil {
				return err
			}
			deleted = append(deleted, path)
		}
		after, _ := store.Usage(dir)
		for _, path := range deleted {
			fmt.Fprintf(stdio.Err, "Deleted archived journal %s.\n", path)
		}
		fmt.Fprintf(stdio.Err, "Vacuuming done, freed %s of archived journals from %s.\n", byteSize(before-after), dir)
	}
	return nil
}

// signalDaemon finds journald by what runs in its unit's cgroup or, on another
// system, by name, and sends it a signal.
func signalDaemon(signal syscall.Signal) error {
	for _, path := range []string{"/sys/fs/cgroup/system.slice/systemd-journald.service/cgroup.procs"} {
		text, err := os.ReadFile(path)
		if err != nil {
			continue
		}
		for word := range strings.FieldsSeq(string(text)) {
			if pid, err := strconv.Atoi(word); err == nil && pid > 1 {
				return syscall.Kill(pid, signal)
			}
		}
	}
	return errors.New("journald is not running; try: systemctl restart systemd-journald")
}

func listBoots(j *query.Journal, o *options, out io.Writer) error {
	boots := j.Boots()
	if len(boots) == 0 {
		return errors.New("No boot found.")
	}
	location := time.Local
	if o.utc {
		location = time.UTC
	}
	const layout = "Mon 2006-01-02 15:04:05 MST"
	when := func(usec uint64) string { return time.UnixMicro(int64(usec)).In(location).Format(layout) }
	width := len(strconv.Itoa(1 - len(boots)))
	width = max(width, 3)
	if !o.quiet {
		fmt.Fprintf(out, "%*s %-32s %-*s %s\n", width, "IDX", "BOOT ID", len(when(0)), "FIRST ENTRY", "LAST ENTRY")
	}
	for i, boot := range boots {
		if _, err := fmt.Fprintf(out, "%*d %s %s %s\n", width, i-len(boots)+1, boot.ID, when(boot.First), when(boot.Last)); err != nil {
			return err
		}
	}
	return nil
}

// listFields prints the names of all fields, or the values of one.
func listFields(j *query.Journal, o *options, out io.Writer) error {
	seen := map[string]bool{}
	for record := range j.Forward(nil) {
		for _, f := range record.Fields {
			if o.fieldNames {
				seen[f.Name] = true
			} else if f.Name == o.field {
				seen[f.Value] = true
			}
		}
		if o.field == "_BOOT_ID" || o.field == "_MACHINE_ID" {
			seen[record.Get(o.field)] = true
		}
	}
	var all []string
	for text := range seen {
		all = append(all, text)
	}
	slices.Sort(all)
	for _, text := range all {
		if _, err := fmt.Fprintln(out, text); err != nil {
			return err
		}
	}
	return nil
}

// byteSize prints a size as systemd does: 8.0M.
func byteSize(n int64) string {
	const unit = 1024
	if n < unit {
		return fmt.Sprintf("%dB", n)
	}
	value, suffix := float64(n), 0
	for value >= unit && suffix < 4 {
		value /= unit
		suffix++
	}
	return fmt.Sprintf("%.1f%c", value, "BKMGT"[suffix])
}
