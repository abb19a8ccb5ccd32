package property_test

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/coracle-os/coracle/rootfs/unit"
	"github.com/coracle-os/coracle/rootfs/unit/graph"
	"github.com/coracle-os/coracle/rootfs/unit/load"
	"github.com/coracle-os/coracle/rootfs/unit/property"
	"github.com/coracle-os/coracle/rootfs/unit/specifier"
)

// TestDebianShow loads the unit files of Debian 12's systemd, docker.io, nginx,
// openssh-server, chrony, apache2, bind9, cloud-init, containerd, cron,
// fail2ban, haproxy, libvirt, mariadb, memcached, mosquitto, NFS, open-iscsi,
// openvpn, podman, postfix, postgresql, prometheus-node-exporter, redis,
// rsyslog, samba, squid and tor, and compares their properties with what
// "systemctl show" of systemd 252 says of the same files.
//
// testdata/debian-units.txt holds the settings of the files (no comments and
// descriptions) and the links among them; testdata/debian-show.txt what systemd
// said: first what most units of a kind have, then how each one differs. Lists
// of units are sorted, and the state of commands is left out.
func TestDebianShow(t *testing.T) {
	fsys := os.DirFS(writeUnits(t))
	host := specifier.Host{MachineID: "0123456789abcdef0123456789abcdef", Hostname: "boxhost"}
	set, err := load.NewSet(load.New(fsys, func() specifier.Host { return host }))
	must(t, err)
	kinds, units := readShow(t)
	set.Preload(slices.Collect(maps.Keys(units)))
	g := set.Graph()
	for name, differs := range units {
		u := set.Peek(name)
		if want := differs["LoadState"]; want != "" && want != "loaded" {
			if string(u.LoadState) != want {
				t.Errorf("%s is %s, want %s", name, u.LoadState, want)
			}
			continue
		}
		want := maps.Clone(kinds[string(u.Kind)])
		want["Names"], want["Description"] = name, name
		maps.Copy(want, differs)
		compare(t, u, g, want)
	}
	if len(units) < 280 {
		t.Errorf("only %d units were compared", len(units))
	}
}

// compare reports the properties of a unit that differ.
func compare(t *testing.T, u *unit.Unit, g *graph.Graph, want map[string]string) {
	got := property.Of(u, g)
	for key, w := range want {
		if key == "After" || key == "Before" {
			continue
		}
		have, ok := got[key]
		switch {
		case !ok:
			t.Errorf("%s has no property %s, want %q", u.Name, key, w)
		case same(key, have, w) || known(u, key, have, w):
		default:
			t.Errorf("%s: %s is %q, want %q", u.Name, key, have, w)
		}
	}
	order(t, u, unit.After, g.Of(u.Name, unit.After), g.After(u.Name), want["After"])
	order(t, u, unit.Before, g.Of(u.Name, unit.Before), g.Before(u.Name), want["Before"])
}

// order checks what a unit is ordered by: what its own files say must be there,
// and what is there must be said somewhere. The rest depends on which others
// systemd had in memory.
func order(t *testing.T, u *unit.Unit, kind unit.Dep, own, all []string, recorded string) {
	want := words(recorded)
	for _, n := range own {
		if !slices.Contains(want, n) && !known(u, string(kind), n, "") {
			t.Errorf("%s: %s= has %s, which systemd does not have", u.Name, kind, n)
		}
	}
	for _, n := range want {
		if !slices.Contains(all, n) && !known(u, string(kind), "", n) {
			t.Errorf("%s: %s= lacks %s", u.Name, kind, n)
		}
	}
}

// builtin are units of systemd's that Coracle does not have: what they do is
// done before the first unit.
var builtin = []string{"-.mount", "systemd-remount-fs.service", "systemd-tmpfiles-setup.service", "dbus.socket"}

// known are the differences that are meant. dbus.socket and Type=dbus are those
// of services on D-Bus, which Coracle does not have.
func known(u *unit.Unit, key, have, want string) bool {
	switch key {
	case "Type":
		return want == "dbus"
	case "After", "Before", "Requires":
		if slices.Contains(builtin, u.Name) {
			return true
		}
		for _, n := range builtin {
			want = without(want, n)
		}
		if rootSlice(u) { // the group of a mount program, which needs none
			have, want = without(have, "system.slice"), without(want, "-.slice")
		}
		return same(key, have, want)
	case "Slice":
		return rootSlice(u)
	}
	return false
}

// rootSlice tells of mounts that systemd puts into the root slice.
func rootSlice(u *unit.Unit) bool { return u.Kind == unit.KindMount && load.Extrinsic(u.Mount.Where) }

func without(list, word string) string {
	return strings.Join(slices.DeleteFunc(strings.Fields(list), func(w string) bool { return w == word }), " ")
}

// same compares values; of lists the order does not count.
func same(key, a, b string) bool {
	switch key {
	case "Names", "RequiresMountsFor", "Triggers", "Requires", "Requisite", "Wants", "BindsTo", "PartOf", "Conflicts",
		"After", "Before", "SuccessExitStatus", "OnFailure", "Documentation", "Upholds", "OnSuccess":
		x, y := strings.Fields(a), strings.Fields(b)
		slices.Sort(x)
		slices.Sort(y)
		return slices.Equal(slices.Compact(x), slices.Compact(y))
	}
	return strings.ReplaceAll(a, " ; start_time=[n/a] ; stop_time=[n/a] ; pid=0 ; code=(null) ; status=0/0 }", "") == b
}

// words splits a list, and takes away the quotes of names that need them.
func words(list string) []string {
	fields := strings.Fields(list)
	for i, f := range fields {
		if strings.HasPrefix(f, `"`) {
			fields[i] = strings.ReplaceAll(strings.Trim(f, `"`), `\\`, `\`)
		}
	}
	return fields
}

// readShow reads what systemd said: for each kind, and for each unit.
func readShow(t *testing.T) (kinds, units map[string]map[string]string) {
	text, err := os.ReadFile("testdata/debian-show.txt")
	must(t, err)
	kinds, units = map[string]map[string]string{}, map[string]map[string]string{}
	for block := range strings.SplitSeq("\n"+string(text), "\n=== ") {
		name, lines, _ := strings.Cut(block, "\n")
		values := map[string]string{}
		for line := range strings.Lines(lines) {
			key, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "=")
			if earlier, ok := values[key]; ok {
				value = earlier + "\n" + value
			}
			values[key] = value
		}
		if kind, ok := strings.CutPrefix(name, "*."); ok {
			kinds[kind] = values
		} else if name != "" {
			units[name] = values
		}
	}
	return kinds, units
}

// writeUnits makes a root directory with the unit files.
func writeUnits(t *testing.T) string {
	text, err := os.ReadFile("testdata/debian-units.txt")
	must(t, err)
	root := t.TempDir()
	dir := filepath.Join(root, "usr/lib/systemd/system")
	put := func(name string, write func(path string) error) {
		path := filepath.Join(dir, name)
		must(t, os.MkdirAll(filepath.Dir(path), 0o755))
		must(t, write(path))
	}
	blocks := strings.Split("\n"+string(text), "\n-- ")
	for line := range strings.Lines(blocks[0]) {
		if name, to, ok := strings.Cut(strings.TrimSuffix(line, "\n"), " -> "); ok {
			put(name, func(path string) error { return os.Symlink(to, path) })
		}
	}
	for _, b := range blocks[1:] {
		name, lines, _ := strings.Cut(b, " --\n")
		put(name, func(path string) error { return os.WriteFile(path, []byte(lines+"\n"), 0o644) })
	}
	return root
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
