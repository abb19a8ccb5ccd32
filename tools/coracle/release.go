package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/coracle-os/coracle/image/release"
	"github.com/coracle-os/coracle/rootfs/program"
	"github.com/coracle-os/coracle/tools/tufrepo"
)

const releaseUsage = `Usage: coracle release [FLAG...] [BUILD-DIR]
       coracle release promote [FLAG...] [VERSION]
       coracle release refresh [FLAG...]
       coracle release list    [FLAG...]
The first form publishes what coracle build made (build/ without an argument) on a channel.
promote gives a version to another channel; refresh signs a new timestamp, which expires after
a week: run it from a timer. Any web server can serve the repository.
`

// repoFlags are the flags of every command that works on a repository.
type repoFlags struct {
	*flag.FlagSet
	repo    string
	keyDirs keyDirFlag
}

// keyDirFlag collects -key-dir DIR.
type keyDirFlag []string

func (k *keyDirFlag) String() string { return strings.Join(*k, " ") }

func (k *keyDirFlag) Set(s string) error {
	*k = append(*k, s)
	return nil
}

func newRepoFlags(name, usage string, stdio program.Stdio) *repoFlags {
	f := &repoFlags{FlagSet: flag.NewFlagSet(name, flag.ContinueOnError)}
	f.SetOutput(stdio.Err)
	f.StringVar(&f.repo, "repo", "release/repo", "`directory` of the repository")
	f.Var(&f.keyDirs, "key-dir", "`directory` with private keys (*.key); may be repeated")
	f.Usage = func() {
		fmt.Fprint(f.Output(), usage)
		f.PrintDefaults()
	}
	return f
}

// open parses the flags, which may also follow arguments, and opens the
// repository; at most so many arguments are left over.
func (f *repoFlags) open(args []string, most int) (*tufrepo.Repo, []string, error) {
	rest, err := f.parse(args, most)
	if err != nil {
		return nil, nil, err
	}
	keys, err := tufrepo.LoadKeys(f.keyDirs...)
	if err != nil {
		return nil, nil, err
	}
	r, err := tufrepo.Open(f.repo, keys, time.Now)
	return r, rest, err
}

func (f *repoFlags) parse(args []string, most int) ([]string, error) {
	var rest []string
	for {
		if err := f.Parse(args); err != nil {
			if err == flag.ErrHelp {
				return nil, err
			}
			return nil, errUsage
		}
		if f.NArg() == 0 {
			break
		}
		rest = append(rest, f.Arg(0))
		args = f.Args()[1:]
	}
	if len(rest) > most {
		fmt.Fprintf(f.Output(), "%s: unexpected argument %q\n", f.Name(), rest[most])
		return nil, errUsage
	}
	return rest, nil
}

// publishFlags add what publish and promote have in common.
func (f *repoFlags) publishFlags(o *tufrepo.Options, channel string) {
	f.StringVar(&o.Channel, channel, "", "`channel` that gets the release, such as stable")
	f.BoolVar(&o.Downgrade, "downgrade", false, "the version may be older than the channel's; machines go back to it")
	f.Func("wave", "roll-out in `steps` PERCENT@AFTER, such as 10@0h,50@24h,100@72h; without it everybody at once", func(s string) (err error) {
		o.Wave, err = parseWave(s)
		return err
	})
}

func parseWave(s string) (release.Wave, error) {
	var wave release.Wave
	for step := range strings.SplitSeq(s, ",") {
		percent, after, ok := strings.Cut(step, "@")
		p, err1 := strconv.Atoi(strings.TrimSpace(percent))
		d, err2 := time.ParseDuration(strings.TrimSpace(after))
		if !ok || err1 != nil || err2 != nil || p < 0 || p > 100 || d < 0 {
			return nil, fmt.Errorf("step %q: want PERCENT@AFTER, such as 10@24h", step)
		}
		wave = append(wave, release.WaveStep{Percent: p, After: release.Duration(d)})
	}
	return wave, nil
}

