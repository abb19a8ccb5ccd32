// Package systemdescape is the program systemd-escape(1): it escapes strings
// and paths for unit names. --instance is left out.
package systemdescape

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/pflag"

	"github.com/coracle-os/coracle/rootfs/program"
	"github.com/coracle-os/coracle/rootfs/unit/name"
)

var _ program.Main = Main

// Main is the program.
func Main(_ context.Context, args []string, stdio program.Stdio) int {
	out, err := run(args)
	if err != nil {
		fmt.Fprintln(stdio.Err, "systemd-escape:", err)
		return 1
	}
	fmt.Fprintln(stdio.Out, out)
	return 0
}

type options struct {
	suffix, template       string
	path, unescape, mangle bool
}

func run(args []string) (string, error) {
	var o options
	f := pflag.NewFlagSet("systemd-escape", pflag.ContinueOnError)
	f.SetOutput(io.Discard)
	f.StringVar(&o.suffix, "suffix", "", "add this unit type")
	f.StringVar(&o.template, "template", "", "put the text into this template")
	f.BoolVarP(&o.path, "path", "p", false, "the text is a path")
	f.BoolVarP(&o.unescape, "unescape", "u", false, "the other way round")
	f.BoolVarP(&o.mangle, "mangle", "m", false, "escape only what must be")
	if err := f.Parse(args[1:]); err != nil {
		if errors.Is(err, pflag.ErrHelp) {
			return "systemd-escape [OPTIONS...] STRING...\n\n" + f.FlagUsages(), nil
		}
		return "", err
	}
	if f.NArg() == 0 {
		return "", errors.New("not enough arguments: give a string or path")
	}
	var list []string
	for _, s := range f.Args() {
		e, err := o.one(s)
		if err != nil {
			return "", err
		}
		list = append(list, e)
	}
	return strings.Join(list, " "), nil
}

func (o options) one(s string) (string, error) {
	switch {
	case o.mangle:
		return name.Mangle(s, "service"), nil
	case o.unescape && o.path:
		return name.UnescapePath(s)
	case o.unescape:
		return name.Unescape(s)
	}
	e := name.Escape(s)
	if o.path {
		var err error
		if e, err = name.EscapePath(s); err != nil {
			return "", err
		}
	}
	switch {
	case o.template != "" && !name.IsTemplate(o.template):
		return "", fmt.Errorf("%q is not a template's name, such as %q", o.template, "a@.service")
	case o.template != "":
		return name.WithInstance(o.template, e), nil
	case o.suffix != "":
		return e + "." + o.suffix, nil
	}
	return e, nil
}
