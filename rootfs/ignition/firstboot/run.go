package firstboot

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/coreos/ignition/v2/config/v3_5/types"

	"github.com/coracle-os/coracle/rootfs/ignition"
	"github.com/coracle-os/coracle/rootfs/ignition/detect"
	"github.com/coracle-os/coracle/rootfs/ignition/progress"
	"github.com/coracle-os/coracle/rootfs/provision/plan"
)

// Source is user-data from one place.
type Source struct {
	Name string
	Data []byte
	Err  error
	// Later tells that coreos-cloudinit gets it, from the address Name.
	Later bool
}

// Runner is one run of the program. All fields must be set.
type Runner struct {
	Root string // stands for "/"
	// Find returns the sources, the most important first. The error says that
	// a place that exists could not be asked, so that it is not known whether
	// there is a config.
	Find func(context.Context) ([]Source, error)
	// Network waits for the network, before the first document is fetched.
	Network func(context.Context)
	Fetcher ignition.Fetcher
	// Do takes a step.
	Do func(ctx context.Context, action plan.Action) (changed bool, err error)
	// Late tells that Find returns what an earlier run left to coreos-cloudinit.
	Late bool
	// Start lets what was written count, makes PID 1 read the units and starts
	// those that are new.
	Start func(context.Context, types.Config) error
	// BootID of this boot.
	BootID string
	// SetUp tells that the machine was set up before there was a program to
	// note it.
	SetUp bool
	// Lost is why the machine is without its state, "" when it has it. Without
	// it a first boot cannot be told from others.
	Lost string
	// Say tells the owner one line.
	Say func(string)

	progress progress.Progress
	store    store
}

// Run sets the machine up, unless that is done. The error says why it is not.
func (r *Runner) Run(ctx context.Context) error {
	if progress.Done(r.Root) {
		return nil
	}
	before, found, err := progress.Read(r.Root)
	if err != nil {
		return err
	}
	if !found && r.SetUp {
		return progress.Progress{Note: "the machine was set up by an earlier release"}.Finish(r.Root)
	}
	r.progress = progress.Progress{Storage: before.Storage, Boot: r.BootID, Awaits: before.Awaits}
	if text := before.Describe(r.BootID); found && text != "" && (r.Late || before.Awaits == "") {
		r.Say(text)
	}
	if err := r.progress.Keep(r.Root); err != nil {
		return err
	}
	source, err := r.choose(ctx)
	if err != nil {
		return r.fail(fmt.Errorf("find the config: %w", err))
	}
	switch {
	case source != nil && source.Later:
		before.Awaits = source.Name
		return before.Keep(r.Root)
	case source == nil:
		return progress.Progress{Note: "there is no Ignition config"}.Finish(r.Root)
	case !r.Late:
		r.progress.Awaits = ""
	}
	return r.apply(ctx, *source)
}

// choose picks the first Ignition config or, without one, a document that may be
// one.
func (r *Runner) choose(ctx context.Context) (*Source, error) {
	sources, err := r.Find(ctx)
	var chosen, later *Source
	for i, s := range sources {
		if s.Err != nil {
			r.Say(fmt.Sprintf("%s: %v", s.Name, s.Err))
			err = errors.Join(err, fmt.Errorf("%s: %w", s.Name, s.Err))
			continue
		}
		if s.Later {
			later = &sources[i]
		}
		if !detect.IsConfig(s.Data) {
			continue
		}
		if chosen != nil {
			r.Say(fmt.Sprintf("%s: this config is not used, that of %s is", s.Name, chosen.Name))
			continue
		}
		chosen = &sources[i]
	}
	if chosen != nil {
		return chosen, nil
	}
	return later, err
}

func (r *Runner) apply(ctx context.Context, source Source) error {
	digest := sha256.Sum256(source.Data)
	r.progress.Source, r.progress.Digest = source.Name, hex.EncodeToString(digest[:])
	doc := ignition.Compile(ctx, source.Name, source.Data, waiting{r})
	for _, p := range doc.Plan.Problems.Sorted() {
		r.Say(fmt.Sprintf("%s: %s", source.Name, p))
	}
	if r.Lost != "" {
		r.letOwnerIn(ctx, doc.Config)
		return r.fail(fmt.Errorf("the state of this machine is not there, and its disks are left as they are: %s", r.Lost))
	}
	if !doc.Valid() {
		r.letOwnerIn(ctx, doc.Config)
		return r.fail(errors.New("the config can not be applied: " + firstError(doc.Plan.Problems)))
	}
	r.store = store{dir: filepath.Join(r.Root, progress.SpoolPath), fetch: waiting{r}}
	if err := r.store.fetchAll(ctx, doc.Config); err != nil {
		r.letOwnerIn(ctx, doc.Config)
		return r.fail(err)
	}
	storage := storageDigest(doc.Config)
	r.progress.Steps = len(doc.Plan.Steps)
	for i, step := range doc.Plan.Steps {
		r.progress.Step, r.progress.Action = i+1, step.Action.String()
		if _, ok := step.Action.(ignition.KeepStorage); ok {
			// All of it is made. From this step on a boot may open it before the
			// next run, which could not make it again.
			r.progress.Storage = storage
		}
		if err := r.progress.Keep(r.Root); err != nil {
			return err
		}
		action := step.Action
		if r.progress.Storage == storage {
			action = withoutWiping(action)
		}
		if _, err := r.Do(ctx, action); err != nil {
			r.letOwnerIn(ctx, doc.Config)
			return r.fail(fmt.Errorf("step %d of %d, %w (%s)", i+1, len(doc.Plan.Steps), err, step.Origin))
		}
	}
	if err := r.progress.Finish(r.Root); err != nil {
		return err
	}
	r.Say(fmt.Sprintf("%s: applied, %d steps", source.Name, len(doc.Plan.Steps)))
	return r.Start(ctx, doc.Config)
}

