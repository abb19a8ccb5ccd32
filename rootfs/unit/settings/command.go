package settings

import (
	"errors"
	"fmt"
	"path"
	"strings"

	"github.com/coracle-os/coracle/rootfs/unit"
	"github.com/coracle-os/coracle/rootfs/unit/specifier"
	"github.com/coracle-os/coracle/rootfs/unit/words"
)

// commands takes the commands of an Exec...= line; an empty value resets the
// list. A fault in a command refuses the unit unless it has the prefix "-".
func commands(f field[[]unit.Command]) setting {
	return func(p *pass, value string) error {
		if value == "" {
			*f(p.u) = nil
			return nil
		}
		list, warnings, err := ParseCommands(value, p.x)
		for _, w := range warnings {
			p.warn("%s", w)
		}
		*f(p.u) = append(*f(p.u), list...)
		return err
	}
}

// ParseCommands splits a line into commands at lone semicolons and each into
// words. What was read before a fault is returned with it.
func ParseCommands(line string, x specifier.Expander) (list []unit.Command, warnings []string, err error) {
	s := words.NewScanner(line)
	for {
		first, ok, err := s.Next()
		if err != nil {
			return list, warnings, fmt.Errorf("%w, ignoring: %s", err, line)
		}
		if !ok {
			break
		}
		if first == ";" {
			continue
		}
		c, err := parseCommand(s, first, x)
		switch {
		case err != nil && c.IgnoreFailure:
			return list, append(warnings, err.Error()), nil
		case err != nil:
			return list, warnings, &refusal{err}
		}
		list = append(list, c)
	}
	if s.BadEscape {
		warnings = append(warnings, fmt.Sprintf("Ignoring unknown escape sequences: \"%s\"", line))
	}
	return list, warnings, nil
}

// parseCommand reads one command up to the semicolon after it.
func parseCommand(s *words.Scanner, first string, x specifier.Expander) (unit.Command, error) {
	c, rest, separate := prefixes(first)
	file, err := x.Expand(rest)
	if err != nil {
		return c, fmt.Errorf("Failed to resolve unit specifiers in %s, ignoring: %w", rest, err)
	}
	if err := checkProgram(file); err != nil {
		return c, err
	}
	c.Path = file
	if strings.HasPrefix(file, "/") {
		c.Path = path.Clean(file)
	}
	if !separate {
		c.Args = []string{file}
	}
	for s.Rest() != "" {
		switch rest := s.Rest(); {
		case lone(rest, ";"):
			s.Skip(1)
			return c, checkArgs(c)
		case lone(rest, "\\;"):
			s.Skip(2)
			c.Args = append(c.Args, ";")
			continue
		}
		w, _, err := s.Next()
		if err != nil {
			return c, err
		}
		expanded, err := x.Expand(w)
		if err != nil {
			return c, fmt.Errorf("Failed to resolve unit specifiers in %s, ignoring: %w", w, err)
		}
		c.Args = append(c.Args, expanded)
	}
	return c, checkArgs(c)
}

// lone tells if s begins with the word w.
func lone(s, w string) bool {
	rest, ok := strings.CutPrefix(s, w)
	return ok && (rest == "" || strings.IndexByte(words.Blank, rest[0]) >= 0)
}

func checkArgs(c unit.Command) error {
	if len(c.Args) == 0 || c.Args[0] == "" {
		return errors.New("Empty executable name or zeroeth argument, ignoring: give argv[0] after the path that has the prefix @")
	}
	return nil
}

// prefixes takes the prefixes off a program, each at most once; separate tells
// that there is "@".
func prefixes(word string) (c unit.Command, rest string, separate bool) {
	for word != "" {
		privileged := c.FullPrivilege || c.NoSetuid || c.AmbientSetuid
		switch b := word[0]; {
		case b == '-' && !c.IgnoreFailure:
			c.IgnoreFailure = true
		case b == '@' && !separate:
			separate = true
		case b == ':' && !c.NoEnv:
			c.NoEnv = true
		case b == '+' && !privileged:
			c.FullPrivilege = true
		case b == '!' && !privileged:
			c.NoSetuid = true
		case b == '!' && c.NoSetuid:
			c.NoSetuid, c.AmbientSetuid = false, true
		default:
			return c, word, separate
		}
		word = word[1:]
	}
	return c, word, separate
}

// checkProgram says what is wrong with the path of a program.
func checkProgram(file string) error {
	special := func(r rune) bool { return r < ' ' || strings.ContainsRune("\"'\\\x7f", r) }
	switch {
	case file == "":
		return errors.New("Empty path in command line, ignoring: no blank may follow a prefix")
	case strings.IndexFunc(file, special) >= 0:
		return fmt.Errorf("Executable name contains special characters: %s", file)
	case strings.HasSuffix(file, "/"):
		return fmt.Errorf("Executable path specifies a directory: %s", file)
	case !strings.HasPrefix(file, "/") && (strings.Contains(file, "/") || file == "." || file == ".."):
		return fmt.Errorf("Neither a valid executable name nor an absolute path: %s", file)
	}
	return nil
}
