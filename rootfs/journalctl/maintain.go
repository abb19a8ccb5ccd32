package journalctl

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/coracle-os/coracle/rootfs/journal"
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
	if o.flags.Changed("vacuum-size") || o.flags.Changed("vacuum-time") || o.flags.Changed("vacuum-files") {
		return true, vacuum(o, dirs, stdio)
	}
	return done, nil
}

// bounds are what vacuuming leaves; 0 = no bound.
type bounds struct {
	size  uint64
	span  time.Duration
	files int
}

func (o *options) bounds() (b bounds, err error) {
	if o.flags.Changed("vacuum-size") {
		if b.size, err = timespan.ParseSize(o.vacuumSize); err != nil {
			return b, fmt.Errorf("Failed to parse vacuum size: %s", o.vacuumSize)
		}
	}
	if o.flags.Changed("vacuum-time") {
		if b.span, err = timespan.Parse(o.vacuumTime, time.Second); err != nil {
			return b, fmt.Errorf("Failed to parse vacuum time: %s", o.vacuumTime)
		}
	}
	if o.flags.Changed("vacuum-files") {
		n, err := strconv.ParseUint(o.vacuumFiles, 10, 31)
		if err != nil {
			return b, fmt.Errorf("Failed to parse vacuum files: %s", o.vacuumFiles)
		}
		b.files = int(n)
	}
	return b, nil
}

func vacuum(o *options, dirs []string, stdio program.Stdio) error {
	b, err := o.bounds()
	if err != nil {
		return err
	}
	for _, dir := range dirs {
		if _, err := os.Stat(dir); err != nil {
			continue
		}
		before, err := store.Usage(dir)
		if err != nil {
			return err
		}
		sizes, err := fileSizes(dir)
		if err != nil {
			return err
		}
		deleted, err := vacuumDir(dir, b)
		if err != nil {
			return err
		}
		after, err := store.Usage(dir)
		if err != nil {
			return err
		}
		for _, path := range deleted {
			fmt.Fprintf(stdio.Err, "Deleted archived journal %s (%s).\n", path, byteSize(sizes[path]))
		}
		fmt.Fprintf(stdio.Err, "Vacuuming done, freed %s of archived journals from %s.\n", byteSize(before-after), dir)
	}
	return nil
}

// fileSizes returns the bytes of each segment.
func fileSizes(dir string) (map[string]int64, error) {
	paths, err := store.Segments(dir)
	if err != nil {
		return nil, err
	}
	sizes := map[string]int64{}
	for _, path := range paths {
		if info, err := os.Stat(path); err == nil {
			sizes[path] = info.Size()
		}
	}
	return sizes, nil
}

// vacuumDir deletes the oldest segments, never the newest one.
func vacuumDir(dir string, b bounds) (deleted []string, err error) {
	paths, err := store.Segments(dir)
	if err != nil || len(paths) == 0 {
		return nil, err
	}
	active := paths[len(paths)-1]
	if b.size > 0 {
		if deleted, err = store.Vacuum(dir, int64(min(b.size, 1<<62)), active); err != nil {
			return nil, err
		}
	}
	if b.span > 0 {
		more, err := store.VacuumTime(dir, time.Now().Add(-b.span), active)
		if err != nil {
			return nil, err
		}
		deleted = append(deleted, more...)
	}
	for b.files > 0 && len(paths)-len(deleted) > b.files && len(deleted) < len(paths)-1 {
		path := paths[len(deleted)]
		if err := os.Remove(path); err != nil {
			return nil, err
		}
		deleted = append(deleted, path)
	}
	return deleted, nil
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
	rows := make([]bootRow, 0, len(boots))
	for i, boot := range boots {
		rows = append(rows, bootRow{i - len(boots) + 1, boot.ID.String(), boot.First, boot.Last})
	}
	width := len(strconv.Itoa(rows[0].Index))
	if o.reverse {
		slices.Reverse(rows)
	}
	if strings.HasPrefix(o.output, "json") {
		return writeJSON(out, rows, o.output == "json-pretty")
	}
	if !o.quiet && o.output != "cat" {
		width = max(width, 3)
		fmt.Fprintf(out, "%*s %-32s %-*s %s\n", width, "IDX", "BOOT ID", len(when(0)), "FIRST ENTRY", "LAST ENTRY")
	}
	for _, row := range rows {
		if _, err := fmt.Fprintf(out, "%*d %s %s %s\n", width, row.Index, row.ID, when(row.First), when(row.Last)); err != nil {
			return err
		}
	}
	return nil
}

// bootRow is a line of --list-boots; times are microseconds since 1970.
type bootRow struct {
	Index int    `json:"index"`
	ID    string `json:"boot_id"`
	First uint64 `json:"first_entry"`
	Last  uint64 `json:"last_entry"`
}

func writeJSON(out io.Writer, v any, pretty bool) error {
	encoder := json.NewEncoder(out)
	if pretty {
		encoder.SetIndent("", "\t")
	}
	return encoder.Encode(v)
}

// listFields prints the names of all fields, or the values of one.
func listFields(j *query.Journal, o *options, out io.Writer) error {
	if !o.fieldNames && !journal.ValidName(o.field) {
		return errors.New("Failed to query unique data objects: Invalid argument")
	}
	seen := map[string]bool{}
	for record := range j.Forward(nil) {
		for _, f := range record.Fields {
			if o.fieldNames {
				seen[f.Name] = true
			} else if f.Name == o.field {
				seen[f.Value] = true
			}
		}
		if o.fieldNames {
			seen["_BOOT_ID"], seen["_MACHINE_ID"] = true, true
		} else if o.field == "_BOOT_ID" || o.field == "_MACHINE_ID" {
			seen[record.Get(o.field)] = true
		}
	}
	for _, text := range slices.Sorted(maps.Keys(seen)) {
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