// waiting is the fetcher that first waits for the network when a document is
// elsewhere.
type waiting struct{ r *Runner }

func (w waiting) Configure(ctx context.Context, c types.Ignition) error {
	for _, a := range c.Security.TLS.CertificateAuthorities {
		w.wait(ctx, a)
	}
	return w.r.Fetcher.Configure(ctx, c)
}

func (w waiting) Fetch(ctx context.Context, resource types.Resource) ([]byte, error) {
	w.wait(ctx, resource)
	return w.r.Fetcher.Fetch(ctx, resource)
}

func (w waiting) wait(ctx context.Context, resource types.Resource) {
	if s := resource.Source; s != nil && !strings.HasPrefix(*s, "data:") && !strings.HasPrefix(*s, "oem:") && *s != "" {
		w.r.Network(ctx)
	}
}

// Contents returns a document of the config; it was fetched before.
func (r *Runner) Contents(_ context.Context, resource types.Resource) ([]byte, error) {
	return r.store.get(resource)
}

// fail keeps and returns why a run ended.
func (r *Runner) fail(err error) error {
	r.progress.Problem = err.Error()
	service := "ignition"
	if r.Late {
		service = "coreos-cloudinit"
	}
	err = fmt.Errorf("%w; the machine is NOT set up: correct that and restart it, or `systemctl restart %s`", err, service)
	return errors.Join(err, r.progress.Keep(r.Root))
}

// letOwnerIn gives users their SSH keys, whatever else is wrong.
func (r *Runner) letOwnerIn(ctx context.Context, config types.Config) {
	for _, u := range config.Passwd.Users {
		if len(u.SSHAuthorizedKeys) == 0 {
			continue
		}
		only := types.PasswdUser{Name: u.Name, SSHAuthorizedKeys: u.SSHAuthorizedKeys, HomeDir: u.HomeDir, UID: u.UID, System: u.System, Shell: u.Shell}
		if _, err := r.Do(ctx, ignition.User{PasswdUser: only}); err != nil {
			r.Say(err.Error())
		}
	}
}

func firstError(problems plan.Report) string {
	for _, p := range problems {
		if p.Severity == plan.Error {
			if at := p.Position.String(); at != "" {
				return at + ": " + p.Text
			}
			return p.Text
		}
	}
	return ignition.ErrInvalid.Error()
}

func storageDigest(config types.Config) string {
	s := config.Storage
	data, err := json.Marshal([]any{s.Disks, s.Raid, s.Luks, s.Filesystems})
	if err != nil {
		return ""
	}
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

// withoutWiping makes a step of storage compare only.
func withoutWiping(action plan.Action) plan.Action {
	switch a := action.(type) {
	case ignition.Partition:
		a.WipeTable = nil
		a.Partitions = slices.Clone(a.Partitions)
		for i := range a.Partitions {
			a.Partitions[i].WipePartitionEntry = nil
		}
		a.Partitions = slices.DeleteFunc(a.Partitions, func(p types.Partition) bool { return p.ShouldExist != nil && !*p.ShouldExist })
		return a
	case ignition.MakeLUKS:
		a.WipeVolume = nil
		return a
	case ignition.MakeFilesystem:
		a.WipeFilesystem = nil
		return a
	}
	return action
}

// store has the documents of a config in files: they are fetched before the
// first step, and a machine's memory may be less than they are.
type store struct {
	dir   string
	fetch ignition.Fetcher
	names map[string]string
}

func (s *store) fetchAll(ctx context.Context, config types.Config) error {
	s.names = map[string]string{}
	if err := os.RemoveAll(s.dir); err != nil {
		return fmt.Errorf("fetch documents: %w", err)
	}
	if err := os.MkdirAll(s.dir, 0o700); err != nil {
		return fmt.Errorf("fetch documents: %w", err)
	}
	var errs []error
	add := func(r types.Resource, what string) {
		if err := s.add(ctx, r); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", what, err))
		}
	}
	for _, f := range config.Storage.Files {
		add(f.Contents, f.Path)
		for _, a := range f.Append {
			add(a, f.Path)
		}
	}
	for _, l := range config.Storage.Luks {
		add(l.KeyFile, "key of LUKS "+l.Name)
	}
	return errors.Join(errs...)
}

func key(r types.Resource) string {
	data, err := json.Marshal(r)
	if err != nil {
		return ""
	}
	return string(data)
}

func (s *store) add(ctx context.Context, r types.Resource) error {
	if r.Source == nil || *r.Source == "" || s.names[key(r)] != "" {
		return nil
	}
	data, err := s.fetch.Fetch(ctx, r)
	if err != nil {
		return err
	}
	name := filepath.Join(s.dir, fmt.Sprint(len(s.names)))
	if err := os.WriteFile(name, data, 0o600); err != nil {
		return err
	}
	s.names[key(r)] = name
	return nil
}

func (s *store) get(r types.Resource) ([]byte, error) {
	if r.Source == nil || *r.Source == "" {
		return nil, nil
	}
	return os.ReadFile(s.names[key(r)])
}
