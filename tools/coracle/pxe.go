package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/coracle-os/coracle/rootfs/program"
	"github.com/coracle-os/coracle/tools/pxe/answer"
	"github.com/coracle-os/coracle/tools/pxe/serve"
	"github.com/coracle-os/coracle/tools/pxe/site"
)

const pxeUsage = `Usage: coracle pxe serve [-dir DIR] ...    start machines of this network from what
                                           coracle build -format pxe made
`

// cmdPXE starts machines over the network.
func cmdPXE(ctx context.Context, args []string, stdio program.Stdio) error {
	if len(args) > 0 {
		switch args[0] {
		case "serve":
			return cmdPXEServe(ctx, args[1:], stdio)
		case "-h", "-help", "--help":
			fmt.Fprint(stdio.Out, pxeUsage)
			return flag.ErrHelp
		}
	}
	fmt.Fprint(stdio.Err, pxeUsage)
	return errUsage
}

// programsDir is where Debian's package ipxe has its programs.
const programsDir = "/usr/lib/ipxe"

// cmdPXEServe serves until it is stopped.
func cmdPXEServe(ctx context.Context, args []string, stdio program.Stdio) error {
	flags := flag.NewFlagSet("coracle pxe serve", flag.ContinueOnError)
	flags.SetOutput(stdio.Err)
	dir := flags.String("dir", "build/pxe", "`directory` that coracle build -format pxe made")
	name := flags.String("interface", "", "network `interface`; without it the only one that is up")
	port := flags.Int("http-port", 8069, "`port` of HTTP")
	noDHCP := flags.Bool("no-dhcp", false, "only HTTP; the network's own DHCP server names the script to iPXE")
	addresses := flags.String("dhcp-range", "", "give addresses too, `FIRST-LAST`: only in a network that has no other DHCP server")
	router := flags.String("router", "", "`address` of the router, with -dhcp-range")
	dns := flags.String("dns", "", "`addresses` of name servers, with commas between, with -dhcp-range")
	userData := flags.String("user-data", "", "`file` for all machines, or directory with a file for each, named by its hardware address (52-54-00-12-34-56.yaml), or default")
	arguments := flags.String("args", "", "kernel `arguments` for all machines, such as coracle.state=memory")
	disk := flags.String("install", "", "have the machines install themselves on this `disk`, once each; all that it holds is lost")
	image := flags.String("image", "", "`file` to install in place of the release that they start")
	programs := flags.String("ipxe", programsDir, "`directory` of iPXE's programs")
	if err := parseFlags(flags, args); err != nil {
		return err
	}
	var mu sync.Mutex
	log := func(format string, args ...any) {
		mu.Lock()
		defer mu.Unlock()
		fmt.Fprintf(stdio.Out, "%s "+format+"\n", append([]any{time.Now().Format(time.TimeOnly)}, args...)...)
	}
	ip, network, ifname, err := ownNetwork(*name)
	if err != nil {
		return err
	}
	s := &serve.Server{
		Interface: ifname, NoDHCP: *noDHCP, Log: log, Now: time.Now, Answers: answer.Server{IP: ip, HTTP: *port},
		Site: &site.Site{Dir: *dir, Programs: *programs, Args: strings.Fields(*arguments), UserData: *userData, Install: *disk, Image: *image,
			Record: filepath.Join(*dir, "installed"), Log: log, Now: time.Now},
	}
	if *addresses != "" {
		if s.Answers.Pool, err = pool(*addresses, network, *router, *dns); err != nil {
			return err
		}
	}
	mode := "proxy-DHCP beside the network's DHCP server"
	if *addresses != "" {
		mode = "DHCP, addresses " + *addresses
	}
	if *noDHCP {
		mode = "no DHCP: have your server give iPXE the file name below"
	}
	fmt.Fprintf(stdio.Out, "serving %s on %s (%s)\n%s\nscript: http://%s:%d%s\n", *dir, ifname, ip, mode, ip, *port, answer.ScriptPath)
	if *disk != "" {
		fmt.Fprintf(stdio.Out, "machines that start from here erase %s, unless %s names them\n", *disk, s.Site.Record)
	}
	return s.Run(ctx)
}

func pool(addresses string, network *net.IPNet, router, dns string) (*answer.Pool, error) {
	p, err := answer.ParseRange(addresses, network)
	if err != nil {
		return nil, err
	}
	if router != "" {
		if p.Router = net.ParseIP(router).To4(); p.Router == nil {
			return nil, fmt.Errorf("-router %q is no IPv4 address", router)
		}
	}
	for one := range strings.FieldsFuncSeq(dns, func(r rune) bool { return r == ',' || r == ' ' }) {
		ip := net.ParseIP(one).To4()
		if ip == nil {
			return nil, fmt.Errorf("-dns: %q is no IPv4 address", one)
		}
		p.DNS = append(p.DNS, ip)
	}
	return p, nil
}

// ownNetwork gives address and network of an interface, or of the only one that
// is up.
func ownNetwork(name string) (net.IP, *net.IPNet, string, error) {
	all, err := net.Interfaces()
	if err != nil {
		return nil, nil, "", err
	}
	var names []string
	var ip net.IP
	var network *net.IPNet
	for _, i := range all {
		if i.Flags&net.FlagUp == 0 || (name == "" && i.Flags&net.FlagLoopback != 0) || (name != "" && name != i.Name) {
			continue
		}
		list, err := i.Addrs()
		if err != nil {
			return nil, nil, "", err
		}
		for _, a := range list {
			if n, ok := a.(*net.IPNet); ok && n.IP.To4() != nil {
				names, ip, network = append(names, i.Name), n.IP.To4(), &net.IPNet{IP: n.IP.To4().Mask(n.Mask), Mask: n.Mask}
				break
			}
		}
	}
	switch {
	case len(names) == 1:
		return ip, network, names[0], nil
	case len(names) == 0 && name != "":
		return nil, nil, "", fmt.Errorf("there is no interface %q that is up and has an IPv4 address", name)
	case len(names) == 0:
		return nil, nil, "", errors.New("no interface is up and has an IPv4 address")
	}
	return nil, nil, "", fmt.Errorf("several interfaces are up (%s): name one with -interface", strings.Join(names, ", "))
}
