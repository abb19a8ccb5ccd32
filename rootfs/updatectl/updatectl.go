// Package updatectl is the program `updatectl`, with which people look at the
// updates of a machine and direct them, and the words that it exchanges with
// update-engine: one request and some responses, as lines of JSON on a UNIX
// socket.
//
// Left out on purpose: anything that needs the network or the disk; the engine
// does it, so that there is one place for it.
package updatectl

import (
	"context"
	"flag"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/coracle-os/coracle/rootfs/program"
)

const usage = `Usage: updatectl COMMAND

  status              what runs, what is installed, what the last check found
  check               ask the channel now; install what it has for this machine
  apply [--force] [FILE]
                      install the channel's release now, without waiting for the
                      roll-out's turn, or the one in a bundle FILE;
                      --force takes a release out of quarantine
  rollback            go back to the other slot's system at the next boot
  history             what happened, with the evidence of failed boots
  channel [NAME]      show or set the channel
`

// Main runs updatectl.
func Main(_ context.Context, args []string, stdio program.Stdio) int {
	request, err := parse(args[1:])
	if err != nil {
		fmt.Fprintf(stdio.Err, "updatectl: %v\n\n%s", err, usage)
		return 2
	}
	if request.Verb == "" {
		fmt.Fprint(stdio.Out, usage)
		return 0
	}
	last, err := Call(Socket, request, func(r Response) { fmt.Fprintln(stdio.Out, r.Message) })
	if err != nil {
		fmt.Fprintf(stdio.Err, "updatectl %s: %v\n", request.Verb, err)
		return 1
	}
	Print(stdio.Out, request, last)
	return 0
}

func parse(args []string) (Request, error) {
	if len(args) == 0 || args[0] == "help" || args[0] == "--help" || args[0] == "-h" {
		return Request{}, nil
	}
	r := Request{Verb: args[0]}
	flags := flag.NewFlagSet("updatectl", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	if r.Verb == "apply" {
		flags.BoolVar(&r.Force, "force", false, "")
	}
	if err := flags.Parse(args[1:]); err != nil {
		return Request{}, err
	}
	most := 0
	switch r.Verb {
	case "status", "check", "rollback", "history":
	case "apply":
		r.File, most = flags.Arg(0), 1
	case "channel":
		r.Channel, most = flags.Arg(0), 1
	default:
		return Request{}, fmt.Errorf("no command %q", r.Verb)
	}
	if flags.NArg() > most {
		return Request{}, fmt.Errorf("%s: argument %q is one too many", r.Verb, flags.Arg(most))
	}
	return r, nil
}

// Print writes the last response to a request as tables.
func Print(w io.Writer, request Request, r Response) {
	switch {
	case request.Verb == "history":
		printHistory(w, r.History)
	case request.Verb == "channel" && request.Channel == "" && r.Status != nil:
		fmt.Fprintln(w, r.Status.Channel)
	case request.Verb == "status" && r.Status != nil:
		printStatus(w, *r.Status)
	default:
		if r.Message != "" {
			fmt.Fprintln(w, r.Message)
		}
	}
}

func printStatus(w io.Writer, s Status) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	row := func(name, value string) {
		if value != "" {
			fmt.Fprintf(t, "%s\t%s\n", name, value)
		}
	}
	phase := s.Phase
	if s.Target != "" {
		phase = fmt.Sprintf("%s %s (%d %%)", s.Phase, s.Target, s.Percent)
	}
	row("Phase:", phase)
	row("Running:", fmt.Sprintf("%s in slot %s", s.Version, s.Slot))
	row("Root hash:", s.RootHash)
	row("Next boot:", s.Armed)
	row("Channel:", s.Channel)
	row("Servers:", strings.Join(s.Servers, ", "))
	row("Floor:", s.Floor)
	row("Last check:", stamp(s.LastCheck))
	row("Last contact:", stamp(s.LastContact))
	row("Next check:", stamp(s.NextCheck))
	row("Note:", s.Note)
	row("Error:", s.Error)
	for _, q := range s.Quarantine {
		row("Quarantine:", q)
	}
	t.Flush()
}

func printHistory(w io.Writer, records []Record) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "TIME\tEVENT\tVERSION\tROOT HASH\tFETCHED\tREASON")
	for _, r := range records {
		hash := r.RootHash
		if len(hash) > 12 {
			hash = hash[:12]
		}
		fetched := ""
		if r.Bytes > 0 {
			fetched = fmt.Sprintf("%.1f MB", float64(r.Bytes)/1e6)
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\n", stamp(r.Time), r.Kind, r.Version, hash, fetched, r.Reason)
	}
	t.Flush()
	for _, r := range records {
		if r.Evidence != "" {
			fmt.Fprintf(w, "\nEvidence of %s %s at %s:\n%s\n", r.Version, r.Kind, stamp(r.Time), strings.TrimRight(r.Evidence, "\n"))
		}
	}
}

func stamp(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format("2006-01-02 15:04:05Z")
}
