package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/term"

	"github.com/coracle-os/coracle/image/build"
	"github.com/coracle-os/coracle/image/manifest"
	"github.com/coracle-os/coracle/image/recipe"
	"github.com/coracle-os/coracle/rootfs/program"
	"github.com/coracle-os/coracle/tools/progress"
)

// cmdBuild builds an image.
func cmdBuild(ctx context.Context, args []string, stdio program.Stdio) error {
	flags := flag.NewFlagSet("coracle build", flag.ContinueOnError)
	flags.SetOutput(stdio.Err)
	recipeFile := flags.String("recipe", "", "the recipe `file`; without it image/recipe/default.yaml")
	output := flags.String("o", "build", "`directory` for the image and what is kept between builds")
	like := flags.String("like", "", "`directory` of another build; what is the same there is not made again")
	source := flags.String("source", "", "top `directory` of the sources; found from the current one without it")
	more := flags.String("format", "", "`forms` to write too, separated by commas: "+strings.Join(formatNames(), ", "))
	keys := flags.String("secure-boot", "", "sign with the keys in this `directory`, which coracle key secure-boot makes")
	encrypt := flags.Bool("encrypt", false, "with -secure-boot: machines encrypt their state and seal its key to their TPM")
	update := flags.Bool("update", false, "look for newer Debian packages")
	if err := parseFlags(flags, args); err != nil {
		return err
	}
	formats, err := parseFormats(*more)
	if err != nil {
		return err
	}
	options, err := buildOptions(*recipeFile, *output, *source)
	if err != nil {
		return err
	}
	options.Update = *update
	if *keys != "" {
		if options.Recipe.SecureBoot.Keys, err = filepath.Abs(*keys); err != nil {
			return err
		}
	}
	if *encrypt {
		options.Recipe.SecureBoot.Encrypt = "tpm2"
		if options.Recipe.SecureBoot.Keys == "" {
			return errors.New("-encrypt wants -secure-boot too: the TPM has the key for releases that are signed")
		}
	}
	if *like != "" {
		if options.Like, err = filepath.Abs(*like); err != nil {
			return err
		}
	}
	start := time.Now()
	printer := newPrinter(stdio.Out, build.Steps(options.Recipe))
	options.Report = printer.Report
	printing, stop := context.WithCancel(ctx)
	ended := make(chan struct{})
	go func() { printer.Run(printing); close(ended) }()
	result, err := build.Run(ctx, options)
	stop()
	<-ended
	if err != nil {
		return err
	}
	summary(stdio.Out, result, *output)
	if err := moreFormats(ctx, formats, *output, result.Version, stdio.Out); err != nil {
		return err
	}
	fmt.Fprintf(stdio.Out, "done in %s\n", progress.Duration(time.Since(start)))
	return nil
}

// parseFlags parses args and refuses what is left over.
func parseFlags(flags *flag.FlagSet, args []string) error {
	if err := flags.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return err
		}
		return errUsage
	}
	if flags.NArg() > 0 {
		fmt.Fprintf(flags.Output(), "%s: unexpected argument %q\n", flags.Name(), flags.Arg(0))
		return errUsage
	}
	return nil
}

// buildOptions reads the recipe and finds the directories.
func buildOptions(recipeFile, output, source string) (build.Options, error) {
	o := build.Options{Now: time.Now, RecipeDir: filepath.Dir(recipeFile), RecipeText: recipe.Default()}
	var err error
	if o.Recipe, err = recipe.ReadFile(recipeFile); err != nil {
		return o, err
	}
	if recipeFile != "" {
		if o.RecipeText, err = os.ReadFile(recipeFile); err != nil {
			return o, err
		}
	}
	if o.Source, err = findSource(source); err != nil {
		return o, err
	}
	if o.Output, err = filepath.Abs(output); err != nil {
		return o, err
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return o, fmt.Errorf("find the cache directory: %w; set XDG_CACHE_HOME", err)
	}
	o.Cache = filepath.Join(cache, "coracle")
	return o, nil
}

// module is the first line of go.mod at the top of the sources.
const module = "module github.com/coracle-os/coracle\n"

// findSource returns the top of the sources: dir, or else the nearest parent of
// the current directory that is one.
func findSource(dir string) (string, error) {
	start := dir
	if start == "" {
		start = "."
	}
	at, err := filepath.Abs(start)
	if err != nil {
		return "", err
	}
	for {
		text, err := os.ReadFile(filepath.Join(at, "go.mod"))
		if err == nil && strings.HasPrefix(string(text), module) {
			return at, nil
		}
		parent := filepath.Dir(at)
		if dir != "" || parent == at {
			return "", fmt.Errorf("%q is not in the sources of Coracle, which the programs of an image are built from; "+
				"change to their directory or name it with -source", start)
		}
		at = parent
	}
}

func newPrinter(out io.Writer, steps []string) *progress.Printer {
	printer := &progress.Printer{Out: out, Steps: steps, Now: time.Now}
	if file, ok := out.(*os.File); ok && term.IsTerminal(int(file.Fd())) {
		printer.Terminal = true
		if width, _, err := term.GetSize(int(file.Fd())); err == nil {
			printer.Width = width
		}
	}
	return printer
}

// summary says what was built.
func summary(w io.Writer, m *manifest.Manifest, output string) {
	fmt.Fprintf(w, "Coracle %s (%s), kernel %s\n", m.Version, m.Channel, m.Kernel)
	fmt.Fprintf(w, "root hash %s\n", m.RootHash)
	fmt.Fprintf(w, "root: %d files, %.1f MB, image %.1f MB\n", m.Root.Files, mega(m.Root.FileBytes), mega(m.Root.ImageBytes))
	for _, r := range m.Results {
		note := ""
		if r.Name == build.RawName {
			note = " (sparse)"
		}
		fmt.Fprintf(w, "%-40s %8.1f MB%s\n", filepath.Join(output, r.Name), mega(r.Size), note)
	}
}

func mega(bytes int64) float64 { return float64(bytes) / 1e6 }
