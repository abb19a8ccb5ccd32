package firstboot

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/coreos/ignition/v2/config/v3_5/types"

	"github.com/coracle-os/coracle/initrd/modules"
	"github.com/coracle-os/coracle/rootfs/ignition"
	"github.com/coracle-os/coracle/rootfs/ignition/fetch"
	"github.com/coracle-os/coracle/rootfs/ignition/files"
	"github.com/coracle-os/coracle/rootfs/ignition/storage"
	"github.com/coracle-os/coracle/rootfs/install"
	"github.com/coracle-os/coracle/rootfs/network/state"
	"github.com/coracle-os/coracle/rootfs/provision/apply"
	"github.com/coracle-os/coracle/rootfs/provision/plan"
	"github.com/coracle-os/coracle/rootfs/provision/running"
	"github.com/coracle-os/coracle/rootfs/unit/load"
	"github.com/coracle-os/coracle/rootfs/userdata/imds"
	"github.com/coracle-os/coracle/rootfs/userdata/platform"
)

// presetPath is the policy that `systemctl preset` follows.
const presetPath = "/etc/systemd/system-preset/20-ignition.preset"

// executor takes every step.
type executor struct {
	root    string
	say     func(string)
	files   files.Executor
	storage storage.Executor
}

func (e *executor) do(ctx context.Context, action plan.Action) (changed bool, err error) {
	if changed, known, err := e.files.Do(ctx, action); known {
		return changed, err
	}
	if changed, known, err := e.storage.Do(ctx, action); known {
		return changed, err
	}
	switch a := action.(type) {
	case ignition.KernelArguments:
		return false, checkArguments(a, text(filepath.Join(e.root, "proc/cmdline")))
	case ignition.Mount:
		return e.mount(ctx, a)
	case ignition.Preset:
		return true, e.preset(ctx, a)
	}
	return e.apply(ctx, action)
}

// checkArguments compares the kernel's arguments with those that are wanted.
func checkArguments(a ignition.KernelArguments, line string) error {
	now := strings.Fields(line)
	var wrong []string
	for _, k := range a.ShouldExist {
		if !slices.Contains(now, string(k)) {
			wrong = append(wrong, fmt.Sprintf("%q is not there", k))
		}
	}
	for _, k := range a.ShouldNotExist {
		if slices.Contains(now, string(k)) {
			wrong = append(wrong, fmt.Sprintf("%q is there", k))
		}
	}
	if len(wrong) > 0 {
		return fmt.Errorf("kernel arguments: %s; they are part of the release's boot entry, which is one signed file: change kernel.arguments of the recipe and build an image, or take them out of the config", strings.Join(wrong, ", "))
	}
	return nil
}

// apply takes the steps that other formats have too.
func (e *executor) apply(ctx context.Context, action plan.Action) (changed bool, err error) {
	a := &apply.Executor{Root: e.root, Machine: running.Machine{}, Now: time.Now, Host: running.Host, KeyName: files.KeyName}
	a.Apply(ctx, plan.Plan{Steps: []plan.Step{{Action: action}}}, func(o apply.Outcome) {
		changed = o.Result == apply.Changed
		if o.Result == apply.Failed {
			err = o.Err
		} else if o.Err != nil {
			e.say("warning: " + o.Err.Error())
		}
	})
	return changed, err
}

func (e *executor) mount(ctx context.Context, a ignition.Mount) (changed bool, err error) {
	if changed, err = e.apply(ctx, plan.PlaceUnit{Path: "/etc/systemd/system/" + a.Unit, Content: a.Content}); err != nil {
		return changed, err
	}
	if err := (running.Machine{}).Reload(ctx); err != nil {
		return changed, fmt.Errorf("%s: %w", a, err)
	}
	if err := (running.Machine{}).Command(ctx, "start", a.Unit); err != nil {
		return changed, fmt.Errorf("%s: %w", a, err)
	}
	return true, nil
}

// preset writes the policy and follows it.
func (e *executor) preset(ctx context.Context, a ignition.Preset) error {
	word := "disable"
	if a.Enabled {
		word = "enable"
	}
	now, err := os.ReadFile(filepath.Join(e.root, presetPath))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if line := word + " " + a.Name + "\n"; !strings.Contains("\n"+string(now), "\n"+line) {
		if _, err := e.apply(ctx, plan.WriteFile{Path: presetPath, Content: append(now, line...), Mode: 0o644}); err != nil {
			return err
		}
	}
	if a.Enabled {
		_, err := e.apply(ctx, plan.EnableUnit{Name: a.Name})
		return err
	}
	installer, err := install.New(load.New(os.DirFS(e.root), running.Host))
	if err != nil {
		return fmt.Errorf("%s: %w", a, err)
	}
	p, err := installer.Disable([]string{a.Name}, install.Options{})
	if err == nil {
		err = install.Apply(e.root, p.Changes)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", a, err)
	}
	return nil
}

