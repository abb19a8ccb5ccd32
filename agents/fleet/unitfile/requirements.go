package unitfile

import (
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/coracle-os/coracle/agents/fleet"
)

// Section is the section that this package gives a meaning to.
const Section = "X-Fleet"

// The options of [X-Fleet]. Names are case-sensitive.
const (
	optMachineID     = "MachineID"
	optMachineOf     = "MachineOf"
	optMetadata      = "MachineMetadata"
	optConflicts     = "Conflicts"
	optReplaces      = "Replaces"
	optGlobal        = "Global"
	optCPU           = "CPU"
	optMemory        = "Memory"
	optReplicas      = "Replicas"
	optSpreadOver    = "SpreadOver"
	optMaxPerMachine = "MaxPerMachine"
	optFence         = "Fence"

	aliasMachineID     = "X-ConditionMachineID"
	aliasMachineBootID = "X-ConditionMachineBootID"
	aliasMachineOf     = "X-ConditionMachineOf"
	aliasMetadata      = "X-ConditionMachineMetadata"
	aliasConflicts     = "X-Conflicts"
)

var known = []string{
	optMachineID, optMachineOf, optMetadata, optConflicts, optReplaces, optGlobal,
	optCPU, optMemory, optReplicas, optSpreadOver, optMaxPerMachine, optFence,
	aliasMachineID, aliasMachineBootID, aliasMachineOf, aliasMetadata, aliasConflicts,
}

// Requirements reads the section [X-Fleet] for a unit of this name, specifiers
// expanded; those of a template stay as they are, see Expand. Warnings are for people, each without the unit's name: what is not
// known or ignored. The error is a bad value of an option that fleet did not
// have; the Requirements then hold everything but that value.
func (f File) Requirements(name string) (fleet.Requirements, []string, error) {
	r := reader{values: map[string][]string{}}
	expand, unknown := specifiers(name), map[string]bool{}
	for _, o := range f.options {
		if o.Section != Section {
			continue
		}
		if !slices.Contains(known, o.Name) && !unknown[o.Name] {
			unknown[o.Name] = true
			r.req.Unknown = append(r.req.Unknown, o.Name)
			r.warn("unrecognized requirement in [X-Fleet] section: %q", o.Name)
		}
		for _, value := range multiValue(o.Value) {
			r.values[o.Name] = append(r.values[o.Name], expand.Replace(value))
		}
	}
	r.classic()
	r.added()
	return r.req, r.warnings, r.err
}

// reader collects the requirements of one file.
type reader struct {
	values   map[string][]string // by option, expanded
	req      fleet.Requirements
	warnings []string
	err      error // the first
}

func (r *reader) warn(format string, args ...any) {
	r.warnings = append(r.warnings, fmt.Sprintf(format, args...))
}

// classic reads fleet's own options: nothing in them is an error.
func (r *reader) classic() {
	for _, option := range []string{optMachineID, aliasMachineID, aliasMachineBootID} {
		if values := r.values[option]; len(values) > 0 {
			r.req.MachineID = values[0]
			if values[0] == "" {
				r.warn("%s= is empty and ignored", option)
			}
			break
		}
	}
	for _, peer := range r.both(aliasMachineOf, optMachineOf) {
		if strings.ContainsAny(peer, " \t") {
			r.warn(`MachineOf=%s is one name with a blank in it, which no unit has: write MachineOf="a.service" "b.service"`, peer)
		}
		r.req.MachineOf = append(r.req.MachineOf, peer)
	}
	for _, pair := range r.both(aliasMetadata, optMetadata) {
		r.metadata(pair)
	}
	for _, globs := range r.both(aliasConflicts, optConflicts) {
		for _, glob := range strings.Fields(globs) {
			r.checkGlob(optConflicts, glob)
			r.req.Conflicts = append(r.req.Conflicts, glob)
		}
	}
	for _, glob := range r.values[optReplaces] {
		r.checkGlob(optReplaces, glob)
		r.req.Replaces = append(r.req.Replaces, glob)
	}
	if last, ok := r.last(optGlobal); ok {
		r.req.Global = slices.Contains([]string{"true", "yes", "1", "on", "t"}, strings.ToLower(last))
	}
}

