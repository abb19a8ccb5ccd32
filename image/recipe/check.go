package recipe

import (
	"fmt"
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/coracle-os/coracle/image/recipe/strict"
	"github.com/coracle-os/coracle/image/verity"
)

var (
	versionPattern = regexp.MustCompile(`^[0-9]+(\.[0-9]+)*(-[a-z0-9.]+)?$`)
	namePattern    = regexp.MustCompile(`^[a-z0-9][a-z0-9+._-]*$`)
	unitPattern    = regexp.MustCompile(`^[A-Za-z0-9:_.@-]+\.(service|socket|target|timer|mount|path)$`)
)

// check reports what is wrong with a recipe that has the right types.
func (r *Recipe) check(d *strict.Document) {
	if r.Format != Format {
		d.Add("recipe", "this program reads recipes of format %d, not %d", Format, r.Format)
		return
	}
	checkPattern(d, "version", r.Version, versionPattern, "numbers with dots, such as 1.2.0")
	checkPattern(d, "channel", r.Channel, namePattern, "a word of lower case letters")
	r.checkSources(d)
	if e := r.SecureBoot.Enroll; !slices.Contains([]string{"", "if-safe", "force", "manual", "off"}, e) {
		d.Add("secure-boot.enroll", "got %q, want if-safe, force, manual or off", e)
	} else if e != "" && r.SecureBoot.Keys == "" {
		d.Add("secure-boot.enroll", "want secure-boot.keys too, the directory of the keys")
	}
	if e := r.SecureBoot.Encrypt; e != "" && e != "tpm2" {
		d.Add("secure-boot.encrypt", "got %q, want tpm2", e)
	} else if e != "" && r.SecureBoot.Keys == "" {
		d.Add("secure-boot.encrypt", "want secure-boot.keys too: the TPM has the key for releases that are signed")
	}
	r.checkComponents(d)
	r.checkFiles(d)
	r.Partitions.check(d)
}

// checkPattern reports a value that does not match. A missing one is a fault
// of the whole document.
func checkPattern(d *strict.Document, at, value string, pattern *regexp.Regexp, want string) {
	if d.Has(at) && value == "" {
		return // it has the wrong type, which is reported already
	}
	if !pattern.MatchString(value) {
		d.Add(at, "got %q, want %s", value, want)
	}
}

func (r *Recipe) checkSources(d *strict.Document) {
	var suites []string
	for i, suite := range r.Suites {
		at := fmt.Sprintf("suites[%d].name", i)
		checkPattern(d, at, suite.Name, namePattern, "the name of a Debian suite")
		if slices.Contains(suites, suite.Name) {
			d.Add(at, "suite %q is given twice", suite.Name)
		}
		suites = append(suites, suite.Name)
	}
	if len(suites) == 0 {
		d.Add("suites", "want at least one Debian suite")
	}
	checkSuite := func(at, name string) {
		if name != "" && !slices.Contains(suites, name) {
			d.Add(at, "%q is not one of the recipe's suites (%s)", name, strings.Join(suites, ", "))
		}
	}
	checkPattern(d, "kernel.package", r.Kernel.Package, namePattern, "the name of a Debian package")
	checkPattern(d, "boot.package", r.Boot.Package, namePattern, "the name of a Debian package")
	checkSuite("kernel.suite", r.Kernel.Suite)
	checkSuite("boot.suite", r.Boot.Suite)
	if r.BIOS != (Boot{}) {
		checkPattern(d, "bios.package", r.BIOS.Package, namePattern, "the name of a Debian package")
		checkSuite("bios.suite", r.BIOS.Suite)
	}
	for i, argument := range r.Kernel.Arguments {
		at := fmt.Sprintf("kernel.arguments[%d]", i)
		if argument == "" || strings.ContainsAny(argument, " \t\n\x00") {
			d.Add(at, "%q is not one argument; write each as an entry of its own", argument)
		}
		if strings.HasPrefix(argument, "roothash=") {
			d.Add(at, "the builder sets roothash itself; remove it")
		}
	}
	checkPatterns(d, "kernel.initrd-modules", r.Kernel.InitrdModules)
	checkPatterns(d, "kernel.root-modules", r.Kernel.RootModules)
	checkPatterns(d, "kernel.rare-modules", r.Kernel.RareModules)
	for i, p := range r.Packages {
		at := fmt.Sprintf("packages[%d]", i)
		checkPattern(d, at+".name", p.Name, namePattern, "the name of a Debian package")
		checkSuite(at+".suite", p.Suite)
		if len(p.Files) == 0 {
			d.Add(at, "want files, the paths that go into the root")
		}
		for j, file := range p.Files {
			checkPath(d, fmt.Sprintf("%s.files[%d]", at, j), strings.TrimSuffix(file, "/**"))
		}
		checkPatterns(d, at+".files", p.Files)
	}
}

func checkPatterns(d *strict.Document, at string, patterns []string) {
	for i, pattern := range patterns {
		if _, err := path.Match(strings.TrimPrefix(pattern, "?"), ""); err != nil || pattern == "" {
			d.Add(fmt.Sprintf("%s[%d]", at, i), "%q is no pattern; see path.Match of Go", pattern)
		}
	}
}

