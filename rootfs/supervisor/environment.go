package supervisor

import (
	"regexp"
	"slices"
	"strings"

	"github.com/coracle-os/coracle/rootfs/control"
)

// setEnvironment changes the variables that every command gets.
func (s *Supervisor) setEnvironment(verb control.Verb, words []string) error {
	if verb == control.SetEnvironment {
		for _, w := range words {
			if !assignment.MatchString(w) {
				return control.Errorf(control.BadRequest, "Invalid environment assignments: %q is not NAME=value", w)
			}
		}
	}
	for _, w := range words {
		name, _, whole := strings.Cut(w, "=")
		s.environment = slices.DeleteFunc(slices.Clone(s.environment), func(e string) bool {
			return strings.HasPrefix(e, name+"=") && (verb == control.SetEnvironment || !whole || e == w)
		})
		if verb == control.SetEnvironment {
			s.environment = append(s.environment, w)
		}
	}
	return nil
}

var assignment = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*=[^\x00-\x08\x0b-\x1f\x7f]*$`)
