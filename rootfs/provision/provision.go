// Package provision is coreos-cloudinit: on every boot it finds the machine's
// user-data, compiles it to a plan and applies that, so that the machine is
// what its owner wrote. It never holds up a boot for long and never gives up
// because a part is bad: what can be applied is applied, what can not is said
// on the console, in the journal and in the exit code.
//
// Order: what is on the machine itself comes first, the OEM's before the
// owner's, then what the platform's metadata service has, then the document at
// cloud-config-url=. Of a disk that the platform made and its metadata service
// only one is used, the disk; the log says so. A document that names the
// machine's addresses waits up to NetworkTimeout for the network; the host
// name, the users and their SSH keys, which let the owner in, do not wait.
//
// User-data is read by package userdata, understood by package cloudconfig and
// applied by package apply; here is the flow. Ignition configs are left to the
// program ignition, package ignition/firstboot: it reads the same places before
// this one does, but for cloud-config-url=, of which this one hands a config on.
package provision

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/coracle-os/coracle/rootfs/cloudconfig"
	"github.com/coracle-os/coracle/rootfs/provision/apply"
	"github.com/coracle-os/coracle/rootfs/provision/format"
	"github.com/coracle-os/coracle/rootfs/provision/owned"
	"github.com/coracle-os/coracle/rootfs/provision/plan"
	"github.com/coracle-os/coracle/rootfs/userdata"
	"github.com/coracle-os/coracle/rootfs/userdata/platform"
)

// NetworkTimeout is how long a document that needs the machine's addresses is
// held back for the network.
const NetworkTimeout = 15 * time.Second

// FetchTimeout bounds the fetching of cloud-config-url= with all its retries.
const FetchTimeout = 90 * time.Second

// maxMessages bounds what is said about one source: a console is slow, and who
// reads this needs the first mistakes first.
const maxMessages = 100

// Provisioner is one run.
type Provisioner struct {
	Root string
	// Sources are what was found, in the order of applying; URL is the address
	// of one more, or "".
	Sources []userdata.Source
	URL     string
	// Platform is whose metadata service is asked, by Ask; None asks nobody.
	Platform platform.Name
	Ask      func(ctx context.Context, name platform.Name) (platform.Result, error)
	// Interfaces returns the network as it is, WaitNetwork waits until it is
	// online and enough is true, or ctx ends. Fetch gets a document by its address.
	Interfaces  func() []Interface
	WaitNetwork func(ctx context.Context, enough func() bool)
	Fetch       func(ctx context.Context, address string) ([]byte, error)
	Hostname    func() string
	// Ignition has the program ignition apply a config that was fetched; nil, as
	// for a person's run, applies none.
	Ignition func(ctx context.Context, name string, data []byte) error
	Executor *apply.Executor // nil: plan only
	// Compare, when there is no Executor, tells what a step would change; nil
	// prints the plan alone.
	Compare func(step plan.Step) apply.Comparison
	// Services is what apply.Executor.Services says; it counts for the last of
	// the sources, for an earlier one does not know what a later one configures.
	Services string
	// Say tells the owner one line.
	Say func(line string)

	// Users are those that provisioning made; nil remembers nobody.
	Users owned.Users

	summary Summary
	waited  bool
	// metadata is that of all sources.
	metadata cloudconfig.Metadata
	// plans are what was applied, whole the sources of which nothing is missing.
	plans []plan.Plan
	whole map[string]bool
	// asked is what the platform's service said, once it was asked.
	asked *userdata.Source
}

// Run applies all sources and returns what became of them.
func (p *Provisioner) Run(ctx context.Context) Summary {
	p.choose()
	if len(p.Sources) == 0 && p.Platform == platform.None && p.URL == "" {
		p.Say("no user-data found (OEM partition, config drive, NoCloud disk, fw_cfg, a cloud's metadata, cloud-config-url=): nothing to do")
	}
	p.network(ctx, p.Sources...)
	for i, source := range p.Sources {
		if needsAddresses(source) && p.Platform.NeedsNetwork() {
			p.letOwnersIn(ctx, p.Sources[i:])
			p.ask(ctx)
		}
		if needsAddresses(source) && !p.waited && !p.addressesKnown() {
			p.letOwnersIn(ctx, p.Sources[i:])
			p.wait(ctx, source.Name+": waiting for the network, it names the machine's addresses", p.addressesKnown)
		}
		p.last(i == len(p.Sources)-1 && p.Platform == platform.None && p.URL == "")
		p.apply(ctx, source)
	}
	if p.Platform != platform.None {
		p.ask(ctx)
		p.last(p.URL == "")
		p.apply(ctx, *p.asked)
	}
	if p.URL != "" {
		p.wait(ctx, "waiting for the network, to fetch "+p.URL, p.anyAddress)
		p.last(true)
		p.apply(ctx, p.fetch(ctx))
	}
	p.removeUsers(ctx)
	return p.summary
}

