package debian

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// source is one address of the host's apt configuration that may serve Debian.
type source struct {
	uri      string
	suites   []string
	signedBy string // path of a keyring; "" means the keys that apt trusts for everything
	security bool   // the security archive, whose suites end in -security
}

var errNoSources = errors.New("the host's apt configuration names no Debian archive; " +
	"add one to /etc/apt/sources.list.d/debian.sources (see sources.list(5))")

// hostSources returns the Debian archives of the apt configuration under root
// (normally /etc/apt), most likely first: the main archive and the security
// archive. Whether they really are Debian's is checked later, by the signed
// index (its Origin), because other vendors use the same names for suites.
func hostSources(root string) (mainArchive, security []source, err error) {
	var all []source
	paths := []string{filepath.Join(root, "sources.list")}
	for _, pattern := range []string{"*.list", "*.sources"} {
		found, err := filepath.Glob(filepath.Join(root, "sources.list.d", pattern))
		if err != nil {
			return nil, nil, err
		}
		paths = append(paths, found...)
	}
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, nil, fmt.Errorf("read apt sources: %w", err)
		}
		if strings.HasSuffix(path, ".sources") {
			all = append(all, parseDeb822(string(text))...)
		} else {
			all = append(all, parseOneLine(string(text))...)
		}
	}
	for _, s := range all {
		if s.security {
			security = append(security, s)
		} else {
			mainArchive = append(mainArchive, s)
		}
	}
	slices.SortStableFunc(mainArchive, byLikelihood)
	slices.SortStableFunc(security, byLikelihood)
	if len(mainArchive) == 0 {
		return nil, nil, errNoSources
	}
	return mainArchive, security, nil
}

func byLikelihood(a, b source) int { return b.likelihood() - a.likelihood() }

func (s source) likelihood() int {
	n := 0
	if strings.Contains(s.signedBy, "debian-archive") {
		n += 4
	}
	if strings.HasSuffix(strings.TrimRight(s.uri, "/"), "/debian") {
		n += 2
	}
	if s.signedBy == "" {
		n++
	}
	return n
}

// parseOneLine reads the one-line format: deb [option=value ...] URI suite component...
func parseOneLine(text string) []source {
	var result []source
	for line := range strings.Lines(text) {
		line, _, _ = strings.Cut(line, "#")
		rest, ok := strings.CutPrefix(strings.TrimSpace(line), "deb")
		if !ok || rest == "" || !strings.ContainsAny(rest[:1], " \t[") {
			continue
		}
		rest = strings.TrimSpace(rest)
		var options string
		if strings.HasPrefix(rest, "[") {
			inner, after, closed := strings.Cut(rest[1:], "]")
			if !closed {
				continue
			}
			options, rest = inner, after
		}
		fields := strings.Fields(rest)
		if len(fields) < 3 {
			continue
		}
		signedBy := ""
		for _, option := range strings.Fields(options) {
			if value, ok := strings.CutPrefix(option, "signed-by="); ok {
				signedBy, _, _ = strings.Cut(value, ",")
			}
		}
		result = appendSource(result, fields[0], fields[1:2], fields[2:], signedBy)
	}
	return result
}

// parseDeb822 reads the format of .sources files: paragraphs of fields.
func parseDeb822(text string) []source {
	var result []source
	fields := map[string]string{}
	last := ""
	flush := func() {
		types := strings.Fields(fields["types"])
		if slices.Contains(types, "deb") && !strings.EqualFold(strings.TrimSpace(fields["enabled"]), "no") {
			signedBy := strings.TrimSpace(fields["signed-by"])
			if strings.Contains(signedBy, "\n") { // a key in the file itself
				signedBy = ""
			}
			signedBy, _, _ = strings.Cut(signedBy, " ")
			for _, uri := range strings.Fields(fields["uris"]) {
				result = appendSource(result, uri, strings.Fields(fields["suites"]),
					strings.Fields(fields["components"]), signedBy)
			}
		}
		fields, last = map[string]string{}, ""
	}
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\r\n")
		switch {
		case strings.HasPrefix(line, "#"):
		case strings.TrimSpace(line) == "":
			flush()
		case line[0] == ' ' || line[0] == '\t':
			fields[last] += "\n" + strings.TrimSpace(line)
		default:
			name, value, ok := strings.Cut(line, ":")
			if ok {
				last = strings.ToLower(strings.TrimSpace(name))
				fields[last] = strings.TrimSpace(value)
			}
		}
	}
	flush()
	return result
}

// appendSource splits an entry into its main and its security suites and leaves
// out entries that cannot be Debian's: without the component main, or on a disc.
func appendSource(list []source, uri string, suites, components []string, signedBy string) []source {
	if !slices.Contains(components, "main") || strings.HasPrefix(uri, "cdrom:") {
		return list
	}
	var normal, security []string
	for _, suite := range suites {
		switch {
		case strings.HasSuffix(suite, "/"): // an exact path, not a suite
		case strings.HasSuffix(suite, "-security"):
			security = append(security, suite)
		default:
			normal = append(normal, suite)
		}
	}
	if len(normal) > 0 {
		list = append(list, source{uri: uri, suites: normal, signedBy: signedBy})
	}
	if len(security) > 0 {
		list = append(list, source{uri: uri, suites: security, signedBy: signedBy, security: true})
	}
	return list
}
