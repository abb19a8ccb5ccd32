// Package recipe reads the one file that says what goes into an image.
//
// A recipe is strict and versioned: a key that is not known, a value of the
// wrong type or a size that cannot work is an error with line and column, and
// all of them are reported at once. The package knows what a recipe may say; it
// does not know how an image is made, and it looks at nothing but the text.
package recipe

import (
	_ "embed"
	"fmt"
	"os"

	"github.com/coracle-os/coracle/image/recipe/strict"
)

// Format is the version of the recipe's format that this package reads.
const Format = 1

//go:embed default.yaml
var defaultText []byte

// Recipe is a whole recipe.
type Recipe struct {
	Format     int                 `yaml:"recipe"`  // version of the format
	Version    string              `yaml:"version"` // of the release, as in os-release
	Channel    string              `yaml:"channel"` // that the release is for
	Suites     []Suite             `yaml:"suites"`  // of Debian; the first is the default
	Kernel     Kernel              `yaml:"kernel"`  //
	Boot       Boot                `yaml:"boot"`    // loader and stub
	SecureBoot SecureBoot          `yaml:"secure-boot"`
	BIOS       Boot                `yaml:"bios"`       // GRUB for legacy BIOS; without it the image boots on UEFI only
	Packages   []Package           `yaml:"packages"`   // files from Debian packages
	Components []Component         `yaml:"components"` // programs built from Go
	Commands   Commands            `yaml:"commands"`   // small commands in one program
	Programs   map[string][]string `yaml:"programs"`   // names of multi-call programs: file to links
	Base       []string            `yaml:"base"`       // directories of the repository, copied to the root
	Files      []File              `yaml:"files"`      // extra files, and modes of others
	Units      []Unit              `yaml:"units"`      // extra units
	Partitions Partitions          `yaml:"partitions"` // their sizes
}

// Suite names suites of the Debian archive that are used together.
type Suite struct {
	Name string   `yaml:"name"` // such as trixie
	With []string `yaml:"with"` // more, such as trixie-security
}

// Kernel says which kernel and what of it.
type Kernel struct {
	Package       string   `yaml:"package"`        // may be a metapackage that depends on the newest
	Suite         string   `yaml:"suite"`          // "" for the first of Recipe.Suites
	Arguments     []string `yaml:"arguments"`      // command line, after roothash=
	InitrdModules []string `yaml:"initrd-modules"` // patterns; "?" in front means optional
	RootModules   []string `yaml:"root-modules"`   // the same; in the root are those of the initrd too
	RareModules   []string `yaml:"rare-modules"`   // in the root, left compressed: small, slow to load
}

// Boot says where a boot loader comes from; for UEFI the stub is in it too.
type Boot struct {
	Package string `yaml:"package"`
	Suite   string `yaml:"suite"`
}

// SecureBoot says whether boot loader and UKI are signed.
type SecureBoot struct {
	// Keys is a directory of package secureboot in the recipe's directory; ""
	// signs nothing.
	Keys string `yaml:"keys"`
	// Enroll is what systemd-boot does with the keys on a machine in setup mode
	// (loader.conf(5)): if-safe, the default, enrols them on virtual machines and
	// offers them in its menu on others; force enrols them on every one; manual
	// only offers them; off leaves them alone.
	Enroll string `yaml:"enroll"`
	// Encrypt is tpm2 for releases that encrypt the state partition of a new
	// machine and seal its key to the machine's TPM; "" for none.
	Encrypt string `yaml:"encrypt"`
}

// Package is a Debian package of which some files go into the root, with the
// shared libraries that they need.
type Package struct {
	Name  string   `yaml:"name"`
	Suite string   `yaml:"suite"`
	Files []string `yaml:"files"` // patterns of path.Match; dir/** is all below dir
	// Bundle is the path of one file that the files are joined into instead of
	// being installed, in the order of their names.
	Bundle string `yaml:"bundle"`
}