// metadata reads one KEY=VALUE. fleet ignored every other form without a word,
// and the unit could then run anywhere.
func (r *reader) metadata(pair string) {
	key, value, ok := strings.Cut(pair, "=")
	if !ok || key == "" || value == "" || strings.Contains(value, "=") {
		r.warn(`MachineMetadata=%s is not KEY=VALUE and is ignored, so the unit may run on machines that you did not mean: write MachineMetadata="a=b" "c=d" for several`, pair)
		return
	}
	if r.req.Metadata == nil {
		r.req.Metadata = map[string][]string{}
	}
	if !slices.Contains(r.req.Metadata[key], value) {
		r.req.Metadata[key] = append(r.req.Metadata[key], value)
	}
}

func (r *reader) checkGlob(option, glob string) {
	if _, err := path.Match(glob, ""); err != nil {
		r.warn("%s=%s is not a pattern and matches nothing: close its brackets", option, glob)
	}
}

// both are the values of two names of one option.
func (r *reader) both(alias, option string) []string {
	return slices.Concat(r.values[alias], r.values[option])
}

// last is the value that counts of an option that has one.
func (r *reader) last(option string) (string, bool) {
	values := r.values[option]
	if len(values) == 0 {
		return "", false
	}
	return strings.TrimSpace(values[len(values)-1]), true
}

// multiValue takes a value apart: only one that begins and ends with a double
// quote is a list, of words between blanks that are outside of quotes.
func multiValue(value string) []string {
	if !strings.HasPrefix(value, `"`) || !strings.HasSuffix(value, `"`) {
		return []string{value}
	}
	var values []string
	var word strings.Builder
	quoted := false
	for _, c := range []byte(value) {
		switch {
		case c == '"':
			quoted = !quoted
		case c == ' ' && !quoted:
			values = append(values, word.String())
			word.Reset()
		default:
			word.WriteByte(c)
		}
	}
	values = append(values, word.String())
	return values
}

// Expand is a template's Requirements for one of its instances. What has no
// specifiers is shared with the template's.
func Expand(req fleet.Requirements, instance string) fleet.Requirements {
	if !hasSpecifiers(req) {
		return req
	}
	replacer := specifiers(instance)
	all := func(values []string) []string {
		expanded := slices.Clone(values)
		for i := range expanded {
			expanded[i] = replacer.Replace(expanded[i])
		}
		return expanded
	}
	req.MachineID = replacer.Replace(req.MachineID)
	req.MachineOf, req.Conflicts, req.Replaces = all(req.MachineOf), all(req.Conflicts), all(req.Replaces)
	req.SpreadOver = replacer.Replace(req.SpreadOver)
	if req.Metadata != nil {
		metadata := make(map[string][]string, len(req.Metadata))
		for _, key := range slices.Sorted(maps.Keys(req.Metadata)) { // two keys may become one
			to := replacer.Replace(key)
			metadata[to] = append(metadata[to], all(req.Metadata[key])...)
		}
		req.Metadata = metadata
	}
	return req
}

func hasSpecifiers(req fleet.Requirements) bool {
	text := slices.Concat(req.MachineOf, req.Conflicts, req.Replaces, []string{req.MachineID, req.SpreadOver})
	for key, values := range req.Metadata {
		text = append(append(text, key), values...)
	}
	return slices.ContainsFunc(text, func(s string) bool { return strings.Contains(s, "%") })
}

// specifiers replaces %n, %N, %p and %i, for a name with a dot that is no template's.
func specifiers(name string) *strings.Replacer {
	prefix, instance, suffix, _ := fleet.SplitName(name)
	if suffix == "" || fleet.IsTemplate(name) {
		return strings.NewReplacer()
	}
	return strings.NewReplacer("%n", name, "%N", strings.TrimSuffix(name, suffix), "%p", prefix, "%i", instance)
}
