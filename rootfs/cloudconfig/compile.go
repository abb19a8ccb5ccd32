package cloudconfig

import (
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"
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
func Compile(config Config, facts Facts) Plan {
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
func CompileScript(script []byte, facts Facts) Plan {
	plan := Compile(Config{}, facts)
	plan.Steps = append(plan.Steps, Step{Action: RunScript{script}, Reason: "user-data is a script", Line: 1})
	return plan
}

type compiler struct {
	facts  Facts
	config Config
	plan   Plan
}

func (c *compiler) step(action Action, line int, reason string, args ...any) {
	c.plan.Steps = append(c.plan.Steps, Step{Action: action, Line: line, Reason: fmt.Sprintf(reason, args...)})
}

func (c *compiler) problem(line int, format string, args ...any) {
	c.plan.Problems.add(line, Error, format, args...)
}

func (c *compiler) hostname() {
	name, line, reason := strings.TrimSpace(c.config.Hostname), c.config.Origin.LineOf("hostname"), "hostname"
	if name == "" && c.facts.Metadata.Hostname != "" {
		name, line, reason = c.facts.Metadata.Hostname, 0, "hostname from the platform's metadata"
	}
	switch {
	case name == "":
		return
	case len(name) > 64 || !consistsOf(name, ".-_"):
		c.problem(line, "hostname: %q is not a host name (letters, digits, \"-\" and \".\", at most 64); it is not set", name)
		return
	}
	c.facts.Hostname = name
	c.step(SetHostname{name}, line, "%s", reason)
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
		line := u.Origin.LineOf("name")
		if !isUserName(u.Name) {
			c.problem(line, "users[%d].name: %q is not a user name; the user is left out", i, u.Name)
			continue
		}
		if u.SSHImportGithubUser != "" || len(u.SSHImportGithubs) > 0 || u.SSHImportURL != "" {
			c.problem(line, "users[%d]: keys are not fetched from remote addresses; put them in ssh_authorized_keys", i)
		}
		c.step(EnsureUser{u}, line, "users[%d]", i)
		c.keys(u.Name, u.SSHAuthorizedKeys, u.Origin.LineOf("ssh_authorized_keys"), fmt.Sprintf("users[%d].ssh_authorized_keys", i))
	}
	keys := slices.Concat(c.config.SSHAuthorizedKeys, c.facts.Metadata.SSHKeys)
	c.keys("core", keys, c.config.Origin.LineOf("ssh_authorized_keys"), "ssh_authorized_keys")
}

func (c *compiler) keys(user string, keys []string, line int, reason string) {
	var trimmed []string
	for _, key := range keys {
		if key = strings.TrimSpace(key); key != "" {
			trimmed = append(trimmed, key)
		}
	}
	if len(trimmed) > 0 {
		c.step(AuthorizeKeys{User: user, Keys: trimmed}, line, "%s", reason)
	}
}

func (c *compiler) files() {
	for i, f := range c.config.WriteFiles {
		field := fmt.Sprintf("write_files[%d]", i)
		line := f.Origin.LineOf("path")
		if !path.IsAbs(f.Path) || strings.ContainsRune(f.Path, 0) || path.Clean(f.Path) == "/" {
			c.problem(line, "%s.path: %q is not an absolute path of a file; it is not written", field, f.Path)
			continue
		}
		content, err := DecodeContent(f.Content, f.Encoding)
		if err != nil {
			c.problem(f.Origin.LineOf("content"), "%s.content: %v; %s is not written", field, err, f.Path)
			continue
		}
		mode := uint64(0o644)
		if f.Permissions != "" {
			if mode, err = strconv.ParseUint(f.Permissions, 8, 12); err != nil {
				mode = 0o600
				c.problem(f.Origin.LineOf("permissions"), "%s.permissions: %q is not an octal mode like 0644; %s is written with 0600", field, f.Permissions, f.Path)
			}
		}
		c.step(WriteFile{Path: path.Clean(f.Path), Content: content, Mode: fileMode(mode), Owner: f.Owner}, line, "%s", field)
	}
	c.generatedFiles()
}

func (c *compiler) generatedFiles() {
	write := func(path string, content string, line int, reason string) {
		c.step(WriteFile{Path: path, Content: []byte(content), Mode: 0o644}, line, "%s", reason)
	}
	oem, update, flannel := c.config.CoreOS.OEM, c.config.CoreOS.Update, c.config.CoreOS.Flannel
	if oem.ID != "" {
		write("/etc/oem-release", oemRelease(oem), oem.Origin.Line, "coreos.oem")
	}
	if !validOption(update, "RebootStrategy") {
		c.problem(update.Origin.LineOf("reboot_strategy"),
			"coreos.update.reboot_strategy: %q is not one of etcd-lock, reboot, off, best-effort; it is not set", update.RebootStrategy)
		update.RebootStrategy = ""
		c.config.CoreOS.Update = update
	}
	if values := c.options("coreos.update", update); len(values) > 0 {
		write("/etc/coreos/update.conf", updateConf(c.facts.UpdateConf, values), update.Origin.Line, "coreos.update")
	}
	switch line := c.config.Origin.LineOf("manage_etc_hosts"); c.config.ManageEtcHosts {
	case "":
	case "localhost":
		write("/etc/hosts", etcHosts(c.facts.Hostname), line, "manage_etc_hosts")
	default:
		c.problem(line, "manage_etc_hosts: %q is not \"localhost\"; /etc/hosts is left as it is", c.config.ManageEtcHosts)
	}
	if values := c.options("coreos.flannel", flannel); len(values) > 0 {
		write("/run/flannel/options.env", strings.Join(values, "\n"), flannel.Origin.Line, "coreos.flannel")
	}
	names := c.config.CoreOS.Names
	if values := c.options("coreos.names", names); len(values) > 0 { // 0600, as a password may be in it
		content := strings.Join(values, "\n") + "\n"
		c.step(WriteFile{Path: "/run/coracle/names.env", Content: []byte(content), Mode: 0o600}, names.Origin.Line, "coreos.names")
	}
}

const environmentFile = "/etc/environment"

func (c *compiler) environment() {
	written := slices.ContainsFunc(c.config.WriteFiles, func(f File) bool { return path.Clean(f.Path) == environmentFile })
	values := c.facts.Metadata.Environment()
	if len(values) > 0 && !written {
		c.step(MergeEnvironment{environmentFile, values}, 0, "addresses of the machine")
	}
}