// wait holds a run back for the network, at most once and not when enough is
// true.
func (p *Provisioner) wait(ctx context.Context, why string, enough func() bool) {
	if !p.waited && p.Executor != nil && !enough() {
		p.Say(why)
		bounded, cancel := context.WithTimeout(ctx, NetworkTimeout)
		defer cancel()
		p.WaitNetwork(bounded, enough)
	}
	p.waited = true
}

// last lets the machine's services start with the source, if it is the last.
func (p *Provisioner) last(last bool) {
	if last && p.Executor != nil {
		p.Executor.Services = p.Services
	}
}

// addressesKnown asks for an IPv4 address: documents name hardly any other, and
// router advertisements bring an IPv6 address seconds before DHCP answers.
func (p *Provisioner) addressesKnown() bool {
	return addressesOf(p.Interfaces()).PrivateIPv4 != ""
}

func (p *Provisioner) anyAddress() bool {
	a := addressesOf(p.Interfaces())
	return a.PrivateIPv4 != "" || a.PrivateIPv6 != ""
}

func needsAddresses(source userdata.Source) bool {
	return slices.ContainsFunc(format.Texts(source.Data), cloudconfig.UsesAddresses)
}

func (p *Provisioner) fetch(ctx context.Context) userdata.Source {
	ctx, cancel := context.WithTimeout(ctx, FetchTimeout)
	defer cancel()
	source := userdata.Source{Name: p.URL}
	source.Data, source.Err = p.Fetch(ctx, p.URL)
	return source
}

func (p *Provisioner) letOwnersIn(ctx context.Context, sources []userdata.Source) {
	for _, source := range sources {
		p.letOwnerIn(ctx, source)
	}
}

// letOwnerIn applies, ahead of the rest, what needs no address of a source:
// host name, users and keys. Its outcome is not reported, for the same steps
// come again.
func (p *Provisioner) letOwnerIn(ctx context.Context, source userdata.Source) {
	data, err := cloudconfig.Gunzip(source.Data)
	if err != nil || p.Executor == nil {
		return
	}
	facts := cloudconfig.Facts{Metadata: source.Metadata}
	asked := cloudconfig.Compile(cloudconfig.Config{}, facts)
	switch cloudconfig.Detect(data) {
	case cloudconfig.KindCloudConfig:
		asked = cloudconfig.Compile(cloudconfig.Parse(data).Config, facts)
	case cloudconfig.KindMultipart:
		asked, _ = format.Multipart(data, facts)
	}
	var early plan.Plan
	for _, step := range asked.Steps {
		switch step.Action.(type) {
		case plan.SetHostname, plan.EnsureUser, plan.AuthorizeKeys:
			if !cloudconfig.UsesAddresses(fmt.Appendf(nil, " %+v", step.Action)) {
				early.Steps = append(early.Steps, step)
			}
		}
	}
	p.Executor.Apply(ctx, early, func(apply.Outcome) {})
	p.remember(source, cloudconfig.Detect(data))
}

// apply reports and applies one source.
func (p *Provisioner) apply(ctx context.Context, source userdata.Source) {
	record := SourceSummary{Name: source.Name}
	say := func(severity plan.Severity, text string) {
		if severity == plan.Error {
			record.Errors++
		}
		switch said := len(record.Messages); {
		case said < maxMessages:
			record.Messages = append(record.Messages, text)
			p.Say(source.Name + ": " + text)
		case said == maxMessages:
			record.Messages = append(record.Messages, "and more")
			p.Say(source.Name + ": and more")
		}
	}
	if source.Err != nil {
		say(plan.Error, "error: "+source.Err.Error())
	}
	for _, note := range source.Notes {
		say(plan.Warning, "warning: "+note)
	}
	kind, steps := p.plan(source, say)
	steps.Steps = append(networkPlan(source).Steps, steps.Steps...)
	record.Kind = string(kind)
	p.note(source, kind, steps, record.Errors == 0)
	for i, step := range steps.Steps {
		if p.Executor == nil {
			p.Say(fmt.Sprintf("%s: %3d %s%s", source.Name, i+1, step, p.compared(step)))
		}
		record.Steps = append(record.Steps, StepSummary{Action: step.Action.String(), Reason: step.Reason, Line: step.Origin.Line})
	}
	if p.Executor != nil {
		next := 0
		p.Executor.Apply(ctx, steps, func(o apply.Outcome) {
			record.Steps[next].Result = string(o.Result)
			if o.Err != nil {
				record.Steps[next].Error = o.Err.Error()
				say(severity(o), describe(o))
			}
			next++
		})
		if err := p.ignition(ctx, source, kind); err != nil {
			say(plan.Error, "error: "+err.Error())
		}
		p.Say(source.Name + ": " + record.count())
		p.remember(source, kind)
	}
	p.summary.Sources = append(p.summary.Sources, record)
}

// compared is how a step stands to the machine, as the end of its line.
func (p *Provisioner) compared(step plan.Step) string {
	if p.Compare == nil {
		return ""
	}
	c := p.Compare(step)
	if c.Detail == "" {
		return ": " + string(c.State)
	}
	return ": " + string(c.State) + ", " + c.Detail
}

