package cloudconfig

import (
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/coracle-os/coracle/rootfs/provision/plan"
)

// Facts are what a plan needs to know besides the document.
type Facts struct {
	Metadata Metadata
	// UpdateConf is the content of /etc/coreos/update.conf, else of
	// /usr/share/coreos/update.conf, else nil.
	UpdateConf []byte
	// Hostname is the machine's present name.
	Hostname string
}

// Metadata is what the platform says about the machine.
type Metadata struct {
	Addresses
	Hostname string
	SSHKeys  []string
}

// Compile turns a decoded document into a plan. The zero Config gives what
// every run does.
func Compile(config Config, facts Facts) plan.Plan {
	c := compiler{facts: facts, config: config}
	c.hostname()
	c.users()
	c.files()
	c.environment()
	c.units()
	return c.plan
}

// CompileScript is the plan of user-data that is a script: what the metadata
// asks for, then the script.
func CompileScript(script []byte, facts Facts) plan.Plan {
	p := Compile(Config{}, facts)
	p.Steps = append(p.Steps, plan.Step{
		Action: plan.RunScript{Content: script}, Reason: "user-data is a script", Origin: plan.Origin{Position: plan.Position{Line: 1}},
	})
	return p
}

type compiler struct {
	facts  Facts
	config Config
	plan   plan.Plan
}

func (c *compiler) step(action plan.Action, at plan.Position, reason string, args ...any) {
	c.plan.Steps = append(c.plan.Steps, plan.Step{Action: action, Origin: plan.Origin{Position: at}, Reason: fmt.Sprintf(reason, args...)})
}

func (c *compiler) problem(at plan.Position, format string, args ...any) {
	c.plan.Problems.Add(at, plan.Error, format, args...)
}

func (c *compiler) hostname() {
	name, at, reason := strings.TrimSpace(c.config.Hostname), c.config.Origin.At("hostname"), "hostname"
	if name == "" && c.facts.Metadata.Hostname != "" {
		name, at, reason = c.facts.Metadata.Hostname, plan.Position{}, "hostname from the platform's metadata"
	}
	switch {
	case name == "":
		return
	case len(name) > 64 || !consistsOf(name, ".-_"):
		c.problem(at, "hostname: %q is not a host name (letters, digits, \"-\" and \".\", at most 64); it is not set", name)
		return
	}
	c.facts.Hostname = name
	c.step(plan.SetHostname{Name: name}, at, "%s", reason)
}

// isUserName tells whether useradd takes a name. Patterns would be shorter, but
// the binary that this is part of starts often, and pays for each at each start.
func isUserName(name string) bool {
	return name != "" && len(name) <= 32 && consistsOf(name, "_.-") && !strings.ContainsAny(name[:1], ".-0123456789")
}

// consistsOf tells whether s has only ASCII letters, digits and the characters
// of also.
func consistsOf(s, also string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && !strings.ContainsRune(also, r)
	})
}

func (c *compiler) users() {
	for i, u := range c.config.Users {
		at := u.Origin.At("name")
		if !isUserName(u.Name) {
			c.problem(at, "users[%d].name: %q is not a user name; the user is left out", i, u.Name)
			continue
		}
		if u.SSHImportGithubUser != "" || len(u.SSHImportGithubs) > 0 || u.SSHImportURL != "" {
			c.problem(at, "users[%d]: keys are not fetched from remote addresses; put them in ssh_authorized_keys", i)
		}
		c.step(plan.EnsureUser{User: u.plan()}, at, "users[%d]", i)
		c.keys(u.Name, u.SSHAuthorizedKeys, u.Origin.At("ssh_authorized_keys"), fmt.Sprintf("users[%d].ssh_authorized_keys", i))
	}
	keys := slices.Concat(c.config.SSHAuthorizedKeys, c.facts.Metadata.SSHKeys)
	c.keys("core", keys, c.config.Origin.At("ssh_authorized_keys"), "ssh_authorized_keys")
}

