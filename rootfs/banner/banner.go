// Package banner is what a person sees before or after logging in: which
// system and version this is, from which slot it runs, what guards it (Secure
// Boot, a TPM), its addresses, and what
// needs attention (failed units, notices of stage 1, alarms of the store, an
// open Docker). The console login and sshd print it.
//
// It takes at most Limit, whatever is broken on the machine, or as long as who
// can wait longer says: what does not answer by then is left out.
package banner

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"sort"
	"strconv"
	"strings"
	"time"

	"github.com/coracle-os/coracle/initrd/bootinfo"
	"github.com/coracle-os/coracle/rootfs/control"
	"github.com/coracle-os/coracle/rootfs/dockerport"
	"github.com/coracle-os/coracle/rootfs/firmware"
)

// Limit bounds the time that a banner takes.
const Limit = 300 * time.Millisecond

// Sources are where the banner looks. The zero value is the running machine.
type Sources struct {
	Root        string                                       // "" = "/"
	FailedUnits func(ctx context.Context) ([]string, error)  // nil = ask PID 1
	Addresses   func(ctx context.Context) ([]Address, error) // nil = the network interfaces
	Alarms      func(ctx context.Context) ([]string, error)  // nil = what etcd.service says of itself
	Limit       time.Duration                                // of the whole; 0 = Limit
}

// Address is an address of an interface.
type Address struct{ Interface, Address string }

// Text returns the banner: lines ending in newlines, without an empty one
// before or after them.
func Text(ctx context.Context, sources Sources) string {
	if sources.FailedUnits == nil {
		sources.FailedUnits = failedUnits
	}
	if sources.Addresses == nil {
		sources.Addresses = interfaceAddresses
	}
	if sources.Alarms == nil {
		sources.Alarms = storeAlarms
	}
	if sources.Limit == 0 {
		sources.Limit = Limit
	}
	ctx, cancel := context.WithTimeout(ctx, sources.Limit)
	defer cancel()
	alarms := within(ctx, sources.Alarms)
	failed := within(ctx, sources.FailedUnits)
	addresses := within(ctx, sources.Addresses)
	info, _ := bootinfo.Read(filepath.Join(sources.Root, bootinfo.Path)) // in memory; a container has none
	open := within(ctx, func(ctx context.Context) ([]string, error) {
		return dockerport.Warnings(ctx, filepath.Join("/", sources.Root)), nil
	})
	trust := within(ctx, func(context.Context) (firmware.State, error) {
		return firmware.Read(os.DirFS(filepath.Join("/", sources.Root))), nil
	})
	return render(osRelease(sources.Root), info, guards(<-trust, info), <-addresses, append(<-alarms, <-open...), <-failed)
}

// within runs f beside the caller and gives its result, or the zero value when
// it fails or the time is over.
func within[T any](ctx context.Context, f func(context.Context) (T, error)) <-chan T {
	found, result := make(chan T, 1), make(chan T, 1)
	go func() {
		if value, err := f(ctx); err == nil {
			found <- value
		}
		close(found)
	}()
	go func() {
		select {
		case value := <-found:
			result <- value
		case <-ctx.Done():
			var none T
			result <- none
		}
	}()
	return result
}

// guards says what guards the boot and the state; nothing on a machine without.
func guards(s firmware.State, info bootinfo.Info) string {
	var words []string
	if s.SecureBoot {
		words = append(words, "Secure Boot enabled")
	}
	if s.TPM != "" {
		words = append(words, "TPM "+s.TPM)
	}
	switch info.StateKey {
	case "":
	case bootinfo.Closed:
		words = append(words, "state encrypted and closed")
	default:
		words = append(words, "state encrypted")
	}
	return strings.Join(words, ", ")
}

