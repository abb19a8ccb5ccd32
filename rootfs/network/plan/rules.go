package plan

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/coracle-os/coracle/rootfs/network/config"
)

// Rule is a rule of policy routing of one family.
type Rule struct {
	config.Rule // without the families
	V6          bool
	Ours        bool // carries our mark
}

func (r Rule) String() string {
	text := "from all"
	if r.From.IsValid() {
		text = "from " + r.From.String()
	}
	if r.To.IsValid() {
		text += " to " + r.To.String()
	}
	if r.Type != "" {
		return text + " " + r.Type
	}
	return fmt.Sprintf("%s table %d", text, r.Table)
}

// Global is what the machine has as a whole: rules, and routes that throw
// packets away.
type Global struct {
	Rules  []Rule
	Routes []Route
}

// WantGlobal is what the files of the interfaces that are there ask for.
func WantGlobal(networks []config.Network) Global {
	var g Global
	for _, n := range networks {
		for _, rule := range n.Rules {
			for _, v6 := range []bool{false, true} {
				if (v6 && !rule.IPv6) || (!v6 && !rule.IPv4) {
					continue
				}
				next := Rule{Rule: rule, V6: v6, Ours: true}
				next.IPv4, next.IPv6 = false, false
				if !slices.Contains(g.Rules, next) {
					g.Rules = append(g.Rules, next)
				}
			}
		}
		for _, route := range n.Routes {
			if next := static(route, 0); next.Typed() {
				next.Gateway = netip.Addr{}
				g.Routes = addTo(g.Routes, next)
			}
		}
	}
	return g
}

// MakeGlobal plans for the machine as a whole.
func MakeGlobal(want, have Global) []Task {
	var tasks []Task
	kept := map[int]bool{}
	for _, rule := range want.Rules {
		i := slices.IndexFunc(have.Rules, func(h Rule) bool { return sameRule(rule, h) })
		if i < 0 {
			tasks = append(tasks, Task{Kind: AddRule, Rule: rule, Reason: "the machine does not have it"})
			continue
		}
		kept[i] = true
	}
	tasks = append(tasks, routes(want.Routes, have.Routes)...)
	for i, rule := range have.Rules {
		if rule.Ours && !kept[i] {
			tasks = append(tasks, Task{Kind: RemoveRule, Rule: rule, Reason: "no longer wanted"})
		}
	}
	return tasks
}

// sameRule compares; a priority that was left to the kernel fits any.
func sameRule(want, have Rule) bool {
	if want.Priority < 0 {
		have.Priority = want.Priority
	}
	return have.Ours && want == have
}
