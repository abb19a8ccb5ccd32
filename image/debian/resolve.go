package debian

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Request is what to resolve in one suite.
type Request struct {
	Suite Suite
	// Names are packages to resolve.
	Names []string
	// Closure asks for everything that the packages depend on too.
	Closure bool
}

// Resolve returns the newest packages of the suite that fulfil the request, in
// the order of their names. With update the mirror is asked for a newer index.
func (a *Archive) Resolve(ctx context.Context, request Request, update bool) ([]Package, error) {
	if len(request.Names) == 0 {
		return nil, nil
	}
	unlock, err := a.lock()
	if err != nil {
		return nil, err
	}
	defer unlock()
	root, err := a.aptRoot(ctx, request.Suite, update)
	if err != nil {
		return nil, err
	}
	wanted := request.Names
	if request.Closure {
		args := append([]string{"-s", "-q", "install", "--no-install-recommends"}, request.Names...)
		out, err := root.run(ctx, root.dir, "apt-get", args...)
		if err != nil {
			return nil, fmt.Errorf("resolve packages of suite %s: %w", request.Suite.Name, err)
		}
		wanted = parseSimulation(out)
	}
	args := append([]string{"show", "--no-all-versions"}, wanted...)
	out, err := root.run(ctx, root.dir, "apt-cache", args...)
	if err != nil {
		return nil, fmt.Errorf("look up packages of suite %s: %w; is the name right in the recipe?", request.Suite.Name, err)
	}
	packages, err := parseShow(out, request.Suite.Name)
	if err != nil {
		return nil, err
	}
	for _, name := range request.Names {
		if !slices.ContainsFunc(packages, func(p Package) bool { return p.Name == name }) {
			return nil, fmt.Errorf("suite %s has no package %q; correct the name or the suite in the recipe", request.Suite.Name, name)
		}
	}
	return packages, nil
}

// parseSimulation returns name=version of every "Inst" line of apt-get -s.
func parseSimulation(out string) []string {
	var result []string
	for line := range strings.Lines(out) {
		fields := strings.Fields(line)
		if len(fields) >= 3 && fields[0] == "Inst" {
			name, _, _ := strings.Cut(fields[1], ":")
			result = append(result, name+"="+strings.TrimPrefix(fields[2], "("))
		}
	}
	return result
}

// parseShow reads the paragraphs that apt-cache show prints.
func parseShow(out, suite string) ([]Package, error) {
	var result []Package
	for paragraph := range strings.SplitSeq(out, "\n\n") {
		fields := map[string]string{}
		for line := range strings.Lines(paragraph) {
			if name, value, ok := strings.Cut(line, ":"); ok && line[0] != ' ' {
				fields[name] = strings.TrimSpace(value)
			}
		}
		if fields["Package"] == "" {
			continue
		}
		size, err := strconv.ParseInt(fields["Size"], 10, 64)
		if err != nil {
			return nil, fmt.Errorf("package %s has the size %q in the index", fields["Package"], fields["Size"])
		}
		p := Package{
			Name: fields["Package"], Version: fields["Version"], Architecture: fields["Architecture"],
			Suite: suite, SHA256: fields["SHA256"], Size: size, Source: fields["Package"],
		}
		if source, _, _ := strings.Cut(fields["Source"], " "); source != "" {
			p.Source = source
		}
		for depend := range strings.SplitSeq(fields["Depends"], ",") {
			name, _, _ := strings.Cut(strings.TrimSpace(depend), " ")
			if name, _, _ = strings.Cut(name, ":"); name != "" {
				p.Depends = append(p.Depends, name)
			}
		}
		if len(p.SHA256) != 64 {
			return nil, fmt.Errorf("package %s has no SHA256 in the index", p.Name)
		}
		if !slices.ContainsFunc(result, func(q Package) bool { return q.Name == p.Name }) {
			result = append(result, p)
		}
	}
	slices.SortFunc(result, func(a, b Package) int { return strings.Compare(a.Name, b.Name) })
	return result, nil
}