func severity(o apply.Outcome) plan.Severity {
	if o.Result == apply.Failed {
		return plan.Error
	}
	return plan.Warning
}

func describe(o apply.Outcome) string {
	text := fmt.Sprintf("%s: %v (%s)", severity(o), o.Err, o.Step.Reason)
	if o.Step.Origin.Line > 0 {
		text = fmt.Sprintf("line %d: %s", o.Step.Origin.Line, text)
	}
	return text
}

// plan compiles a source with the machine's facts and says what is wrong with
// it.
func (p *Provisioner) plan(source userdata.Source, say func(plan.Severity, string)) (cloudconfig.Kind, plan.Plan) {
	facts := p.facts(source)
	data, err := cloudconfig.Gunzip(source.Data)
	if err != nil {
		say(plan.Error, "error: "+err.Error()+"; only the platform's metadata is applied")
		return cloudconfig.KindUnknown, cloudconfig.Compile(cloudconfig.Config{}, facts)
	}
	kind := cloudconfig.Detect(data)
	switch kind {
	case cloudconfig.KindCloudConfig:
		return kind, p.cloudConfig(data, facts, say)
	case cloudconfig.KindScript:
		return kind, cloudconfig.CompileScript(cloudconfig.Substitute(data, facts.Metadata.Addresses), facts)
	case cloudconfig.KindMultipart:
		compiled, report := format.Multipart(data, facts)
		sayReport(report, say)
		return kind, compiled
	case cloudconfig.KindIgnition:
		p.Say(source.Name + ": this is an Ignition config; it is applied on the first boot only")
	case cloudconfig.KindUnknown:
		say(plan.Error, "line 1: error: must be \"#cloud-config\" or begin with \"#!\": "+cloudconfig.UnknownHint(data))
	}
	return kind, cloudconfig.Compile(cloudconfig.Config{}, facts)
}

func (p *Provisioner) cloudConfig(data []byte, facts cloudconfig.Facts, say func(plan.Severity, string)) plan.Plan {
	doc := cloudconfig.Parse(cloudconfig.Substitute(data, facts.Metadata.Addresses))
	compiled := cloudconfig.Compile(doc.Config, facts)
	sayReport(format.Messages(doc, compiled), say)
	return compiled
}

func sayReport(report plan.Report, say func(plan.Severity, string)) {
	for _, problem := range report {
		if !problem.Formal {
			say(problem.Severity, problem.WithHint())
		}
	}
}

func (p *Provisioner) facts(source userdata.Source) cloudconfig.Facts {
	interfaces := p.Interfaces()
	environment, _ := p.read("/etc/environment")
	facts := cloudconfig.Facts{Metadata: source.Metadata, Hostname: p.Hostname()}
	if p.asked != nil {
		facts.Metadata.Addresses = source.Metadata.Addresses.Or(p.asked.Metadata.Addresses)
	}
	facts.Metadata.Addresses = facts.Metadata.Addresses.
		Or(chosenAddresses(string(environment), interfaces)).
		Or(addressesOf(interfaces))
	conf, err := p.read("/etc/coreos/update.conf")
	if errors.Is(err, fs.ErrNotExist) {
		conf, _ = p.read("/usr/share/coreos/update.conf")
	}
	facts.UpdateConf = conf
	return facts
}

func (p *Provisioner) read(path string) ([]byte, error) {
	return os.ReadFile(filepath.Join(p.Root, path))
}

// Summary is what became of a run, as /run/coracle/provision.json has it.
type Summary struct {
	Sources []SourceSummary `json:"sources"`
	// Millis is how long the run took, in milliseconds.
	Millis int64 `json:"millis"`
}

// SourceSummary is what became of one source.
type SourceSummary struct {
	Name     string        `json:"name"`
	Kind     string        `json:"kind"`
	Errors   int           `json:"errors"`
	Messages []string      `json:"messages,omitempty"`
	Steps    []StepSummary `json:"steps,omitempty"`
}

// StepSummary is what became of one step; Result is "changed", "unchanged",
// "failed" or "pending", and "" when the step was only planned.
type StepSummary struct {
	Action string `json:"action"`
	Reason string `json:"reason"`
	Line   int    `json:"line,omitempty"`
	Result string `json:"result,omitempty"`
	Error  string `json:"error,omitempty"`
}

// Failed tells whether anything was wrong.
func (s Summary) Failed() bool {
	for _, source := range s.Sources {
		if source.Errors > 0 {
			return true
		}
	}
	return false
}

func (s SourceSummary) count() string {
	changed, failed := 0, 0
	for _, step := range s.Steps {
		switch apply.Result(step.Result) {
		case apply.Changed:
			changed++
		case apply.Failed:
			failed++
		}
	}
	text := fmt.Sprintf("%s applied: %d steps, %d changed something", s.Kind, len(s.Steps), changed)
	if failed > 0 {
		text += fmt.Sprintf(", %d FAILED", failed)
	}
	if other := s.Errors - failed; other > 0 {
		text += fmt.Sprintf(", %d errors in the document", other)
	}
	return strings.Replace(text, "none applied", "metadata applied", 1)
}
