package unitfile

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
)

// MaxName is the longest unit name, in bytes.
const MaxName = 256

// types are systemd's kinds of units, templateTypes those that fleet lets be templates.
var (
	types         = []string{"automount", "busname", "device", "mount", "path", "scope", "service", "slice", "snapshot", "socket", "swap", "target", "timer"}
	templateTypes = []string{"path", "service", "socket", "target", "timer"}
	// completeTypes end a name that fleetctl takes as it is.
	completeTypes = []string{".service", ".socket", ".timer", ".path", ".device", ".mount", ".automount"}
)

// ValidateName tells what is wrong with a unit's name, in fleet's words.
func ValidateName(name string) error {
	dot := strings.LastIndexByte(name, '.')
	switch {
	case name == "":
		return errors.New("unit name cannot be empty")
	case len(name) > MaxName:
		return fmt.Errorf("unit name exceeds maximum length (%d)", MaxName)
	case dot < 0:
		return errors.New(`unit name must contain "."`)
	case dot == len(name)-1:
		return errors.New(`unit name cannot end in "."`)
	}
	kind := name[dot+1:]
	if !slices.Contains(types, kind) {
		return fmt.Errorf("invalid unit type: %q", kind)
	}
	if strings.Contains(name, "@") && !slices.Contains(templateTypes, kind) {
		return fmt.Errorf("invalid unit type for template: %q", kind)
	}
	for _, c := range name[:dot] {
		if !nameCharacter(c) {
			return fmt.Errorf("invalid character %q in unit name", c)
		}
	}
	if strings.HasPrefix(name, "@") {
		return errors.New(`unit name cannot start in "@"`)
	}
	return nil
}

func nameCharacter(c rune) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || strings.ContainsRune(`:_.@\-`, c)
}

// CompleteName is the unit that fleetctl's argument means: the last part of a
// path, with ".service" unless it ends in one of seven types.
func CompleteName(argument string) string {
	name := path.Base(argument)
	for _, kind := range completeTypes {
		if strings.HasSuffix(name, kind) {
			return name
		}
	}
	return name + ".service"
}
