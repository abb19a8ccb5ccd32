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
	if u.Requirements.MachineID != "" {
		// One machine can have it: the others are not to blame.
		refused.number[otherID] = 0
	}
	text := fmt.Sprintf("fits on none of %s: %s", plural(len(w.machines), "machine"), refused.text(u))
	if u.want() > 1 {
		text = fmt.Sprintf("has %d of Replicas=%d; another %s", len(u.on), u.want(), text)
	}
	return text
}

// text lists the verdicts, those about the machine's load last.
func (v *verdicts) text(u *unit) string {
	var parts []string
	for why := otherID; why <= noMemory; why++ {
		n := v.number[why]
		if n == 0 {
			continue
		}
		part := v.reason(u, why)
		if n == 1 {
			part = singular(part)
		}
		parts = append(parts, strconv.Itoa(n)+" "+part)
	}
	slices.Reverse(parts) // what can be changed most easily is said first
	return strings.Join(parts, ", ")
}

// reason is said of several machines.
func (v *verdicts) reason(u *unit, why verdict) string {
	req := u.Requirements
	switch why {
	case otherID:
		return "are not MachineID=" + req.MachineID
	case otherMetadata:
		return "have not MachineMetadata " + metadataText(req.Metadata)
	case drained:
		return "are drained"
	case noPeer:
		return "have not MachineOf=" + u.absentPeer(v.first[why])
	case conflict:
		return fmt.Sprintf("have a conflict, as with %s", v.first[why].conflicting(u))
	case isReplaced:
		return fmt.Sprintf("have %s, which replaces it", v.first[why].replacer(u).Name)
	case tooManyInstances:
		return fmt.Sprintf("have MaxPerMachine=%d instances of %s", req.MaxPerMachine, u.group.name)
	case hasToken:
		return "have a copy"
	case noCPU:
		return "have less than CPU=" + cpuText(req.CPU) + " free"
	}
	return "have less than Memory=" + sizeText(req.Memory) + " free"
}

func singular(text string) string {
	if rest, ok := strings.CutPrefix(text, "are "); ok {
		return "is " + rest
	}
	return "has " + strings.TrimPrefix(text, "have ")
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
