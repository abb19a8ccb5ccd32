package ignition

import (
	"cmp"
	"context"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/coreos/ignition/v2/config/v3_5/types"
	vjson "github.com/coreos/vcontext/json"
	vpath "github.com/coreos/vcontext/path"

	"github.com/coracle-os/coracle/rootfs/cloudconfig"
	"github.com/coracle-os/coracle/rootfs/provision/plan"
)

// Document is a config that was understood.
type Document struct {
	// Config is the merged config of the newest version, with the files that
	// stand for kernel arguments; empty when it is not valid.
	Config types.Config
	// Plan has the steps. It is not to be applied when one of its problems is
	// an error.
	Plan plan.Plan
}

// Valid tells whether the plan can be applied.
func (d Document) Valid() bool { return !hasError(d.Plan.Problems) }

// Compile understands a config and what it merges. name is its source, for
// messages. With a nil fetcher nothing is fetched: the plan has a warning for
// what a config elsewhere may add.
func Compile(ctx context.Context, name string, data []byte, fetcher Fetcher) Document {
	if fetcher == nil {
		fetcher = offline{}
	}
	config, problems, err := Resolve(ctx, name, data, fetcher)
	if err != nil {
		if !hasError(problems) {
			problems.Add(plan.Position{}, plan.Error, "%v", err)
		}
		return Document{Plan: plan.Plan{Problems: problems}}
	}
	c := compiler{config: config, problems: problems, where: positions(data)}
	o, check := fetcher.(offline)
	c.check = check
	if check && o.merges(data) {
		c.problems.Add(plan.Position{}, plan.Warning, "configs that it merges are not looked at here")
	}
	c.compile()
	p := plan.Plan{Steps: c.steps, Problems: c.problems}
	return Document{Config: c.config, Plan: p.From(name)}
}

// Format is Compile for the programs that check documents of any kind: nothing
// is fetched, and the machine's facts make no difference.
func Format(data []byte, _ cloudconfig.Facts) (plan.Plan, plan.Report) {
	doc := Compile(context.Background(), "", data, nil)
	return doc.Plan, doc.Plan.Problems.Sorted()
}

// offline is the fetcher of a check that asks nobody: every config that is
// named says nothing.
type offline struct{}

func (offline) Fetch(context.Context, types.Resource) ([]byte, error) {
	return []byte(`{"ignition": {"version": "3.0.0"}}`), nil
}
func (offline) Configure(context.Context, types.Ignition) error { return nil }

func (offline) merges(data []byte) bool {
	config, _, err := Parse(data)
	c := config.Ignition.Config
	return err == nil && (len(c.Merge) > 0 || c.Replace.Source != nil)
}

// positions returns where a part of the document is.
func positions(data []byte) func(parts ...any) plan.Position {
	data, _ = cloudconfig.Gunzip(data)
	root, err := vjson.UnmarshalToContext(data)
	return func(parts ...any) plan.Position {
		if err != nil {
			return plan.Position{}
		}
		node, err := root.Get(vpath.New("json", parts...))
		if err != nil || node.GetMarker().StartP == nil {
			return plan.Position{}
		}
		start := node.GetMarker().StartP
		return plan.Position{Line: int(start.Line), Column: int(start.Column)}
	}
}

type compiler struct {
	config   types.Config
	check    bool // before use: what a machine has is not known
	steps    []plan.Step
	problems plan.Report
	where    func(parts ...any) plan.Position
}

func (c *compiler) add(a plan.Action, reason string, parts ...any) {
	c.steps = append(c.steps, plan.Step{Action: a, Reason: reason, Origin: plan.Origin{Position: c.where(parts...)}})
}

// refuse reports what Coracle can not do.
func (c *compiler) refuse(parts []any, format string, args ...any) {
	c.problems.Add(c.where(parts...), plan.Error, "not possible on Coracle: "+format, args...)
}

func (c *compiler) compile() {
	c.arguments()
	c.storage()
	// What is mounted or opened on the next boot can not be made over: so
	// this comes when it is made and before anything of it is used.
	if s := c.config.Storage; len(s.Disks)+len(s.Raid)+len(s.Luks)+len(s.Filesystems) > 0 {
		c.add(KeepStorage{}, "storage", "storage")
	}
	c.mounts()
	c.passwd()
	c.nodes()
	c.units()
}

