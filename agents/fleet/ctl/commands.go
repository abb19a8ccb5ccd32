package ctl

import (
	"cmp"
	"context"
	"flag"
	"fmt"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/coracle-os/coracle/agents/fleet"
)

// action runs a command with its arguments that are no flags.
type action func(ctx context.Context, args []string) error

// command is one of fleetctl's.
type command struct {
	name, args, summary string
	bind                func(t *tool, f *flag.FlagSet) action // defines the flags
	command             bool                                  // its arguments end in a command for a machine
	hidden              bool
}

// commands are all of them, by name.
func commands() []command {
	return []command{
		{name: "cat", args: "UNIT", summary: "print a unit's content", bind: cat},
		{name: "destroy", args: "UNIT...", summary: "stop units and take them out of the cluster", bind: destroy},
		{name: "drain", args: "MACHINE", summary: "move all units away from a machine and let none come", bind: drain},
		{name: "fd-forward", args: "SOCKET", summary: "join standard input and output with a socket, for --tunnel", bind: fdForward, hidden: true},
		{name: "help", args: "[COMMAND]", summary: "print this, or what a command does", bind: func(t *tool, _ *flag.FlagSet) action {
			return func(_ context.Context, args []string) error { return t.help(args) }
		}},
		{name: "journal", args: "UNIT", summary: "print what a unit has logged, from its machine", bind: journal},
		{name: "list-machines", summary: "list the machines", bind: listMachines},
		{name: "list-unit-files", summary: "list the units of the cluster and where they are", bind: listUnitFiles},
		{name: "list-units", summary: "list the units that machines have, and their states", bind: listUnits},
		{name: "load", args: "UNIT...", summary: "place units on machines without starting them, submitting them first", bind: load},
		{name: "plan", args: "FILE...", summary: "print where units would go, and why; nothing is changed", bind: plan},
		{name: "rebalance", summary: "move units so that machines have about as many; prints the plan and asks", bind: rebalance},
		{name: "restart", args: "UNIT...", summary: "stop units and start them again", bind: restart},
		{name: "rollback", args: "UNIT...", summary: "put back what units were before the last start --replace --rolling", bind: rollback},
		{name: "ssh", args: "MACHINE|UNIT [COMMAND...]", summary: "open a shell, or run a command, on a machine or where a unit is", bind: sshCommand, command: true},
		{name: "start", args: "UNIT...", summary: "start units, submitting them first", bind: start},
		{name: "status", args: "UNIT...", summary: "print what the machines' init says of units", bind: status},
		{name: "stop", args: "UNIT...", summary: "stop units; they stay where they are", bind: stop},
		{name: "submit", args: "FILE...", summary: "give units to the cluster without placing them", bind: submit},
		{name: "top", summary: "show what machines have and what their units ask for", bind: top},
		{name: "undrain", args: "MACHINE", summary: "let units come to a drained machine again", bind: undrain},
		{name: "unload", args: "UNIT...", summary: "stop units and take them from their machines", bind: unload},
		{name: "verify", args: "UNIT", summary: "deprecated: units are not signed", bind: verify, hidden: true},
		{name: "version", summary: "print the version", bind: func(t *tool, _ *flag.FlagSet) action {
			return func(context.Context, []string) error { return t.version() }
		}},
	}
}

func find(name string) *command {
	all := commands()
	i, ok := slices.BinarySearchFunc(all, name, func(c command, name string) int { return cmp.Compare(c.name, name) })
	if !ok {
		return nil
	}
	return &all[i]
}

// help prints all commands, or one.
func (t *tool) help(args []string) error {
	if len(args) > 0 {
		c := find(args[0])
		if c == nil {
			return usageError{fmt.Errorf("fleetctl: unknown command %q", args[0])}
		}
		f := flag.NewFlagSet(c.name, flag.ContinueOnError)
		c.bind(t, f)
		fmt.Fprintf(t.Out, "fleetctl %s %s\n  %s\n", c.name, strings.TrimSpace("[FLAG...] "+c.args), c.summary)
		t.printFlags("Flags:", f)
		fmt.Fprintln(t.Out, "\nFlags of every command: fleetctl help")
		return nil
	}
	fmt.Fprintf(t.Out, "fleetctl %s: directs the scheduler of a cluster\n\nUsage: fleetctl [FLAG...] COMMAND [FLAG...] [ARGUMENT...]\n\nCommands:\n", fleet.Version)
	w := tabwriter.NewWriter(t.Out, 0, 8, 2, ' ', 0)
	for _, c := range commands() {
		if !c.hidden {
			fmt.Fprintf(w, "  %s\t%s\n", strings.TrimSpace(c.name+" "+c.args), c.summary)
		}
	}
	w.Flush()
	t.printFlags("Flags, also as variables FLEETCTL_<FLAG> (FLEETCTL_SSH_TIMEOUT):", new(options).flags("fleetctl"))
	return nil
}

// printFlags prints the flags of a set, if there are any.
func (t *tool) printFlags(title string, f *flag.FlagSet) {
	w := tabwriter.NewWriter(t.Out, 0, 8, 2, ' ', 0)
	f.VisitAll(func(one *flag.Flag) {
		if title != "" {
			fmt.Fprintf(w, "\n%s\n", title)
			title = ""
		}
		dashes := "--"
		if len(one.Name) == 1 {
			dashes = "-"
		}
		name := dashes + one.Name
		if one.DefValue != "" && one.DefValue != "false" {
			name += "=" + one.DefValue
		}
		fmt.Fprintf(w, "  %s\t%s\n", name, one.Usage)
	})
	w.Flush()
}
