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
	if o.output == "help" || slices.Contains(o.facilities, "help") {
		return o.listValues(stdio.Out)
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
	case o.fieldNames || o.flags.Changed("field"):
		return listFields(j, o, stdio.Out)
	}
	p, err := newPrinter(j, o, stdio.Out)
	if err != nil {
		return err
	}
	return p.print(ctx)
}

// listValues prints what -o and --facility take.
func (o *options) listValues(out io.Writer) error {
	text := strings.Join(format.Modes, "\n") + "\n"
	if o.output != "help" {
		text = "Available facilities:\n" + strings.Join(facilities, "\n") + "\n"
	}
	_, err := io.WriteString(out, text)
	return err
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
	last    journal.Record // the last one read; Seq 0 = none
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
	if o.noFull {
		p.format.Width = columns(out)
	}
	if file, ok := out.(*os.File); ok {
		p.format.Color = term.IsTerminal(int(file.Fd())) && os.Getenv("TERM") != "dumb" && os.Getenv("SYSTEMD_COLORS") != "0"
	}
	return p, nil
}

// columns is the width to cut lines at.
func columns(out io.Writer) int {
	if n, err := strconv.Atoi(os.Getenv("COLUMNS")); err == nil && n > 0 {
		return n
	}
	if file, ok := out.(*os.File); ok {
		if width, _, err := term.GetSize(int(file.Fd())); err == nil && width > 0 {
			return width
		}
	}
	return 80
}

func (p *printer) print(ctx context.Context) error {
	if err := p.stored(ctx); err != nil {
		return err
	}
	if p.options.follow {
		return p.follow(ctx)
	}
	if p.shown == 0 && !p.options.quiet && p.comments() {
		fmt.Fprintln(p.out, "-- No entries --")
	}
	if p.options.showCursor {
		if p.count == 0 {
			for record := range p.journal.Backward(p.filter) {
				p.last = record
				break
			}
		}
		if p.last.Seq == 0 {
			return errNothing
		}
		fmt.Fprintf(p.out, "-- cursor: %s\n", p.last.Cursor())
	}
	if p.shown == 0 && p.options.grep != "" {
		return errNothing
	}
	return nil
}

// comments reports whether the output is for people, with lines that begin
// with two dashes.
func (p *printer) comments() bool {
	return !slices.Contains([]string{"cat", "export", "json", "json-pretty", "json-sse", "json-seq"}, p.options.output)
}

// stored prints what is in the journal now. A number of lines is counted from
// the end, unless something says where to begin.
func (p *printer) stored(ctx context.Context) error {
	o := p.options
	records := p.journal.Forward(p.filter)
	switch {
	case o.reverse:
		records = p.journal.Backward(p.filter)
	case p.count >= 0 && o.cursor == "" && o.afterCursor == "" && o.since == "":
		records = slices.Values(p.journal.Tail(p.filter, p.count))
	}
	read := 0
	for record := range records {
		if p.count >= 0 && read >= p.count || ctx.Err() != nil {
			break
		}
		read++
		if err := p.one(record); err != nil {
			return err
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
	if p.last.Seq != 0 {
		p.format.Previous = format.MomentOf(&p.last)
		if record.Boot != p.last.Boot && p.comments() && !p.options.quiet {
			if _, err := fmt.Fprintf(p.out, "-- Boot %s --\n", record.Boot); err != nil {
				return err
			}
		}
	}
	p.last = record
	p.shown++
	return format.Write(p.out, &record, p.format)
}
