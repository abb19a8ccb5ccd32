package decide

import (
	"cmp"
	"slices"
	"strconv"

	"github.com/coracle-os/coracle/agents/fleet"
	"github.com/coracle-os/coracle/agents/fleet/unitfile"
)

// Expand adds the instances 1 to N of templates with Replicas=N. Units must be
// sorted by name, and so is what comes back. An instance that is a unit of its
// own stays as it is.
func Expand(units []fleet.Unit) []fleet.Unit {
	var derived []fleet.Unit
	for i := range units {
		u := &units[i]
		if u.Requirements.Replicas == 0 || !fleet.IsTemplate(u.Name) {
			continue
		}
		prefix, _, suffix, _ := fleet.SplitName(u.Name)
		for n := 1; n <= u.Requirements.Replicas; n++ {
			instance := *u
			instance.Name, instance.Template = prefix+"@"+strconv.Itoa(n)+suffix, u.Name
			if _, own := slices.BinarySearchFunc(units, instance, byName); own {
				continue
			}
			instance.Requirements = unitfile.Expand(u.Requirements, instance.Name)
			derived = append(derived, instance)
		}
	}
	if derived == nil {
		return units
	}
	all := slices.Concat(units, derived)
	slices.SortFunc(all, byName)
	return all
}

func byName(a, b fleet.Unit) int { return cmp.Compare(a.Name, b.Name) }