// checkPath reports a path that is not clean and relative to the root.
func checkPath(d *strict.Document, at, name string) {
	if d.Has(at) && name == "" {
		return
	}
	if !fs.ValidPath(name) || name == "." {
		d.Add(at, "%q is no path in the root; write it without leading slash, . and .., such as usr/bin/tool", name)
	}
}

func (r *Recipe) checkComponents(d *strict.Document) {
	names, paths := map[string]bool{}, map[string]bool{}
	init := false
	for i, c := range r.Components {
		at := fmt.Sprintf("components[%d]", i)
		checkPattern(d, at+".name", c.Name, namePattern, "a name of lower case letters")
		checkPath(d, at+".path", c.Path)
		if names[c.Name] {
			d.Add(at+".name", "component %q is given twice", c.Name)
		}
		key := fmt.Sprint(c.Initrd, c.Path)
		if paths[key] {
			d.Add(at+".path", "another component is installed at %q too", c.Path)
		}
		names[c.Name], paths[key] = true, true
		init = init || c.Initrd && c.Path == "init"
		switch {
		case c.Package == "" && len(c.Packages) == 0:
			d.Add(at, "want package, the import path or ./directory of the program")
		case len(c.Packages) > 0 && (c.Package != "" || c.Cgo || c.Small || len(c.Tags) > 0 || c.LDFlags != ""):
			d.Add(at+".packages", "a program of several packages has no package, cgo, small, tags or ldflags")
		}
		if c.Module != "" && !fs.ValidPath(c.Module) {
			d.Add(at+".module", "%q is no directory of the repository", c.Module)
		}
	}
	if !init {
		d.Add("components", "want one with initrd: true and path: init, the kernel's first program")
	}
	if len(r.Commands.Packages) > 0 {
		checkPath(d, "commands.path", r.Commands.Path)
		checkPath(d, "commands.links", r.Commands.Links)
	}
	for program, links := range r.Programs {
		checkPath(d, "programs."+program, program)
		for i, link := range links {
			checkPath(d, fmt.Sprintf("programs.%s[%d]", program, i), link)
		}
	}
}

func (r *Recipe) checkFiles(d *strict.Document) {
	for i, base := range r.Base {
		if !fs.ValidPath(base) {
			d.Add(fmt.Sprintf("base[%d]", i), "%q is no directory of the repository", base)
		}
	}
	for i, f := range r.Files {
		at := fmt.Sprintf("files[%d]", i)
		checkPath(d, at+".path", f.Path)
		kinds := 0
		for _, given := range []bool{d.Has(at + ".content"), f.Source != "", f.Link != "", f.Directory, f.Remove} {
			if given {
				kinds++
			}
		}
		if kinds > 1 {
			d.Add(at, "want only one of content, source, link, directory and remove")
		}
		if f.UID < 0 || f.GID < 0 {
			d.Add(at, "uid and gid cannot be negative")
		}
	}
	for i, u := range r.Units {
		at := fmt.Sprintf("units[%d]", i)
		checkPattern(d, at+".name", u.Name, unitPattern, "the name of a unit, such as hello.service")
		if u.Content != "" && u.Source != "" {
			d.Add(at, "want only one of content and source")
		}
		if u.Content == "" && u.Source == "" && !u.Enable {
			d.Add(at, "want content, source or enable: true")
		}
	}
}

// Limits of partitions. FAT32 needs 65525 clusters, so a smaller ESP would be
// FAT16; ext4 needs room for a journal; the disk must stay within a 32-bit
// number of 512-byte sectors for firmware that cannot count further.
const (
	minESP   = 64 * MiB
	minRoot  = 4 * MiB
	minExt4  = 16 * MiB
	maxTotal = 2048 * GiB
)

func (p Partitions) check(d *strict.Document) {
	for _, one := range []struct {
		name string
		size Size
		min  Size
		why  string
	}{
		{"esp", p.ESP, minESP, "FAT32 and three UKIs need room"},
		{"root", p.Root, minRoot, "a root needs room"},
		{"verity", p.Verity, MiB, "the hash tree needs room"},
		{"oem", p.OEM, minExt4, "ext4 needs room for its journal"},
		{"state", p.State, minExt4, "ext4 needs room for its journal"},
	} {
		at := "partitions." + one.name
		switch {
		case one.size == 0 && d.Has(at): // no size, reported already
		case one.size == 0:
			d.Add(at, "the size is missing")
		case one.size < one.min:
			d.Add(at, "%v is too small, want at least %v: %s", one.size, one.min, one.why)
		case one.size%MiB != 0:
			d.Add(at, "%v is not a whole number of MiB, which partitions are aligned to", one.size)
		}
	}
	need := (Size(verity.TreeSize(int64(p.Root))) + MiB - 1) / MiB * MiB
	if p.Verity > 0 && p.Root >= minRoot && p.Verity < need {
		d.Add("partitions.verity", "%v cannot hold the hash tree of a root of %v, want at least %v", p.Verity, p.Root, need)
	}
	if total := p.ESP + 2*p.Root + 2*p.Verity + p.OEM + p.State; total > maxTotal {
		d.Add("partitions", "%v in all is too much, want at most %v", total, maxTotal)
	}
}
