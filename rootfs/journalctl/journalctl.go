// Package journalctl is journalctl(1): it prints the journal of the machine. It
// reads the files itself, so it also works when journald does not run. Options,
// output and exit codes are those of systemd's, so far as scripts use them;
// what is not supported is refused by name. There is no pager.
package journalctl

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/coracle-os/coracle/rootfs/journal"
	"github.com/coracle-os/coracle/rootfs/journal/format"
	"github.com/coracle-os/coracle/rootfs/journal/query"
	"github.com/coracle-os/coracle/rootfs/program"
	"golang.org/x/term"
)

var _ program.Main = Main

// errNothing says that a search found nothing: exit code 1 without a message.
var errNothing = errors.New("no entries")

// Main runs journalctl.
func Main(ctx context.Context, args []string, stdio program.Stdio) int {
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	o, err := parse(args[1:])
	if err == nil {
		err = run(ctx, o, stdio)
	}
	switch {
	case err == nil, errors.Is(err, syscall.EPIPE):
		return 0
	case errors.Is(err, errNothing):
		return 1
	}
	fmt.Fprintln(stdio.Err, err)
	return 1
}

func run(ctx context.Context, o *options, stdio program.Stdio) error {
	if o.help {
		_, err := fmt.Fprintf(stdio.Out, "journalctl [OPTIONS...] [FIELD=VALUE...]\n\nQuery the journal.\n\n%s", o.flags.FlagUsages())
		return err
	}
	if o.version {
		_, err := fmt.Fprintln(stdio.Out, "systemd 252 (coracle)\n+journal")
		return err
	}
	dirs, err := o.dirs()
	if err != nil {
		return err
	}
	if done, err := maintain(o, dirs, stdio); done || err != nil {
		return err
	}
	j, err := query.Open(dirs...)
	if err != nil {
		return fmt.Errorf("Failed to open journal: %w; are you root or in the group systemd-journal?", err)
	}
	defer j.Close()
	switch {
	case o.listBoots:
		return listBoots(j, o, stdio.Out)
	case o.fieldNames || o.field != "":
		return listFields(j, o, stdio.Out)
	}
	p, err := newPrinter(j, o, stdio.Out)
	if err != nil {
		return err
	}
	return p.print(ctx)
}

func (o *options) dirs() ([]string, error) {
	if o.directory != "" {
		return []string{o.directory}, nil
	}
	return query.LocalDirs(strings.TrimSuffix(o.root, "/"))
}

// printer prints the records that the options ask for.
type printer struct {
	journal *query.Journal
	filter  *query.Filter
	options *options
	format  format.Options
	out     io.Writer
	count   int
	shown   int
	boot    journal.ID
	last    journal.Record
}

func newPrinter(j *query.Journal, o *options, out io.Writer) (*printer, error) {
	if !slices.Contains(format.Modes, o.output) {
		return nil, fmt.Errorf("Unknown output format '%s'.", o.output)
	}
	filter, err := o.filter(j, time.Now())
	if err != nil {
		return nil, err
	}
	count, err := o.count()
	if err != nil {
		return nil, err
	}
	p := &printer{journal: j, filter: filter, options: o, out: out, count: count}
	p.format = format.Options{Mode: o.output, All: o.all, NoHostname: o.noHostname, Location: time.Local}
	if o.utc {
		p.format.Location = time.UTC
	}
	if o.outputFields != "" {
		p.format.Fields = strings.Split(o.outputFields, ",")
	}
	if file, ok := out.(*os.File); ok {
		p.format.Color = term.IsTerminal(int(file.Fd())) && os.Getenv("TERM") != "dumb" && os.Getenv("SYSTEMD_COLORS") != "0"
	}
	return p, nil
}

func (p *printer) print(ctx context.Context) error {
	if err := p.stored(ctx); err != nil {
		return err
	}
	if p.options.follow {
		return p.follow(ctx)
	}
	if p.shown == 0 {
		if !p.options.quiet && !slices.Contains([]string{"cat", "export", "json", "json-pretty", "json-sse"}, p.options.output) {
			fmt.Fprintln(p.out, "-- No entries --")
		}
		if p.options.grep != "" {
			return errNothing
		}
		return nil
	}
	if p.options.showCursor {
		fmt.Fprintf(p.out, "-- cursor: %s\n", p.last.Cursor())
	}
	return nil
}

