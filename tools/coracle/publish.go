package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/ebs"
	"github.com/aws/aws-sdk-go-v2/service/ec2"

	"github.com/coracle-os/coracle/image/manifest"
	"github.com/coracle-os/coracle/rootfs/program"
	"github.com/coracle-os/coracle/tools/publish/ami"
	"github.com/coracle-os/coracle/tools/publish/clouds"
)

// cmdPublish gives an image to a cloud, or says how.
func cmdPublish(ctx context.Context, args []string, stdio program.Stdio) error {
	usage := func() {
		fmt.Fprintln(stdio.Err, "Usage: coracle publish CLOUD [FLAG...] [IMAGE]\n  ami           upload to Amazon EC2 and register")
		for _, c := range clouds.All() {
			fmt.Fprintf(stdio.Err, "  %-13s print the commands for %s\n", c.Name, c.Summary)
		}
	}
	if len(args) == 0 {
		usage()
		return errUsage
	}
	if args[0] == "ami" {
		return publishAMI(ctx, args[1:], stdio)
	}
	for _, c := range clouds.All() {
		if c.Name == args[0] {
			return publishCommands(c, args[1:], stdio)
		}
	}
	usage()
	if strings.HasPrefix(args[0], "-h") || strings.HasPrefix(args[0], "--h") {
		return flag.ErrHelp
	}
	return errUsage
}

// publishFlags parses what all clouds have; without an image it is the built one
// with the ending.
func publishFlags(flags *flag.FlagSet, args []string, ending string, stderr io.Writer) (image, name, version string, err error) {
	flags.SetOutput(stderr)
	given := flags.String("name", "", "`name` of the image in the cloud; coracle-VERSION without it")
	flags.StringVar(&version, "version", "", "`version` of the image; that of manifest.json beside it without it")
	if err := flags.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return "", "", "", err
		}
		return "", "", "", errUsage
	}
	if flags.NArg() > 1 {
		fmt.Fprintf(stderr, "%s: want one image, got %d\n", flags.Name(), flags.NArg())
		return "", "", "", errUsage
	}
	image = filepath.Join("build", "coracle"+ending)
	if flags.NArg() == 1 {
		image = flags.Arg(0)
	}
	if version == "" {
		if version, err = versionBeside(image); err != nil {
			return "", "", "", err
		}
	}
	if name = *given; name == "" {
		name = "coracle-" + version
	}
	return image, name, version, nil
}

func versionBeside(image string) (string, error) {
	data, err := os.ReadFile(filepath.Join(filepath.Dir(image), "manifest.json"))
	var m manifest.Manifest
	if err == nil {
		err = json.Unmarshal(data, &m)
	}
	if err == nil && m.Version == "" {
		err = errors.New("manifest.json has no version")
	}
	if err != nil {
		return "", fmt.Errorf("find the version of %q: %w; give it with -version", image, err)
	}
	return m.Version, nil
}

func publishCommands(c clouds.Cloud, args []string, stdio program.Stdio) error {
	flags := flag.NewFlagSet("coracle publish "+c.Name, flag.ContinueOnError)
	values := map[string]*string{}
	for _, need := range c.Needs {
		values[need.Flag] = flags.String(need.Flag, "", need.Help)
	}
	image, name, version, err := publishFlags(flags, args, c.Ending, stdio.Err)
	if err != nil {
		return err
	}
	file, err := os.Open(image)
	if err != nil {
		return fmt.Errorf("publish %s: %w; `coracle convert build/coracle.raw %s` makes it", c.Name, err, image)
	}
	defer file.Close()
	target := clouds.Target{}
	for key, value := range values {
		target[key] = *value
	}
	f := clouds.File{Path: image, Name: name, Ending: c.Ending, Version: version}
	if f.Size, f.SHA256, f.MD5, err = clouds.Digest(file); err != nil {
		return err
	}
	lines, err := c.Lines(f, target)
	if err != nil {
		return err
	}
	fmt.Fprintln(stdio.Out, strings.Join(lines, "\n"))
	return nil
}

// awsAttempts is how often a request to AWS is made before it has failed.
const awsAttempts = 10

func publishAMI(ctx context.Context, args []string, stdio program.Stdio) error {
	flags := flag.NewFlagSet("coracle publish ami", flag.ContinueOnError)
	region := flags.String("region", "", "AWS `region`; that of the environment or ~/.aws without it")
	dryRun := flags.Bool("dry-run", false, "say what would be done; ask nobody")
	state := flags.String("state", "", "`file` that a run which was cut off goes on from; IMAGE.ami-REGION without it")
	image, name, version, err := publishFlags(flags, args, ".raw", stdio.Err)
	if err != nil {
		return err
	}
	file, err := os.Open(image)
	if err != nil {
		return fmt.Errorf("publish ami: %w; `coracle build` makes it", err)
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return fmt.Errorf("publish ami: %w", err)
	}
	plan, err := ami.MakePlan(ctx, file, info.Size())
	if err != nil {
		return fmt.Errorf("publish ami: %q: %w", image, err)
	}
	p := &ami.Publisher{
		Region: *region, Name: name, Description: "Coracle " + version, Image: file, Plan: plan, State: *state,
		Say: func(text string) { fmt.Fprintln(stdio.Err, text) },
	}
	if *dryRun {
		if p.Region == "" {
			p.Region = "the region of the environment"
		}
		p.DryRun()
		return nil
	}
	settings, err := config.LoadDefaultConfig(ctx, func(o *config.LoadOptions) error {
		o.Region = *region
		o.Retryer = func() aws.Retryer { return retry.AddWithMaxAttempts(retry.NewStandard(), awsAttempts) }
		return nil
	})
	if err != nil {
		return fmt.Errorf("publish ami: %w", err)
	}
	if p.Region = settings.Region; p.Region == "" {
		return errors.New("publish ami: which region? give it with -region")
	}
	if p.State == "" {
		p.State = image + ".ami-" + p.Region
	}
	p.EBS, p.EC2 = ebs.NewFromConfig(settings), ec2.NewFromConfig(settings)
	id, err := p.Publish(ctx)
	if err != nil {
		return fmt.Errorf("publish ami: %w", err)
	}
	fmt.Fprintln(stdio.Out, id)
	return nil
}