func render(release map[string]string, info bootinfo.Info, guards string, addresses []Address, alarms, failed []string) string {
	var b strings.Builder
	name := release["PRETTY_NAME"]
	if name == "" {
		name = strings.TrimSpace(release["NAME"] + " " + release["VERSION_ID"])
	}
	if name == "" {
		name = "Coracle"
	}
	b.WriteString(name)
	if info.Slot != "" {
		b.WriteString(", slot " + info.Slot)
	}
	if len(info.RootHash) >= 16 {
		b.WriteString(", root " + info.RootHash[:16])
	}
	b.WriteByte('\n')
	if guards != "" {
		b.WriteString(guards + "\n")
	}
	for _, line := range addressLines(addresses) {
		b.WriteString(line + "\n")
	}
	for _, notice := range info.Notices {
		b.WriteString("Notice: " + clean(notice) + "\n")
	}
	for _, alarm := range alarms {
		b.WriteString(clean(alarm) + "\n")
	}
	if len(failed) > 0 {
		sort.Strings(failed)
		const most = 10
		more := ""
		if len(failed) > most {
			more = fmt.Sprintf(" and %d more", len(failed)-most)
			failed = failed[:most]
		}
		fmt.Fprintf(&b, "Failed units: %s%s (see: systemctl --failed)\n", clean(strings.Join(failed, " ")), more)
	}
	return b.String()
}

// addressLines has one line for each interface.
func addressLines(addresses []Address) []string {
	var order []string
	of := map[string][]string{}
	for _, a := range addresses {
		if len(of[a.Interface]) == 0 {
			order = append(order, a.Interface)
		}
		of[a.Interface] = append(of[a.Interface], a.Address)
	}
	lines := make([]string, len(order))
	for i, name := range order {
		lines[i] = fmt.Sprintf("%s: %s", name, strings.Join(of[name], " "))
	}
	return lines
}

// clean keeps control characters away from the terminal.
func clean(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, s)
}

// osRelease reads os-release(5) below root.
func osRelease(root string) map[string]string {
	values := map[string]string{}
	for _, path := range []string{"etc/os-release", "usr/lib/os-release"} {
		file, err := os.Open(filepath.Join("/", root, path))
		if err != nil {
			continue
		}
		defer file.Close()
		for scanner := bufio.NewScanner(file); scanner.Scan(); {
			key, value, ok := strings.Cut(scanner.Text(), "=")
			if !ok || strings.HasPrefix(key, "#") {
				continue
			}
			if text, err := strconv.Unquote(value); err == nil {
				value = text
			}
			values[key] = strings.Trim(value, "'")
		}
		break
	}
	return values
}

func failedUnits(ctx context.Context) ([]string, error) {
	var failed []string
	err := control.Client{}.Do(ctx, control.Request{Verb: control.ListUnits}, func(r control.Response) error {
		for _, unit := range r.Units {
			if unit.Active == "failed" {
				failed = append(failed, unit.Name)
			}
		}
		return nil
	})
	return failed, err
}

// storeAlarms is the state that etcd.service tells of itself, when it begins
// with "Alarm".
func storeAlarms(ctx context.Context) ([]string, error) {
	const unit = "etcd.service"
	r, err := control.Client{}.Collect(ctx, control.Request{Verb: control.Show, Units: []string{unit}})
	if err != nil || len(r.Units) != 1 || !strings.HasPrefix(r.Units[0].Properties["StatusText"], "Alarm") {
		return nil, err
	}
	return []string{unit + ": " + r.Units[0].Properties["StatusText"]}, nil
}

// interfaceAddresses lists the global addresses of the interfaces that people
// reach the machine by: not the loopback, not those of containers.
func interfaceAddresses(context.Context) ([]Address, error) {
	interfaces, err := net.Interfaces()
	if err != nil {
		return nil, err
	}
	var found []Address
	for _, i := range interfaces {
		if i.Flags&net.FlagLoopback != 0 || i.Flags&net.FlagUp == 0 || strings.HasPrefix(i.Name, "veth") || strings.HasPrefix(i.Name, "docker") || strings.HasPrefix(i.Name, "br-") {
			continue
		}
		addresses, err := i.Addrs()
		if err != nil {
			continue
		}
		for _, a := range addresses {
			if network, ok := a.(*net.IPNet); ok && network.IP.IsGlobalUnicast() {
				found = append(found, Address{i.Name, network.IP.String()})
			}
		}
	}
	return found, nil
}
