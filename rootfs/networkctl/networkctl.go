// Package networkctl shows the network: the interfaces as the kernel has them
// and what the network daemon does about them, and has the daemon look again.
// networkctl(1) of systemd 252: its verbs, columns, words and exit codes.
//
// Left out on purpose: delete, statistics, queueing disciplines, and LLDP, which
// the daemon does not speak: there are never neighbors.
package networkctl

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/coracle-os/coracle/rootfs/network/link"
	"github.com/coracle-os/coracle/rootfs/network/state"
	"github.com/coracle-os/coracle/rootfs/networkd"
	"github.com/coracle-os/coracle/rootfs/program"
)

const usage = `networkctl [list [PATTERN...]]     the interfaces, one to a line
networkctl status [PATTERN...]     what is known about them
networkctl lldp [PATTERN...]       the neighbors (never any: LLDP is not spoken)
networkctl up LINK...              set interfaces up
networkctl down LINK...            set interfaces down
networkctl renew LINK...           renew the leases
networkctl forcerenew LINK...      ask whether the leases still hold
networkctl reconfigure LINK...     begin anew with an interface
networkctl reload                  read .network, .netdev and .link files again
Options: --no-legend, --no-pager, --all`

// Main is the program networkctl.
func Main(_ context.Context, args []string, stdio program.Stdio) int {
	if err := run(args[1:], stdio.Out); err != nil {
		fmt.Fprintf(stdio.Err, "networkctl: %v\n", err)
		return 1
	}
	return 0
}

func run(args []string, out io.Writer) error {
	verb, legend, all := "", true, false
	var patterns []string
	for _, arg := range args {
		switch {
		case arg == "-h" || arg == "--help":
			_, err := fmt.Fprintln(out, usage)
			return err
		case arg == "--no-legend":
			legend = false
		case arg == "--all" || arg == "-a":
			all = true
		case arg == "--no-pager" || arg == "--full" || arg == "-l":
		case strings.HasPrefix(arg, "-"):
			return fmt.Errorf("unknown option %q; see networkctl --help", arg)
		case verb == "":
			verb = arg
		default:
			patterns = append(patterns, arg)
		}
	}
	switch verb {
	case "", "list", "status", "lldp":
	case "reload":
		return networkd.Ask(networkd.Socket, verb)
	case "up", "down", "renew", "forcerenew", "reconfigure":
		return change(verb, patterns)
	default:
		return fmt.Errorf("unknown command verb %q; see networkctl --help", verb)
	}
	rows, known, err := collect()
	if err != nil {
		return err
	}
	if rows, err = choose(rows, patterns); err != nil {
		return err
	}
	switch {
	case verb == "lldp":
		return neighbors(out, legend)
	case verb == "status" && len(patterns) == 0 && !all:
		return overview(out, rows, known)
	case verb == "status":
		return details(out, rows)
	}
	return list(out, rows, legend)
}

// change has something done to interfaces: up and down by the kernel, the rest
// by the daemon.
func change(verb string, patterns []string) error {
	if len(patterns) == 0 {
		return errors.New("too few arguments: name an interface")
	}
	rows, _, err := collect()
	if err != nil {
		return err
	}
	if rows, err = choose(rows, patterns); err != nil {
		return err
	}
	if verb != "up" && verb != "down" {
		words := []string{verb}
		for _, r := range rows {
			words = append(words, r.Name)
		}
		return networkd.Ask(networkd.Socket, words...)
	}
	kernel, err := link.Open()
	if err != nil {
		return err
	}
	defer kernel.Close()
	for _, r := range rows {
		if err := kernel.SetLink(r.Index, verb == "up"); err != nil {
			return fmt.Errorf("set %s %s: %w", r.Name, verb, err)
		}
	}
	return nil
}

// neighbors is the empty table of LLDP.
func neighbors(out io.Writer, legend bool) error {
	if !legend {
		return nil
	}
	_, err := fmt.Fprint(out, "LINK CHASSIS-ID SYSTEM-NAME CAPS        PORT-ID PORT-DESCRIPTION\n\n0 neighbors listed.\n")
	return err
}

// row is an interface with what the daemon says of it.
type row struct {
	state.Interface
	link link.Link
}

// collect joins the kernel's list and the daemon's state. Without a daemon
// every interface is unmanaged.
func collect() ([]row, state.State, error) {
	known, err := state.Read(state.Path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, known, err
	}
	kernel, err := link.Open()
	if err != nil {
		return nil, known, err
	}
	defer kernel.Close()
	links, err := kernel.List()
	if err != nil {
		return nil, known, err
	}
	return join(links, known), known, nil
}

func join(links []link.Link, known state.State) []row {
	var rows []row
	for _, l := range links {
		i := slices.IndexFunc(known.Interfaces, func(i state.Interface) bool { return i.Index == l.Index })
		if i >= 0 {
			next := row{known.Interfaces[i], l}
			next.OperState = networkd.OperState(l)
			rows = append(rows, next)
			continue
		}
		next := row{state.Interface{Index: l.Index, Name: l.Match.Name, MAC: l.Match.MAC, Type: l.Match.Type,
			OperState: networkd.OperState(l), SetupState: "unmanaged"}, l}
		for _, address := range l.Have.Addresses {
			next.Addresses = append(next.Addresses, address.Prefix.String())
		}
		rows = append(rows, next)
	}
	return rows
}

func choose(rows []row, patterns []string) ([]row, error) {
	if len(patterns) == 0 {
		return rows, nil
	}
	var chosen []row
	for _, pattern := range patterns {
		found := false
		for _, r := range rows {
			if ok, err := path.Match(pattern, r.Name); (err == nil && ok) || pattern == fmt.Sprint(r.Index) {
				chosen, found = append(chosen, r), true
			}
		}
		if !found {
			return nil, fmt.Errorf("interface %q not found; see networkctl list", pattern)
		}
	}
	return chosen, nil
}

