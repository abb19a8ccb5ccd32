package decide

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// verdicts counts why machines refuse a unit.
type verdicts struct {
	number [noMemory + 1]int
	first  [noMemory + 1]*machine
	total  int
}

func (v *verdicts) add(why verdict, m *machine) {
	if v.number[why] == 0 {
		v.first[why] = m
	}
	v.number[why]++
	v.total++
}

// explain says why none of the machines fits.
func (w *world) explain(u *unit) string {
	if len(w.machines) == 0 {
		return "there is no machine in the cluster"
	}
	var refused verdicts
	for _, m := range w.machines {
		if v := w.fit(u, m); v != fits {
			refused.add(v, m)
		}
	}
	if refused.number[otherID] == len(w.machines) {
		return fmt.Sprintf("MachineID=%s is none of %s", u.Requirements.MachineID, plural(len(w.machines), "machine"))
	}
	where := "fits on none of " + plural(len(w.machines), "machine")
	switch {
	case u.Requirements.MachineID != "" && refused.number[otherID] == len(w.machines)-1: // the others are not to blame
		where = "does not fit on MachineID=" + u.Requirements.MachineID
		refused.total -= refused.number[otherID]
		refused.number[otherID] = 0
	case len(w.machines) == 1:
		where = "does not fit on the only machine"
	}
	if u.want() > 1 {
		where = fmt.Sprintf("has %d of Replicas=%d; another one %s", len(u.on), u.want(), where)
	}
	return where + ": " + refused.text(u, refused.total == 1)
}

// text lists the verdicts; what can be changed most easily is said first.
// Of a machine that was named it speaks as "it".
func (v *verdicts) text(u *unit, named bool) string {
	var parts []string
	for why := noMemory; why > fits; why-- {
		n := v.number[why]
		switch {
		case n == 0:
		case named:
			parts = append(parts, "it "+singular(v.reason(u, why)))
		case n == 1:
			parts = append(parts, "1 "+singular(v.reason(u, why)))
		default:
			parts = append(parts, strconv.Itoa(n)+" "+v.reason(u, why))
		}
	}
	return strings.Join(parts, ", ")
}

// reason is said of several machines.
func (v *verdicts) reason(u *unit, why verdict) string {
	req := u.Requirements
	switch why {
	case otherID:
		return "are not MachineID=" + req.MachineID
	case otherMetadata:
		return "do not have MachineMetadata " + metadataText(req.Metadata)
	case drained:
		return "are drained"
	case noPeer:
		return "do not have MachineOf=" + strings.Join(req.MachineOf, " ")
	case conflict:
		return fmt.Sprintf("have a conflict, one of them with %s", v.first[why].conflicting(u))
	case isReplaced:
		return fmt.Sprintf("have %s, which replaces it", v.first[why].replacer(u).Name)
	case tooManyInstances:
		return fmt.Sprintf("have MaxPerMachine=%d instances of %s", req.MaxPerMachine, u.group.name)
	case hasToken:
		if u.want() == 1 {
			return "are still stopping it"
		}
		return "have a copy"
	case noCPU:
		return "have less than CPU=" + cpuText(req.CPU) + " free"
	}
	return "have less than Memory=" + sizeText(req.Memory) + " free"
}

// singular is the same said of one.
func singular(text string) string {
	for _, verb := range [][2]string{{"are ", "is "}, {"do not ", "does not "}, {"have ", "has "}} {
		if rest, ok := strings.CutPrefix(text, verb[0]); ok {
			text = verb[1] + rest
		}
	}
	return strings.Replace(text, ", one of them with", " with", 1)
}

func plural(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

func metadataText(metadata map[string][]string) string {
	var parts []string
	for _, key := range slices.Sorted(maps.Keys(metadata)) {
		parts = append(parts, key+"="+strings.Join(metadata[key], "|"))
	}
	return strings.Join(parts, " ")
}

// cpuText is thousandths of a processor as CPU= takes them.
func cpuText(n int64) string {
	return strconv.FormatFloat(float64(n)/1000, 'f', -1, 64)
}

// sizeText is bytes as Memory= takes them.
func sizeText(n int64) string {
	for i, unit := range []string{"E", "P", "T", "G", "M", "K"} {
		size := int64(1) << (60 - 10*i)
		if n >= size && n%size == 0 {
			return strconv.FormatInt(n/size, 10) + unit
		}
	}
	return strconv.FormatInt(n, 10)
}

// short is a machine's id as people see it.
func short(id string) string {
	if len(id) > 8 {
		return id[:8] + "..."
	}
	return id
}
