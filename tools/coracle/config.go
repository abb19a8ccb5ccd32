package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"strings"

	"github.com/coracle-os/coracle/rootfs/cloudconfig"
	"github.com/coracle-os/coracle/rootfs/ignition"
	"github.com/coracle-os/coracle/rootfs/program"
	"github.com/coracle-os/coracle/rootfs/provision/format"
	"github.com/coracle-os/coracle/rootfs/provision/plan"
)

const configUsage = `Usage: coracle config validate [-strict] [-quiet] FILE...
       coracle config plan [OPTION...] FILE
validate says what is wrong with user-data before a machine has it: place, mistake, what may have
been meant and what becomes of it. plan prints the steps that a machine would take, each with its
reason and the place that it comes from. FILE may be gzip; "-" is the standard input. The exit code
is 0 when nothing is wrong, 1 when there are mistakes or a file cannot be read, and 2 when the
command line is not understood.
`

// configFormats are the kinds of user-data besides cloud-config and scripts.
func configFormats() format.Formats {
	return format.Formats{cloudconfig.KindIgnition: ignition.Format}
}

// cmdConfig checks user-data without a machine.
func cmdConfig(_ context.Context, args []string, stdio program.Stdio) error {
	if len(args) > 0 {
		switch args[0] {
		case "validate":
			return cmdConfigValidate(args[1:], stdio)
		case "plan":
			return cmdConfigPlan(args[1:], stdio)
		case "-h", "-help", "--help":
			fmt.Fprint(stdio.Out, configUsage)
			return nil
		}
	}
	fmt.Fprint(stdio.Err, configUsage)
	return errUsage
}

// configFlags are the flags of both commands.
func configFlags(name string, stdio program.Stdio) *flag.FlagSet {
	flags := flag.NewFlagSet("coracle config "+name, flag.ContinueOnError)
	flags.SetOutput(stdio.Err)
	flags.Usage = func() {
		fmt.Fprint(stdio.Err, configUsage)
		flags.PrintDefaults()
	}
	return flags
}

// parseConfigFlags parses a command line with at least one file.
func parseConfigFlags(flags *flag.FlagSet, args []string) ([]string, error) {
	if err := flags.Parse(args); errors.Is(err, flag.ErrHelp) {
		return nil, err
	} else if err != nil {
		return nil, errUsage
	}
	if flags.NArg() == 0 {
		flags.Usage()
		return nil, errUsage
	}
	return flags.Args(), nil
}

func cmdConfigValidate(args []string, stdio program.Stdio) error {
	flags := configFlags("validate", stdio)
	strict := flags.Bool("strict", false, "count remarks and outdated keys as mistakes, too")
	quiet := flags.Bool("quiet", false, "print mistakes only")
	files, err := parseConfigFlags(flags, args)
	if err != nil {
		return err
	}
	mistakes := 0
	for _, name := range files {
		data, err := cloudconfig.ReadFile(name, stdio.In)
		if err != nil {
			return err
		}
		kind, compiled, report := format.Compile(name, data, someFacts(), configFormats())
		found := printReport(stdio.Out, name, report, *strict)
		mistakes += found
		if !*quiet {
			fmt.Fprintf(stdio.Out, "%s: %s, %d steps, %s\n", name, kind, len(compiled.Steps), countMistakes(found))
		}
	}
	if mistakes > 0 {
		return exitCode(1)
	}
	return nil
}

// someFacts are addresses that no machine has (RFC 5737, RFC 3849), so that a
// value that is one is not taken for an empty one.
func someFacts() cloudconfig.Facts {
	return cloudconfig.Facts{Metadata: cloudconfig.Metadata{Addresses: cloudconfig.Addresses{
		PublicIPv4: "203.0.113.1", PrivateIPv4: "192.0.2.1", PublicIPv6: "2001:db8::1", PrivateIPv6: "2001:db8::2",
	}}}
}

func countMistakes(n int) string {
	switch n {
	case 0:
		return "no mistakes"
	case 1:
		return "1 mistake"
	}
	return fmt.Sprintf("%d mistakes", n)
}

func cmdConfigPlan(args []string, stdio program.Stdio) error {
	var facts cloudconfig.Facts
	flags := configFlags("plan", stdio)
	flags.StringVar(&facts.Metadata.PublicIPv4, "public-ipv4", "", "the `ADDRESS` that $public_ipv4 stands for")
	flags.StringVar(&facts.Metadata.PrivateIPv4, "private-ipv4", "", "the `ADDRESS` that $private_ipv4 stands for")
	flags.StringVar(&facts.Metadata.PublicIPv6, "public-ipv6", "", "the `ADDRESS` that $public_ipv6 stands for")
	flags.StringVar(&facts.Metadata.PrivateIPv6, "private-ipv6", "", "the `ADDRESS` that $private_ipv6 stands for")
	flags.StringVar(&facts.Hostname, "hostname", "", "the `NAME` of the machine, if the document has none")
	strict := flags.Bool("strict", false, "count remarks and outdated keys as mistakes, too")
	files, err := parseConfigFlags(flags, args)
	switch {
	case err != nil:
		return err
	case len(files) > 1:
		flags.Usage()
		return errUsage
	}
	data, err := cloudconfig.ReadFile(files[0], stdio.In)
	if err != nil {
		return err
	}
	for name, value := range map[string]string{"public-ipv4": facts.Metadata.PublicIPv4, "private-ipv4": facts.Metadata.PrivateIPv4,
		"public-ipv6": facts.Metadata.PublicIPv6, "private-ipv6": facts.Metadata.PrivateIPv6} {
		variable := "$" + strings.ReplaceAll(name, "-", "_")
		if value == "" && bytes.Contains(bytes.Join(format.Texts(data), nil), []byte(variable)) {
			fmt.Fprintf(stdio.Err, "%s: %s stands for nothing in this plan; give -%s\n", files[0], variable, name)
		}
	}
	_, compiled, _ := format.Compile(files[0], data, facts, configFormats())
	// An address that is not given is no mistake of the document's.
	known := facts
	known.Metadata.Addresses = facts.Metadata.Or(someFacts().Metadata.Addresses)
	_, _, report := format.Compile(files[0], data, known, configFormats())
	mistakes := printReport(stdio.Err, files[0], report, *strict)
	for i, step := range compiled.Steps {
		fmt.Fprintf(stdio.Out, "%3d %s\n", i+1, step)
	}
	if mistakes > 0 {
		return exitCode(1)
	}
	return nil
}

// printReport prints messages as compilers do and returns how many are
// mistakes.
func printReport(w io.Writer, name string, report plan.Report, strict bool) (mistakes int) {
	for _, p := range report {
		if p.Formal && !strict {
			continue
		}
		place := name
		if p.Line > 0 {
			place += fmt.Sprintf(":%d", p.Line)
		}
		if p.Line > 0 && p.Column > 0 {
			place += fmt.Sprintf(":%d", p.Column)
		}
		fmt.Fprintf(w, "%s: %s: %s\n", place, p.Severity, p.Text)
		if p.Hint != "" {
			fmt.Fprintf(w, "\t%s\n", p.Hint)
		}
		if strict || p.Severity != plan.Info {
			mistakes++
		}
	}
	return mistakes
}
