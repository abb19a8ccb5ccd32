// Package networkctl shows the network: the interfaces as the kernel has them
// and what the network daemon does about them. networkctl(1): list and status,
// with the columns that people and scripts know.
//
// Left out on purpose: changing anything; the daemon follows .network files and
// SIGHUP ("systemctl reload systemd-networkd").
package networkctl

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
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
	verb, legend := "", true
	var patterns []string
	for _, arg := range args {
		switch {
		case arg == "-h" || arg == "--help":
			_, err := fmt.Fprintln(out, usage)
			return err
		case arg == "--no-legend":
			legend = false
		case arg == "--no-pager" || arg == "--all" || arg == "-a" || arg == "--full" || arg == "-l":
		case strings.HasPrefix(arg, "-"):
			return fmt.Errorf("unknown option %q; see networkctl --help", arg)
		case verb == "":
			verb = arg
		default:
			patterns = append(patterns, arg)
		}
	}
	rows, known, err := collect()
	if err != nil {
		return err
	}
	if verb != "" && verb != "list" && verb != "status" {
		return fmt.Errorf("unknown verb %q; see networkctl --help", verb)
	}
	if rows, err = choose(rows, patterns); err != nil {
		return err
	}
	if verb == "status" {
		if len(patterns) == 0 {
			return overview(out, rows, known)
		}
		return details(out, rows)
	}
	return list(out, rows, legend)
}

// row is an interface with what the daemon says of it.
type row struct{ state.Interface }

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
			next := row{known.Interfaces[i]}
			next.OperState = networkd.OperState(l)
			rows = append(rows, next)
			continue
		}
		next := row{state.Interface{Index: l.Index, Name: l.Match.Name, MAC: l.Match.MAC, Type: l.Match.Type,
			OperState: networkd.OperState(l), SetupState: "unmanaged"}}
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
			return nil, fmt.Errorf("interface %q not found", pattern)
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
		table = append(table, []string{fmt.Sprint(r.Index), r.Name, r.Type, r.OperState, r.SetupState})
	}
	if err := print(out, table); err != nil || !legend {
		return err
	}
	_, err := fmt.Fprintf(out, "\n%d links listed.\n", len(rows))
	return err
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

// overview is the machine as a whole.
func overview(out io.Writer, rows []row, known state.State) error {
	machine := row{state.Interface{Name: "all"}}
	best := 0
	order := []string{"off", "no-carrier", "carrier", "degraded", "routable"}
	var gateways []string
	for _, r := range rows {
		best = max(best, slices.Index(order, r.OperState))
		if r.Type == "loopback" {
			continue
		}
		for _, address := range r.Addresses {
			machine.Addresses = append(machine.Addresses, address+" on "+r.Name)
		}
		if r.Gateway != "" {
			gateways = append(gateways, r.Gateway+" on "+r.Name)
		}
		machine.DNS, machine.NTP = append(machine.DNS, r.DNS...), append(machine.NTP, r.NTP...)
		machine.Domain = strings.TrimSpace(machine.Domain + " " + r.Domain)
	}
	online := "offline"
	if known.Online {
		online = "online"
	}
	for _, field := range []struct {
		name   string
		values []string
	}{
		{"State", []string{order[best]}}, {"Online state", []string{online}}, {"Address", machine.Addresses},
		{"Gateway", gateways}, {"DNS", machine.DNS}, {"Search Domains", strings.Fields(machine.Domain)}, {"NTP", machine.NTP},
	} {
		if err := show(out, field.name, field.values); err != nil {
			return err
		}
	}
	return nil
}

func details(out io.Writer, rows []row) error {
	for n, r := range rows {
		if n > 0 {
			fmt.Fprintln(out)
		}
		fmt.Fprintf(out, "%d: %s\n", r.Index, r.Name)
		var problem, dhcp, file []string
		if r.Problem != "" {
			problem = []string{r.Problem}
		}
		if r.DHCPServer != "" {
			dhcp = []string{"DHCPv4 by " + r.DHCPServer}
		}
		if r.File != "" {
			file = []string{r.File}
		}
		for _, field := range []struct {
			name   string
			values []string
		}{
			{"Network File", file}, {"State", []string{r.OperState + " (" + r.SetupState + ")"}}, {"Problem", problem},
			{"Type", []string{r.Type}}, {"HW Address", words(r.MAC)}, {"Address", r.Addresses}, {"Lease", dhcp},
			{"Gateway", words(r.Gateway)}, {"DNS", r.DNS}, {"Search Domains", words(r.Domain)}, {"NTP", r.NTP},
		} {
			if err := show(out, field.name, field.values); err != nil {
				return err
			}
		}
	}
	return nil
}

func words(text string) []string { return strings.Fields(text) }

// show prints a field with one value to a line; nothing if there is none.
func show(out io.Writer, name string, values []string) error {
	for i, value := range values {
		label := name + ":"
		if i > 0 {
			label = ""
		}
		if _, err := fmt.Fprintf(out, "%16s %s\n", label, value); err != nil {
			return err
		}
	}
	return nil
}
