// Package resolvectl shows how names are looked up, and looks them up.
// resolvectl(1) of systemd 252: status, query, dns, domain, default-route and
// flush-caches, with its words and exit codes.
//
// There is no systemd-resolved: programs ask the servers of /etc/resolv.conf,
// which the network daemon writes, or its stub where interfaces have domains of
// their own. So nothing is cached, LLMNR, mDNS, DNSSEC and DNS over TLS are off,
// and servers are set by .network files; the verbs that would set them say so.
package resolvectl

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/coracle-os/coracle/rootfs/network/resolv"
	"github.com/coracle-os/coracle/rootfs/network/split"
	"github.com/coracle-os/coracle/rootfs/network/state"
	"github.com/coracle-os/coracle/rootfs/program"
)

const usage = `resolvectl [status [LINK...]]        servers and domains of the machine and of its links
resolvectl query NAME|ADDRESS...     look names and addresses up
resolvectl dns [LINK]                the servers
resolvectl domain [LINK]             the domains
resolvectl default-route [LINK]      whether a link's servers are asked for all names
resolvectl flush-caches              nothing: there is no cache
Options: -4, -6, --legend=BOOL, --no-pager`

// Resolver looks names up; *net.Resolver is one.
type Resolver interface {
	LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error)
	LookupAddr(ctx context.Context, address string) ([]string, error)
}

// places are where the facts are.
type places struct{ state, local string }

// queryTime bounds one question; the C library gives up after as long.
const queryTime = 30 * time.Second

// Main is the program resolvectl.
func Main(ctx context.Context, args []string, stdio program.Stdio) int {
	return run(ctx, args[1:], places{state.Path, resolv.LocalPath}, &net.Resolver{PreferGo: true}, stdio)
}

func run(ctx context.Context, args []string, p places, resolver Resolver, stdio program.Stdio) int {
	network, legend := "ip", true
	var words []string
	for _, arg := range args {
		switch arg {
		case "-h", "--help":
			fmt.Fprintln(stdio.Out, usage)
			return 0
		case "-4":
			network = "ip4"
		case "-6":
			network = "ip6"
		case "--legend=no", "--legend=false", "--legend=0":
			legend = false
		case "--legend=yes", "--no-pager", "--cache=no":
		default:
			if strings.HasPrefix(arg, "-") {
				fmt.Fprintf(stdio.Err, "resolvectl: unrecognized option %q; see resolvectl --help\n", arg)
				return 1
			}
			words = append(words, arg)
		}
	}
	if len(words) == 0 {
		words = []string{"status"}
	}
	if words[0] == "query" {
		known, _ := state.Read(p.state) // without it nobody knows whom a name was asked of
		return query(ctx, words[1:], network, legend, resolver, split.FromState(known), stdio)
	}
	if err := show(stdio.Out, words[0], words[1:], p); err != nil {
		fmt.Fprintf(stdio.Err, "resolvectl: %v\n", err)
		return 1
	}
	return 0
}

func show(out io.Writer, verb string, names []string, p places) error {
	known, err := state.Read(p.state)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	switch verb {
	case "flush-caches", "reset-server-features":
		return nil
	case "status", "dns", "domain", "default-route":
	case "llmnr", "mdns", "dnsovertls", "dnssec", "nta", "revert", "statistics", "service", "openpgp", "tlsa", "monitor", "log-level", "reset-statistics":
		return fmt.Errorf("%s is not supported: there is no systemd-resolved here", verb)
	default:
		return fmt.Errorf("unknown command verb %q; see resolvectl --help", verb)
	}
	if verb != "status" && len(names) > 1 {
		return fmt.Errorf("%s of a link is set by its .network file; see systemd.network(5) and networkctl reload", verb)
	}
	links := known.Interfaces
	if len(names) > 0 {
		links = nil
		for _, name := range names {
			i := slices.IndexFunc(known.Interfaces, func(i state.Interface) bool { return i.Name == name || fmt.Sprint(i.Index) == name })
			if i < 0 {
				return fmt.Errorf("failed to resolve interface %q: no such device; see networkctl list", name)
			}
			links = append(links, known.Interfaces[i])
		}
	}
	if verb == "status" {
		mode := "uplink"
		if split.Needed(split.FromState(known)) {
			mode = "stub"
		}
		return status(out, links, len(names) == 0, mode, p)
	}
	if len(names) == 0 && verb != "default-route" {
		global := ""
		if local, ok := resolv.ReadLocal(p.local); ok {
			global = " " + map[string]string{"dns": local.Server.String(), "domain": local.Domain}[verb]
		}
		fmt.Fprintf(out, "Global:%s\n", global)
	}
	for _, l := range links {
		values := map[string][]string{"dns": l.DNS, "domain": domains(l), "default-route": {yes(len(l.DNS) > 0 && !l.DNSRouteOnly)}}[verb]
		if _, err := fmt.Fprintln(out, strings.TrimRight(fmt.Sprintf("Link %d (%s): %s", l.Index, l.Name, strings.Join(values, " ")), " ")); err != nil {
			return err
		}
	}
	return nil
}