func (c *compiler) passwd() {
	for i, g := range c.config.Passwd.Groups {
		c.add(Group{PasswdGroup: g}, "passwd.groups", "passwd", "groups", i)
	}
	for i, u := range c.config.Passwd.Users {
		c.add(User{PasswdUser: u}, "passwd.users", "passwd", "users", i)
	}
}

// nodes makes the steps of directories, files and links: what is higher in the
// tree first, and hard links when their targets are there.
func (c *compiler) nodes() {
	type node struct {
		depth, kind int
		step        plan.Step
	}
	var nodes []node
	add := func(kind int, p string, a plan.Action, reason string, i int) {
		at := c.where("storage", reason, i)
		c.checkPath(p, []any{"storage", reason, i})
		nodes = append(nodes, node{strings.Count(path.Clean(p), "/"), kind, plan.Step{Action: a,
			Reason: "storage." + reason, Origin: plan.Origin{Position: at}}})
	}
	for i, d := range c.config.Storage.Directories {
		add(0, d.Path, MakeDirectory{Directory: d}, "directories", i)
	}
	for i, f := range c.config.Storage.Files {
		add(0, f.Path, WriteFile{File: f}, "files", i)
		if f.Path == argumentsFile && i == len(c.config.Storage.Files)-1 {
			nodes[len(nodes)-1].step.Reason = "kernelArguments"
		}
	}
	for i, l := range c.config.Storage.Links {
		kind := 0
		if isTrue(l.Hard) {
			kind = 1
		}
		add(kind, l.Path, MakeLink{Link: l}, "links", i)
	}
	slices.SortStableFunc(nodes, func(a, b node) int {
		return cmp.Or(cmp.Compare(a.kind, b.kind), cmp.Compare(a.depth, b.depth))
	})
	for _, n := range nodes {
		c.steps = append(c.steps, n.step)
	}
}

// fixed are the directories that a verified image or the kernel makes.
var fixed = []string{"/usr", "/bin", "/sbin", "/lib", "/lib64", "/boot", "/proc", "/sys", "/dev"}

func (c *compiler) checkPath(p string, parts []any) {
	p = path.Clean(p)
	below := func(dir string) bool { return p == dir || strings.HasPrefix(p, dir+"/") }
	for _, f := range c.config.Storage.Filesystems {
		if where := deref(f.Path); where != "" && where != "/" && below(path.Clean(where)) {
			return
		}
	}
	switch {
	case below("/usr/local"):
	case slices.ContainsFunc(fixed, below):
		c.refuse(parts, "%s is in the verified image, or the kernel's; programs go to /opt/bin or /usr/local/bin, kernel settings to /etc/sysctl.d, modules to /etc/modules-load.d", p)
	case path.Dir(p) == "/" && !slices.Contains([]string{"/etc", "/var", "/home", "/root", "/opt", "/srv", "/tmp", "/run", "/mnt", "/media"}, p):
		c.refuse(parts, "the top directory is in the verified image, so %s can not be made; use a place below /etc, /var, /home, /opt or /srv", p)
	case below("/run") || below("/tmp"):
		c.problems.Add(c.where(parts...), plan.Warning, "%s is in memory and gone after this boot; use /etc/tmpfiles.d", p)
	}
}

func (c *compiler) units() {
	for i, u := range c.config.Systemd.Units {
		at := []any{"systemd", "units", i}
		file := "/etc/systemd/system/" + u.Name
		reason := "systemd.units " + u.Name
		if u.Contents != nil && *u.Contents != "" {
			c.add(plan.PlaceUnit{Path: file, Content: []byte(*u.Contents)}, reason, at...)
		}
		for j, d := range u.Dropins {
			if d.Contents != nil && *d.Contents != "" {
				c.add(plan.PlaceUnit{Path: file + ".d/" + d.Name, Content: []byte(*d.Contents), DropIn: true}, reason, append(slices.Clone(at), "dropins", j)...)
			}
		}
		if u.Mask != nil && *u.Mask {
			c.add(plan.MaskUnit{Path: file}, reason, at...)
		} else if u.Mask != nil {
			c.add(plan.UnmaskUnit{Path: file}, reason, at...)
		}
	}
	for i, u := range c.config.Systemd.Units {
		if u.Enabled != nil && !isTrue(u.Mask) {
			c.add(Preset{Name: u.Name, Enabled: *u.Enabled}, fmt.Sprintf("systemd.units %s", u.Name), "systemd", "units", i)
		}
	}
}
