package cloudconfig

import "github.com/coracle-os/coracle/rootfs/provision/plan"

// Origin is where a mapping stands in the document: where it begins and where
// each of its keys is, by normalised name.
type Origin struct {
	plan.Position
	Keys map[string]plan.Position
}

// At returns the place of a key, or the mapping's own when the key is not in
// the document.
func (o Origin) At(key string) plan.Position {
	if at, ok := o.Keys[key]; ok {
		return at
	}
	return o.Position
}

// Config is a decoded #cloud-config document. Field tags are the schema: yaml
// is the normalised key, env the environment variable an option becomes, valid
// the pattern that a set value must match, deprecated the reason to say when
// the key is used. The order of fields is the order of the generated lines.
type Config struct {
	Origin            Origin   `yaml:"-"`
	SSHAuthorizedKeys []string `yaml:"ssh_authorized_keys"`
	CoreOS            CoreOS   `yaml:"coreos"`
	WriteFiles        []File   `yaml:"write_files"`
	Hostname          string   `yaml:"hostname"`
	Users             []User   `yaml:"users"`
	ManageEtcHosts    string   `yaml:"manage_etc_hosts"`
}

// CoreOS is the coreos section.
type CoreOS struct {
	Origin    Origin    `yaml:"-"`
	Etcd      Etcd      `yaml:"etcd" deprecated:"etcd is no longer shipped in Container Linux"`
	Etcd2     Etcd2     `yaml:"etcd2" deprecated:"etcd2 is no longer shipped in Container Linux"`
	Flannel   Flannel   `yaml:"flannel"`
	Fleet     Fleet     `yaml:"fleet" deprecated:"fleet is no longer shipped in Container Linux"`
	Locksmith Locksmith `yaml:"locksmith"`
	Names     Names     `yaml:"names"`
	OEM       OEM       `yaml:"oem"`
	Update    Update    `yaml:"update"`
	Units     []Unit    `yaml:"units"`
}

// User is one entry of users.
type User struct {
	Origin              Origin   `yaml:"-"`
	Name                string   `yaml:"name"`
	PasswordHash        string   `yaml:"passwd"`
	SSHAuthorizedKeys   []string `yaml:"ssh_authorized_keys"`
	SSHImportGithubUser string   `yaml:"coreos_ssh_import_github" deprecated:"trying to fetch from a remote endpoint introduces too many intermittent errors"`
	SSHImportGithubs    []string `yaml:"coreos_ssh_import_github_users" deprecated:"trying to fetch from a remote endpoint introduces too many intermittent errors"`
	SSHImportURL        string   `yaml:"coreos_ssh_import_url" deprecated:"trying to fetch from a remote endpoint introduces too many intermittent errors"`
	Gecos               string   `yaml:"gecos"`
	HomeDir             string   `yaml:"homedir"`
	NoCreateHome        bool     `yaml:"no_create_home"`
	PrimaryGroup        string   `yaml:"primary_group"`
	Groups              []string `yaml:"groups"`
	NoUserGroup         bool     `yaml:"no_user_group"`
	System              bool     `yaml:"system"`
	NoLogInit           bool     `yaml:"no_log_init"`
	Shell               string   `yaml:"shell"`
}

// File is one entry of write_files, its content still encoded.
type File struct {
	Origin      Origin `yaml:"-"`
	Encoding    string `yaml:"encoding" valid:"^(base64|b64|gz|gzip|gz\\+base64|gzip\\+base64|gz\\+b64|gzip\\+b64)$"`
	Content     string `yaml:"content"`
	Owner       string `yaml:"owner"`
	Path        string `yaml:"path"`
	Permissions string `yaml:"permissions" valid:"^0?[0-7]{3,4}$"`
}

// Unit is one entry of coreos.units.
type Unit struct {
	Origin  Origin   `yaml:"-"`
	Name    string   `yaml:"name"`
	Mask    bool     `yaml:"mask"`
	Enable  bool     `yaml:"enable"`
	Runtime bool     `yaml:"runtime"`
	Content string   `yaml:"content"`
	Command string   `yaml:"command" valid:"^(start|stop|restart|reload|try-restart|reload-or-restart|reload-or-try-restart)$"`
	DropIns []DropIn `yaml:"drop_ins"`
}

// plan returns the account that the entry asks for.
func (u User) plan() plan.User {
	return plan.User{
		Name: u.Name, PasswordHash: u.PasswordHash, Gecos: u.Gecos, HomeDir: u.HomeDir, NoCreateHome: u.NoCreateHome,
		PrimaryGroup: u.PrimaryGroup, Groups: u.Groups, NoUserGroup: u.NoUserGroup, System: u.System,
		NoLogInit: u.NoLogInit, Shell: u.Shell,
	}
}

// DropIn is one entry of a unit's drop_ins.
type DropIn struct {
	Origin  Origin `yaml:"-"`
	Name    string `yaml:"name"`
	Content string `yaml:"content"`
}

// OEM is the coreos.oem section.
type OEM struct {
	Origin       Origin `yaml:"-"`
	ID           string `yaml:"id"`
	Name         string `yaml:"name"`
	VersionID    string `yaml:"version_id"`
	HomeURL      string `yaml:"home_url"`
	BugReportURL string `yaml:"bug_report_url"`
}

// Update is the coreos.update section.
type Update struct {
	Origin         Origin `yaml:"-"`
	RebootStrategy string `yaml:"reboot_strategy" env:"REBOOT_STRATEGY" valid:"^(best-effort|etcd-lock|reboot|off)$"`
	Group          string `yaml:"group" env:"GROUP"`
	Server         string `yaml:"server" env:"SERVER"`
}