// Component is a Go program of its own file.
type Component struct {
	Name    string `yaml:"name"`
	Module  string `yaml:"module"`  // directory in the repository, "" for its own module
	Package string `yaml:"package"` // import path or ./directory below the module
	// Packages, in place of Package, are import paths of main packages that become
	// one program, which tells by its name which of them to be.
	Packages []string `yaml:"packages"`
	Tags     []string `yaml:"tags"`
	LDFlags  string   `yaml:"ldflags"`
	Cgo      bool     `yaml:"cgo"`
	// Small has the compiler not inline functions, except in the standard library
	// and in what compresses: a tenth less of a program that waits more than it computes.
	Small  bool   `yaml:"small"`
	Initrd bool   `yaml:"initrd"` // the path is in the initrd, not in the root
	Path   string `yaml:"path"`   // where it is installed, without leading slash
}

// Commands are main packages that become one program with many names.
type Commands struct {
	Path     string   `yaml:"path"`     // of the program
	Links    string   `yaml:"links"`    // directory of its names
	Packages []string `yaml:"packages"` // import paths; the last element is the name
}

// File is one file, directory or link of the root. Without content, source,
// link and directory it changes mode or owner of a file from elsewhere.
type File struct {
	Path      string `yaml:"path"`
	Content   string `yaml:"content"`   // of a regular file
	Source    string `yaml:"source"`    // file in the recipe's directory that has the content
	Link      string `yaml:"link"`      // target of a symbolic link
	Directory bool   `yaml:"directory"` //
	Remove    bool   `yaml:"remove"`    // leave the file out
	Mode      Mode   `yaml:"mode"`      // octal; 0 keeps what there is, or 0644 and 0755
	UID       int    `yaml:"uid"`
	GID       int    `yaml:"gid"`
}

// Unit is a unit file for /usr/lib/systemd/system.
type Unit struct {
	Name    string `yaml:"name"`
	Content string `yaml:"content"`
	Source  string `yaml:"source"` // file in the recipe's directory that has the content
	Enable  bool   `yaml:"enable"` // link it as its [Install] section says
}

// Partitions has the sizes of the disk's partitions.
type Partitions struct {
	ESP    Size `yaml:"esp"`
	Root   Size `yaml:"root"`   // of each of the two slots
	Verity Size `yaml:"verity"` // of each of the two slots
	OEM    Size `yaml:"oem"`
	State  Size `yaml:"state"` // in the image; grows on first boot
}

// Default returns the text of the recipe in the tree.
func Default() []byte { return defaultText }

// Parse reads a recipe. The error is a strict.Faults with everything that is
// wrong.
func Parse(text []byte) (*Recipe, error) {
	r := &Recipe{}
	document := strict.Decode(text, r)
	if document.Has("recipe") || len(document.Faults) == 0 {
		r.check(document)
	}
	if err := document.Err(); err != nil {
		return nil, err
	}
	return r, nil
}

// ReadFile reads the recipe in a file; "" means the default one.
func ReadFile(path string) (*Recipe, error) {
	text, name := defaultText, "default recipe"
	if path != "" {
		name = path
		var err error
		if text, err = os.ReadFile(path); err != nil {
			return nil, fmt.Errorf("read recipe: %w", err)
		}
	}
	r, err := Parse(text)
	if err != nil {
		return nil, &FileError{Name: name, Err: err}
	}
	return r, nil
}

// FileError is what is wrong with the recipe of a file.
type FileError struct {
	Name string
	Err  error
}

func (e *FileError) Unwrap() error { return e.Err }

// Error has one line for each fault, each with the file's name in front, as
// editors and people are used to from compilers.
func (e *FileError) Error() string {
	faults, ok := e.Err.(strict.Faults)
	if !ok {
		return e.Name + ": " + e.Err.Error()
	}
	text := ""
	for i, fault := range faults {
		if i > 0 {
			text += "\n"
		}
		text += e.Name + ":" + fault.Error()
	}
	return text
}