// cmdRelease publishes a build, or does one of the other things with releases.
func cmdRelease(ctx context.Context, args []string, stdio program.Stdio) error {
	if len(args) > 0 {
		switch args[0] {
		case "promote":
			return cmdPromote(args[1:], stdio)
		case "refresh":
			return cmdRefresh(args[1:], stdio)
		case "list":
			return cmdList(args[1:], stdio)
		}
	}
	var o tufrepo.Options
	f := newRepoFlags("coracle release", releaseUsage, stdio)
	f.publishFlags(&o, "channel")
	f.BoolVar(&o.Fast, "fast", false, "compress less, in a fraction of the time: for a release to try")
	f.StringVar(&o.MinVersion, "min-version", "", "`version` that a machine must have before it takes this one")
	repo, rest, err := f.open(args, 1)
	if err != nil {
		return err
	}
	defer repo.Close()
	dir := "build"
	if len(rest) > 0 {
		dir = rest[0]
	}
	b, closeRoot, err := tufrepo.ReadBuild(dir)
	if err != nil {
		return err
	}
	defer closeRoot()
	p, err := repo.Publish(ctx, *b, o)
	if err != nil {
		return err
	}
	s := p.Info.Sizes
	if p.New {
		fmt.Fprintf(stdio.Out, "published %s, root hash %s: root %.1f MB, blob %.1f MB, index %.2f MB\n",
			p.Info.Version, p.Info.RootHash, mega(s.Root), mega(s.Blob), mega(s.Index))
		if len(p.Bases) > 0 {
			fmt.Fprintf(stdio.Out, "machines that run %s fetch patches\n", strings.Join(p.Bases, ", "))
		}
		if p.Skipped != nil {
			fmt.Fprintf(stdio.Out, "no patches: %v; machines that run such a version fetch whole chunks\n", p.Skipped)
		}
	}
	fmt.Fprintf(stdio.Out, "channel %s has %s\n", o.Channel, p.Info.Version)
	return nil
}

func cmdPromote(args []string, stdio program.Stdio) error {
	var o tufrepo.Options
	f := newRepoFlags("coracle release promote", releaseUsage, stdio)
	from := f.String("from", "", "`channel` that has the version now")
	f.publishFlags(&o, "to")
	repo, rest, err := f.open(args, 1)
	if err != nil {
		return err
	}
	defer repo.Close()
	version := ""
	if len(rest) > 0 {
		version = rest[0]
	}
	if version == "" && *from == "" {
		fmt.Fprintln(stdio.Err, "coracle release promote: name a version or -from CHANNEL")
		return errUsage
	}
	p, err := repo.Promote(*from, version, o)
	if err != nil {
		return err
	}
	fmt.Fprintf(stdio.Out, "channel %s has %s\n", o.Channel, p.Info.Version)
	return nil
}

func cmdRefresh(args []string, stdio program.Stdio) error {
	f := newRepoFlags("coracle release refresh", releaseUsage, stdio)
	repo, _, err := f.open(args, 0)
	if err != nil {
		return err
	}
	defer repo.Close()
	renewed, err := repo.Refresh()
	if err != nil {
		return err
	}
	fmt.Fprintf(stdio.Out, "signed anew: %s\n", strings.Join(renewed, ", "))
	printExpiry(stdio.Out, repo)
	return nil
}

// printExpiry says until when signatures hold.
func printExpiry(w io.Writer, repo *tufrepo.Repo) {
	for _, role := range tufrepo.Roles() {
		fmt.Fprintf(w, "%-10s holds until %s\n", role, repo.Expires(role).Format("2006-01-02 15:04 UTC"))
	}
}

func cmdList(args []string, stdio program.Stdio) error {
	f := newRepoFlags("coracle release list", releaseUsage, stdio)
	repo, _, err := f.open(args, 0)
	if err != nil {
		return err
	}
	defer repo.Close()
	for _, name := range repo.Channels() {
		c, err := repo.Channel(name)
		if err != nil {
			return err
		}
		fmt.Fprintf(stdio.Out, "%-10s %-12s root hash %s, since %s\n", name, c.Version, c.RootHash, c.Published.Format("2006-01-02 15:04 UTC"))
	}
	fmt.Fprintf(stdio.Out, "versions   %s\n", strings.Join(repo.Versions(), " "))
	printExpiry(stdio.Out, repo)
	return nil
}