func yes(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

// domains are the search domains, and with "~" in front those that only the
// link's servers are for.
func domains(l state.Interface) []string {
	all := strings.Fields(l.Domain)
	for _, domain := range l.RouteDomains {
		all = append(all, "~"+domain)
	}
	return all
}

const off = "-LLMNR -mDNS -DNSOverTLS DNSSEC=no/unsupported"

// status is the machine and its links, a paragraph each.
func status(out io.Writer, links []state.Interface, global bool, mode string, p places) error {
	if global {
		lines := [][2]string{{"Protocols", off}, {"resolv.conf mode", mode}}
		if local, ok := resolv.ReadLocal(p.local); ok {
			lines = append(lines, [2]string{"Current DNS Server", local.Server.String()}, [2]string{"DNS Servers", local.Server.String()}, [2]string{"DNS Domain", local.Domain})
		}
		if err := paragraph(out, "Global", lines); err != nil {
			return err
		}
	}
	for i, l := range links {
		if global || i > 0 {
			fmt.Fprintln(out)
		}
		scopes, route := "none", "-DefaultRoute "
		if len(l.DNS) > 0 {
			scopes = "DNS"
		}
		if len(l.DNS) > 0 && !l.DNSRouteOnly {
			route = "+DefaultRoute "
		}
		lines := [][2]string{{"Current Scopes", scopes}, {"Protocols", route + off}}
		if len(l.DNS) > 0 {
			lines = append(lines, [2]string{"Current DNS Server", l.DNS[0]}, [2]string{"DNS Servers", strings.Join(l.DNS, " ")})
		}
		lines = append(lines, [2]string{"DNS Domain", strings.Join(domains(l), " ")})
		if err := paragraph(out, fmt.Sprintf("Link %d (%s)", l.Index, l.Name), lines); err != nil {
			return err
		}
	}
	return nil
}

func paragraph(out io.Writer, title string, lines [][2]string) error {
	fmt.Fprintln(out, title)
	width := 0
	for _, line := range lines {
		if line[1] != "" {
			width = max(width, len(line[0]))
		}
	}
	for _, line := range lines {
		if line[1] == "" {
			continue
		}
		if _, err := fmt.Fprintf(out, "%*s: %s\n", width, line[0], line[1]); err != nil {
			return err
		}
	}
	return nil
}

// query looks all up; one that is not found makes the exit code 1.
func query(ctx context.Context, names []string, network string, legend bool, resolver Resolver, scopes []split.Scope, stdio program.Stdio) (code int) {
	if len(names) == 0 {
		fmt.Fprintln(stdio.Err, "resolvectl: too few arguments: name what to look up")
		return 1
	}
	for _, name := range names {
		begin := time.Now()
		found, err := lookup(ctx, name, network, resolver)
		chosen := split.Choose(name, scopes)
		if err != nil {
			if len(chosen) == 0 && len(scopes) > 0 {
				err = errors.New("No appropriate name servers or networks for name found")
			}
			fmt.Fprintf(stdio.Err, "%s: resolve call failed: %v\n", name, err)
			code = 1
			continue
		}
		for i, text := range found {
			label := name + ":"
			if i > 0 {
				label = strings.Repeat(" ", len(label))
			}
			line := label + " " + text
			// A name without a dot is looked for in several domains.
			if len(chosen) == 1 && strings.Contains(name, ".") && !isAddress(name) {
				line = fmt.Sprintf("%-59s -- link: %s", line, chosen[0].Link)
			}
			fmt.Fprintln(stdio.Out, line)
		}
		if legend {
			fmt.Fprintf(stdio.Out, "\n-- Information acquired via protocol DNS in %.1fms.\n-- Data is authenticated: no; Data was acquired via local or encrypted transport: no\n-- Data from: network\n",
				float64(time.Since(begin).Microseconds())/1000)
		}
	}
	return code
}

func isAddress(name string) bool {
	_, err := netip.ParseAddr(name)
	return err == nil
}

func lookup(ctx context.Context, name, network string, resolver Resolver) (found []string, err error) {
	ctx, cancel := context.WithTimeout(ctx, queryTime)
	defer cancel()
	if isAddress(name) {
		found, err = resolver.LookupAddr(ctx, name)
		for i := range found {
			found[i] = strings.TrimSuffix(found[i], ".")
		}
	} else {
		var addresses []netip.Addr
		addresses, err = resolver.LookupNetIP(ctx, network, name)
		for _, a := range addresses {
			found = append(found, a.Unmap().String())
		}
	}
	var problem *net.DNSError
	switch {
	case errors.As(err, &problem) && problem.IsNotFound:
		return nil, fmt.Errorf("'%s' not found", name)
	case errors.As(err, &problem) && problem.IsTimeout:
		return nil, errors.New("query timed out; see resolvectl status for the servers")
	}
	return found, err
}