func list(out io.Writer, rows []row, legend bool) error {
	var table [][]string
	if legend {
		table = append(table, []string{"IDX", "LINK", "TYPE", "OPERATIONAL", "SETUP"})
	}
	for _, r := range rows {
		table = append(table, []string{fmt.Sprint(r.Index), r.Name, shownType(r.Type), r.OperState, r.SetupState})
	}
	if err := print(out, table); err != nil || !legend {
		return err
	}
	_, err := fmt.Fprintf(out, "\n%d links listed.\n", len(rows))
	return err
}

// shownType is the kind of an interface for which udev has a word, else what
// its frames are.
func shownType(kind string) string {
	switch kind {
	case "veth", "dummy", "tuntap":
		return "ether"
	}
	return kind
}

// print aligns columns, the first to the right.
func print(out io.Writer, table [][]string) error {
	var widths [5]int
	for _, line := range table {
		for i, cell := range line {
			widths[i] = max(widths[i], len(cell))
		}
	}
	for _, line := range table {
		text := fmt.Sprintf("%*s %-*s %-*s %-*s %s", widths[0], line[0], widths[1], line[1], widths[2], line[2], widths[3], line[3], line[4])
		if _, err := fmt.Fprintln(out, strings.TrimRight(text, " ")); err != nil {
			return err
		}
	}
	return nil
}

// line is a label with its values, one to a line.
type line struct {
	label  string
	values []string
}

// overview is the machine as a whole.
func overview(out io.Writer, rows []row, known state.State) error {
	best := 0
	order := []string{"off", "no-carrier", "carrier", "degraded", "enslaved", "routable"}
	var addresses, gateways, dns, search, route, ntp []string
	for _, r := range rows {
		best = max(best, slices.Index(order, r.OperState))
		if r.Type == "loopback" {
			continue
		}
		for _, address := range r.shown() {
			addresses = append(addresses, address+" on "+r.Name)
		}
		if r.Gateway != "" {
			gateways = append(gateways, r.Gateway+" on "+r.Name)
		}
		dns, ntp = append(dns, r.DNS...), append(ntp, r.NTP...)
		search, route = append(search, strings.Fields(r.Domain)...), append(route, r.RouteDomains...)
	}
	online := "offline"
	switch {
	case known.Online:
		online = "online"
	case len(known.Interfaces) == 0: // the daemon does not run
		online = "unknown"
	}
	return show(out, "● ", []line{{"State", []string{order[best]}}, {"Online state", []string{online}}, {"Address", addresses},
		{"Gateway", gateways}, {"DNS", dns}, {"Search Domains", search}, {"Route Domains", route}, {"NTP", ntp}})
}

// details are the interfaces one by one.
func details(out io.Writer, rows []row) error {
	for n, r := range rows {
		if n > 0 {
			fmt.Fprintln(out)
		}
		fmt.Fprintf(out, "● %d: %s\n", r.Index, r.Name)
		file := "n/a"
		if r.File != "" {
			file = r.File
		}
		kind := strings.Fields(r.link.Match.Kind)
		generation := ""
		if mode := setting("/proc/sys/net/ipv6/conf/" + r.Name + "/addr_gen_mode"); mode != "" {
			generation = map[string]string{"0": "eui64", "1": "none", "2": "stable-privacy", "3": "random"}[mode]
		}
		online := "offline"
		if r.OperState == "routable" || r.OperState == "degraded" {
			online = "online"
		}
		if r.SetupState == "unmanaged" {
			online = "unknown"
		}
		err := show(out, "  ", []line{
			{"Link File", []string{"n/a"}}, {"Network File", []string{file}}, {"State", []string{r.OperState + " (" + r.SetupState + ")"}},
			{"Online state", []string{online}}, {"Problem", one(r.Problem)}, {"Type", one(r.link.Match.Type)}, {"Kind", kind},
			{"Path", one(r.link.Match.Path)}, {"Driver", one(r.link.Match.Driver)}, {"Hardware Address", one(r.MAC)},
			{"MTU", []string{fmt.Sprint(r.link.Have.MTU)}}, {"IPv6 Address Generation Mode", one(generation)},
			{"Address", r.shown()}, {"Gateway", one(r.Gateway)}, {"DNS", r.DNS}, {"Search Domains", strings.Fields(r.Domain)},
			{"Route Domains", r.RouteDomains}, {"NTP", r.NTP},
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// shown are the addresses without prefix lengths, those of leases with their
// origin.
func (r row) shown() (all []string) {
	for _, text := range r.Addresses {
		address, _, _ := strings.Cut(text, "/")
		switch address {
		case r.DHCPAddress:
			address += " (DHCP4 via " + r.DHCPServer + ")"
		case r.DHCP6Address:
			address += " (DHCP6)"
		}
		all = append(all, address)
	}
	if r.LinkLocal != "" {
		all = append(all, r.LinkLocal+" (IPv4LL)")
	}
	return all
}

func setting(path string) string {
	text, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(text))
}

func one(text string) []string {
	if text == "" {
		return nil
	}
	return []string{text}
}

// show prints labels that end in one column; what has no values is left out.
func show(out io.Writer, first string, lines []line) error {
	lines = slices.DeleteFunc(lines, func(l line) bool { return len(l.values) == 0 })
	width := 0
	for _, l := range lines {
		width = max(width, len(l.label))
	}
	for _, l := range lines {
		label := l.label + ":"
		for _, value := range l.values {
			if _, err := fmt.Fprintf(out, "%s%*s %s\n", first, width+1, label, value); err != nil {
				return err
			}
			label, first = "", "  "
		}
	}
	return nil
}