// start is Runner.Start for this machine.
func start(say func(string)) func(context.Context, types.Config) error {
	return func(ctx context.Context, config types.Config) error {
		restart := func(ctx context.Context, unit string) error { return running.Machine{}.Command(ctx, "restart", unit) }
		if err := effectsOf(config).take(ctx, "/", running.Host(), restart); err != nil {
			say("warning: it counts from the next boot on: " + err.Error())
		}
		return startUnits(ctx)
	}
}

// startUnits makes PID 1 read the units. While the machine boots, it starts
// what is enabled when provisioning is done; later, now.
func startUnits(ctx context.Context) error {
	if err := (running.Machine{}).Reload(ctx); err != nil {
		return fmt.Errorf("read the units of the config: %w", err)
	}
	if up, err := (running.Machine{}).Up(ctx, "multi-user.target"); err == nil && up {
		return (running.Machine{}).Start(ctx, "default.target")
	}
	return nil
}

func text(path string) string {
	data, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(data))
}

// exitError is a program that failed.
type exitError struct {
	code int
	text string
}

func (e exitError) Error() string { return e.text }

func runProgram(ctx context.Context, name string, args ...string) error {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = append(os.Environ(), "MDADM_NO_UDEV=1", "LC_ALL=C")
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit):
		return exitError{exit.ExitCode(), fmt.Sprintf("%s: %v: %s", filepath.Base(name), err, strings.Join(strings.Fields(string(out)), " "))}
	case err != nil:
		return fmt.Errorf("run %s: %w", name, err)
	}
	return nil
}

func loadModule(name string) error {
	loader, err := modules.New("/")
	if err != nil {
		return err
	}
	return loader.Load(name)
}

// networkTimeout bounds the wait for the network; fetching has its own.
const networkTimeout = 30 * time.Second

func waitNetwork(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, networkTimeout)
	defer cancel()
	for {
		if now, err := state.Read(state.Path); err == nil && now.Online {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// credentials are those of the platform that the machine is on.
type credentials struct{ platform platform.Name }

func (c credentials) AWS(ctx context.Context) (keys aws.Credentials, region string, err error) {
	if c.platform != platform.EC2 {
		return keys, "", fetch.ErrNoCredentials
	}
	client := imds.Client{Base: imds.LinkLocal}
	token, err := client.Do(ctx, http.MethodPut, "/latest/api/token", map[string]string{"X-aws-ec2-metadata-token-ttl-seconds": "300"}, nil)
	if err != nil {
		return keys, "", err
	}
	client.Header = map[string]string{"X-aws-ec2-metadata-token": string(token.Body)}
	roles, err := client.Optional(ctx, "/latest/meta-data/iam/security-credentials/")
	role, _, _ := strings.Cut(strings.TrimSpace(string(roles)), "\n")
	if err != nil || role == "" {
		return keys, "", errors.Join(err, fetch.ErrNoCredentials)
	}
	data, err := client.Get(ctx, "/latest/meta-data/iam/security-credentials/"+role)
	if err != nil {
		return keys, "", err
	}
	var answer struct{ AccessKeyId, SecretAccessKey, Token string }
	if err := json.Unmarshal(data, &answer); err != nil {
		return keys, "", err
	}
	where, err := client.Get(ctx, "/latest/meta-data/placement/region")
	return aws.Credentials{AccessKeyID: answer.AccessKeyId, SecretAccessKey: answer.SecretAccessKey, SessionToken: answer.Token}, string(where), err
}

func (c credentials) Google(ctx context.Context) (string, error) {
	if c.platform != platform.GCE {
		return "", fetch.ErrNoCredentials
	}
	client := imds.Client{Base: imds.LinkLocal, Header: map[string]string{"Metadata-Flavor": "Google"}}
	data, err := client.Optional(ctx, "/computeMetadata/v1/instance/service-accounts/default/token")
	if err != nil || data == nil {
		return "", errors.Join(err, fetch.ErrNoCredentials)
	}
	var answer struct {
		Token string `json:"access_token"`
	}
	if err := json.Unmarshal(data, &answer); err != nil {
		return "", err
	}
	return answer.Token, nil
}
