package config

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
)

// File takes apart what a fleet.conf says. name is for messages. Lines that
// begin with # or ; are comments, keys are the same in any case and with "-"
// for "_", and a value may stand in quotes. What is below a [section] belonged
// to other programs in fleet's library, and is left out.
func File(name string, content []byte) (Source, error) {
	if bytes.IndexByte(content, 0) >= 0 {
		return nil, fmt.Errorf("read settings: %s has NUL characters: it is not a text file", name)
	}
	var source Source
	for i, line := range strings.Split(strings.TrimPrefix(string(content), "\ufeff"), "\n") {
		line = strings.TrimSpace(line)
		where := fmt.Sprintf("%s:%d", name, i+1)
		if line == "" || line[0] == '#' || line[0] == ';' {
			continue
		}
		if line[0] == '[' {
			return source, nil
		}
		k, v, ok := strings.Cut(line, "=")
		if !ok || strings.TrimSpace(k) == "" {
			return nil, fmt.Errorf("read settings: %s: %q is not a setting like key=value", where, line)
		}
		source = append(source, Setting{canonical(k), unquote(strings.TrimSpace(v)), where})
	}
	return source, nil
}

// environPrefix begins the variables.
const environPrefix = "FLEET_"

// Environment takes the variables FLEET_*; empty ones count as not set, as an
// empty substitution in a cloud-config leaves them.
func Environment(environ []string) Source {
	var source Source
	for _, e := range environ {
		name, value, ok := strings.Cut(e, "=")
		rest, ours := strings.CutPrefix(name, environPrefix)
		if ok && ours && value != "" {
			source = append(source, Setting{canonical(rest), unquote(value), name})
		}
	}
	slices.SortFunc(source, func(a, b Setting) int { return strings.Compare(a.Where, b.Where) })
	return source
}

func canonical(k string) string {
	return strings.ReplaceAll(strings.ToLower(strings.TrimSpace(k)), "-", "_")
}

// unquote takes one pair of quotes away.
func unquote(v string) string {
	if n := len(v); n >= 2 && v[0] == v[n-1] && (v[0] == '"' || v[0] == '\'') && !strings.Contains(v[1:n-1], v[:1]) {
		return v[1 : n-1]
	}
	return v
}
