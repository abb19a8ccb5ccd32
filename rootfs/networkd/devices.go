package networkd

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/coracle-os/coracle/rootfs/network/config"
	"github.com/coracle-os/coracle/rootfs/network/link"
	"github.com/coracle-os/coracle/rootfs/network/plan"
	"github.com/coracle-os/coracle/rootfs/network/wireguard"
)

// devices lists the links, after .link files were applied to new ones and the
// netdevs were made.
func (d *networkDaemon) devices() ([]link.Link, error) {
	for depth := 0; ; depth++ {
		links, err := d.kernel.List()
		if err != nil {
			return nil, err
		}
		changed := d.greet(links)
		made, err := d.make(links, changed)
		if err != nil {
			return nil, err
		}
		// A VLAN on a bond on a bridge: each makes the next possible.
		if depth == 4 || (!changed && !made) {
			return links, nil
		}
	}
}

// greet applies .link files to links that are new to this daemon.
func (d *networkDaemon) greet(links []link.Link) (changed bool) {
	for _, l := range links {
		if d.seen[l.Index] {
			continue
		}
		d.seen[l.Index] = true
		i := slices.IndexFunc(d.files.Links, func(f config.LinkFile) bool { return f.Match.Fits(l.Match) })
		if i < 0 || l.Match.Type == "loopback" {
			continue
		}
		file := d.files.Links[i]
		if err := d.kernel.Adorn(l, file); err != nil {
			d.log.Error(err.Error())
		}
		if file.Name == "" || file.Name == l.Match.Name {
			continue
		}
		if err := d.kernel.Rename(l, file.Name); err != nil {
			d.log.Error(fmt.Sprintf("%s: %v", file.File, err))
			continue
		}
		d.log.Info(fmt.Sprintf("%s is now %s, as %s says", l.Match.Name, file.Name, file.File))
		changed = true
	}
	for index := range d.seen {
		if !slices.ContainsFunc(links, func(l link.Link) bool { return l.Index == index }) {
			delete(d.seen, index)
		}
	}
	return changed
}

// make makes what netdev files describe. With renamed the list of links is out
// of date, and nothing is done.
func (d *networkDaemon) make(links []link.Link, renamed bool) (made bool, err error) {
	if renamed {
		return false, nil
	}
	var devices []plan.Device
	for _, l := range links {
		devices = append(devices, plan.Device{Index: l.Index, Match: l.Match})
	}
	tasks, problems := plan.Netdevs(d.files, devices)
	for _, task := range tasks {
		if err := d.kernel.Make(task, d.identity()); err != nil {
			problems = append(problems, plan.Problem{Netdev: task.Netdev.Name, Text: err.Error()})
			continue
		}
		d.log.Info(task.String())
		delete(d.tunnels, task.Netdev.Name)
		made = true
	}
	if !made {
		d.complain(problems)
	}
	return made, nil
}

// complain logs what is new of the problems.
func (d *networkDaemon) complain(problems []plan.Problem) {
	said := map[string]bool{}
	for _, p := range problems {
		text := p.Netdev + ": " + p.Text
		if said[text] = true; !d.said[text] {
			d.log.Warn(text)
		}
	}
	d.said, d.problems = said, problems
}

// identity is the machine's, that addresses of hardware are made from.
func (d *networkDaemon) identity() string {
	text, err := os.ReadFile(d.paths.MachineID)
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(text))
}

// global does what concerns the machine as a whole.
func (d *networkDaemon) global() {
	var networks []config.Network
	for _, index := range d.order() {
		networks = append(networks, d.managed[index].network)
	}
	have, err := d.kernel.Global()
	if err != nil {
		d.log.Error(err.Error())
		return
	}
	for _, task := range plan.MakeGlobal(plan.WantGlobal(networks), have) {
		d.apply(0, "machine", task, nil)
	}
}

// lookupTime bounds how long one name of an endpoint is looked up for.
const lookupTime = 2 * time.Second

// secure gives WireGuard links their keys and peers, once after each change of
// the files; and once more while something of it cannot be had.
func (d *networkDaemon) secure(ctx context.Context, links []link.Link) {
	for _, l := range links {
		i := slices.IndexFunc(d.files.Netdevs, func(n config.Netdev) bool { return n.Name == l.Match.Name && n.Kind == "wireguard" })
		if l.Match.Kind != "wireguard" || i < 0 || d.tunnels[l.Match.Name] {
			continue
		}
		netdev := d.files.Netdevs[i]
		ctx, cancel := context.WithTimeout(ctx, lookupTime)
		want, ready, problems := wireguard.Want(ctx, netdev.WireGuard, lookup)
		cancel()
		if ready {
			if _, err := wireguard.Apply(l.Match.Name, want); err != nil {
				problems = append(problems, err)
			}
		}
		for _, problem := range problems {
			text := fmt.Sprintf("%s: %s: %v", l.Match.Name, netdev.File, problem)
			if !d.said[text] {
				d.log.Error(text)
				d.said[text] = true
			}
		}
		d.tunnels[l.Match.Name] = len(problems) == 0
	}
}

// waiting tells whether a tunnel lacks something that may come.
func (d *networkDaemon) waiting() bool {
	for _, done := range d.tunnels {
		if !done {
			return true
		}
	}
	return false
}

func lookup(ctx context.Context, name string) ([]netip.Addr, error) {
	return net.DefaultResolver.LookupNetIP(ctx, "ip", name)
}

// chosen are the managed interfaces that a pattern or an index names.
func (d *networkDaemon) chosen(pattern string) (found []*managed) {
	for _, index := range d.order() {
		m := d.managed[index]
		if ok, err := path.Match(pattern, m.link.Match.Name); (err == nil && ok) || pattern == fmt.Sprint(index) {
			found = append(found, m)
		}
	}
	return found
}