func (c *compiler) keys(user string, keys []string, at plan.Position, reason string) {
	var trimmed []string
	for _, key := range keys {
		if key = strings.TrimSpace(key); key != "" {
			trimmed = append(trimmed, key)
		}
	}
	if len(trimmed) > 0 {
		c.step(plan.AuthorizeKeys{User: user, Keys: trimmed}, at, "%s", reason)
	}
}

func (c *compiler) files() {
	for i, f := range c.config.WriteFiles {
		field := fmt.Sprintf("write_files[%d]", i)
		at := f.Origin.At("path")
		if !path.IsAbs(f.Path) || strings.ContainsRune(f.Path, 0) || path.Clean(f.Path) == "/" {
			c.problem(at, "%s.path: %q is not an absolute path of a file; it is not written", field, f.Path)
			continue
		}
		content, err := DecodeContent(f.Content, f.Encoding)
		if err != nil {
			c.problem(f.Origin.At("content"), "%s.content: %v; %s is not written", field, err, f.Path)
			continue
		}
		mode := uint64(0o644)
		if f.Permissions != "" {
			if mode, err = strconv.ParseUint(f.Permissions, 8, 12); err != nil {
				mode = 0o600
				c.problem(f.Origin.At("permissions"), "%s.permissions: %q is not an octal mode like 0644; %s is written with 0600", field, f.Permissions, f.Path)
			}
		}
		c.step(plan.WriteFile{Path: path.Clean(f.Path), Content: content, Mode: plan.FileMode(mode), Owner: f.Owner}, at, "%s", field)
	}
	c.generatedFiles()
}

func (c *compiler) generatedFiles() {
	write := func(path string, content string, at plan.Position, reason string) {
		c.step(plan.WriteFile{Path: path, Content: []byte(content), Mode: 0o644}, at, "%s", reason)
	}
	oem, update, flannel := c.config.CoreOS.OEM, c.config.CoreOS.Update, c.config.CoreOS.Flannel
	if oem.ID != "" {
		write("/etc/oem-release", oemRelease(oem), oem.Origin.Position, "coreos.oem")
	}
	if !validOption(update, "RebootStrategy") {
		c.problem(update.Origin.At("reboot_strategy"),
			"coreos.update.reboot_strategy: %q is not one of etcd-lock, reboot, off, best-effort; it is not set", update.RebootStrategy)
		update.RebootStrategy = ""
		c.config.CoreOS.Update = update
	}
	if values := c.options("coreos.update", update); len(values) > 0 {
		write("/etc/coreos/update.conf", updateConf(c.facts.UpdateConf, values), update.Origin.Position, "coreos.update")
	}
	switch at := c.config.Origin.At("manage_etc_hosts"); c.config.ManageEtcHosts {
	case "":
	case "localhost":
		write("/etc/hosts", etcHosts(c.facts.Hostname), at, "manage_etc_hosts")
	default:
		c.problem(at, "manage_etc_hosts: %q is not \"localhost\"; /etc/hosts is left as it is", c.config.ManageEtcHosts)
	}
	if values := c.options("coreos.flannel", flannel); len(values) > 0 {
		write("/run/flannel/options.env", strings.Join(values, "\n"), flannel.Origin.Position, "coreos.flannel")
	}
	names := c.config.CoreOS.Names
	if values := c.options("coreos.names", names); len(values) > 0 { // 0600, as a password may be in it
		content := strings.Join(values, "\n") + "\n"
		c.step(plan.WriteFile{Path: "/run/coracle/names.env", Content: []byte(content), Mode: 0o600}, names.Origin.Position, "coreos.names")
	}
}

const environmentFile = "/etc/environment"

func (c *compiler) environment() {
	written := slices.ContainsFunc(c.config.WriteFiles, func(f File) bool { return path.Clean(f.Path) == environmentFile })
	values := c.facts.Metadata.Environment()
	if len(values) > 0 && !written {
		c.step(plan.MergeEnvironment{Path: environmentFile, Values: values}, plan.Position{}, "addresses of the machine")
	}
}
