package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/coracle-os/coracle/image/build"
	"github.com/coracle-os/coracle/image/format"
	"github.com/coracle-os/coracle/image/inspect"
	"github.com/coracle-os/coracle/rootfs/program"
)

const convertUsage = `Usage: coracle convert [-format NAME] IMAGE FILE
Writes IMAGE (raw or qcow2) as FILE, in the form that its name tells or that is given.
`

// cmdConvert writes an image in another form.
func cmdConvert(ctx context.Context, args []string, stdio program.Stdio) error {
	flags := flag.NewFlagSet("coracle convert", flag.ContinueOnError)
	flags.SetOutput(stdio.Err)
	name := flags.String("format", "", "`name` of the form; without it the one that FILE's name tells")
	list := flags.Bool("list", false, "list the forms")
	flags.Usage = func() {
		fmt.Fprint(stdio.Err, convertUsage)
		flags.PrintDefaults()
		listFormats(stdio.Err)
	}
	if err := flags.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return err
		}
		return errUsage
	}
	if *list {
		return listFormats(stdio.Out)
	}
	if flags.NArg() != 2 {
		flags.Usage()
		return errUsage
	}
	from, to := flags.Arg(0), flags.Arg(1)
	find := func() (format.Format, error) { return format.ForFile(to) }
	if *name != "" {
		find = func() (format.Format, error) { return format.Find(*name) }
	}
	f, err := find()
	if err != nil {
		return err
	}
	if err := f.Check(); err != nil {
		return err
	}
	return withRaw(ctx, from, func(raw *os.File) error {
		source, err := sourceOf(raw)
		if err != nil {
			return fmt.Errorf("%s: %w", from, err)
		}
		return writeFormat(ctx, f, source, to, stdio.Out)
	})
}

func listFormats(out io.Writer) error {
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	fmt.Fprintln(w, "FORMAT\tFILE\tFOR")
	for _, f := range format.Formats() {
		fmt.Fprintf(w, "%s\t%s\t%s\n", f.Name, f.File, f.For)
	}
	return w.Flush()
}

// sourceOf says what release an image has; one that is none of ours is refused.
func sourceOf(raw *os.File) (format.Source, error) {
	info, err := raw.Stat()
	if err != nil {
		return format.Source{}, err
	}
	img, err := inspect.Open(raw, info.Size())
	if err != nil {
		return format.Source{}, err
	}
	source := format.Source{Raw: raw.Name(), Name: "coracle"}
	for _, uki := range img.UKIs {
		source.Version = uki.Version
	}
	return source, nil
}

// writeFormat converts and says what came out.
func writeFormat(ctx context.Context, f format.Format, source format.Source, to string, out io.Writer) error {
	if err := f.Write(ctx, source, to); err != nil {
		return err
	}
	info, err := os.Stat(to)
	if err != nil {
		return err
	}
	if info.IsDir() {
		fmt.Fprintln(out, to)
		return nil
	}
	fmt.Fprintf(out, "%-40s %8.1f MB\n", to, mega(info.Size()))
	return nil
}

func formatNames() (names []string) {
	for _, f := range format.Formats() {
		names = append(names, f.Name)
	}
	return names
}

// parseFormats reads the list that "build -format" takes. The build always
// writes raw and qcow2.
func parseFormats(list string) (formats []format.Format, err error) {
	for name := range strings.SplitSeq(list, ",") {
		if name = strings.TrimSpace(name); name == "" || name == "raw" || name == "qcow2" {
			continue
		}
		f, err := format.Find(name)
		if err != nil {
			return nil, err
		}
		if err := f.Check(); err != nil {
			return nil, err
		}
		if !slices.ContainsFunc(formats, func(g format.Format) bool { return g.Name == f.Name }) {
			formats = append(formats, f)
		}
	}
	return formats, nil
}

// moreFormats writes what a build was asked for beyond its usual results; a
// file that is newer than the image is not written again.
func moreFormats(ctx context.Context, formats []format.Format, output, version string, out io.Writer) error {
	raw := filepath.Join(output, build.RawName)
	image, err := os.Stat(raw)
	if err != nil {
		return err
	}
	for _, f := range formats {
		to := filepath.Join(output, f.Default("coracle"))
		if info, err := os.Stat(to); err == nil && info.ModTime().After(image.ModTime()) && !info.IsDir() {
			fmt.Fprintf(out, "%-40s %8.1f MB\n", to, mega(info.Size()))
			continue
		}
		if err := writeFormat(ctx, f, format.Source{Raw: raw, Name: "coracle", Version: version}, to, out); err != nil {
			return err
		}
	}
	return nil
}