// stored prints what is in the journal now.
func (p *printer) stored(ctx context.Context) error {
	switch {
	case p.options.reverse:
		for record := range p.journal.Backward(p.filter) {
			if p.count >= 0 && p.shown >= p.count || ctx.Err() != nil {
				break
			}
			if err := p.one(record); err != nil {
				return err
			}
		}
	case p.count >= 0:
		for _, record := range p.journal.Tail(p.filter, p.count) {
			if err := p.one(record); err != nil {
				return err
			}
		}
	default:
		for record := range p.journal.Forward(p.filter) {
			if ctx.Err() != nil {
				break
			}
			if err := p.one(record); err != nil {
				return err
			}
		}
	}
	return nil
}

func (p *printer) follow(ctx context.Context) error {
	after := p.last.Seq
	if after == 0 {
		after = p.journal.Last()
	}
	for record, err := range p.journal.Follow(ctx, p.filter, after) {
		if err != nil {
			return err
		}
		if err := p.one(record); err != nil {
			return err
		}
	}
	return nil
}

func (p *printer) one(record journal.Record) error {
	text := !slices.Contains([]string{"cat", "export", "json", "json-pretty", "json-sse"}, p.options.output)
	if p.shown > 0 && record.Boot != p.boot && text && !p.options.quiet {
		if _, err := fmt.Fprintf(p.out, "-- Boot %s --\n", record.Boot); err != nil {
			return err
		}
	}
	p.boot, p.last = record.Boot, record
	p.shown++
	return format.Write(p.out, &record, p.format)
}

// filter makes the query of the options.
func (o *options) filter(j *query.Journal, now time.Time) (*query.Filter, error) {
	f := &query.Filter{Units: o.units, Identifiers: o.identifiers, Facilities: o.facilities, Kernel: o.kernel}
	if o.utc {
		now = now.UTC()
	}
	var err error
	if f.Fields, err = query.ParseMatches(o.matches); err != nil {
		return nil, err
	}
	for _, limit := range []struct {
		text string
		to   *uint64
	}{{o.since, &f.Since}, {o.until, &f.Until}} {
		if limit.text != "" {
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
	if err := o.bootFilter(j, f); err != nil {
		return nil, err
	}
	if err := o.priorityFilter(f); err != nil {
		return nil, err
	}
	return f, o.placeFilter(f)
}

// placeFilter is --grep and the cursors.
func (o *options) placeFilter(f *query.Filter) (err error) {
	if o.grep != "" {
		pattern := o.grep
		insensitive := strings.ToLower(pattern) == pattern
		if o.caseSensitive != "" {
			insensitive = o.caseSensitive == "no" || o.caseSensitive == "false" || o.caseSensitive == "0"
		}
		if insensitive {
			pattern = "(?i)" + pattern
		}
		if f.Grep, err = regexp.Compile(pattern); err != nil {
			return fmt.Errorf("Bad pattern \"%s\": %w", o.grep, err)
		}
	}
	cursor, before := o.afterCursor, uint64(0)
	if o.cursor != "" {
		cursor, before = o.cursor, 1
	}
	if cursor != "" {
		seq, _, err := journal.ParseCursor(cursor)
		if err != nil {
			return err
		}
		f.AfterSeq = seq - before
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
			return fmt.Errorf("Data from the specified boot (%+d) is not available: %w", offset, err)
		}
		f.Boot = &id
		return nil
	}
	id, err := journal.ParseID(boot)
	if err != nil {
		return fmt.Errorf("Failed to parse boot descriptor '%s'", boot)
	}
	f.Boot = &id
	return nil
}

func (o *options) priorityFilter(f *query.Filter) error {
	if o.priority == "" {
		return nil
	}
	from, to, isRange := strings.Cut(o.priority, "..")
	if !isRange {
		from, to = "0", from
	}
	low, err := journal.ParsePriority(from)
	if err != nil {
		return fmt.Errorf("Unknown log level %s", o.priority)
	}
	high, err := journal.ParsePriority(to)
	if err != nil {
		return fmt.Errorf("Unknown log level %s", o.priority)
	}
	f.ByPriority, f.Priorities = true, [2]int{min(low, high), max(low, high)}
	return nil
}
