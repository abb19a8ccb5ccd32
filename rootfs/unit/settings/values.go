package settings

import (
	"fmt"
	"math"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/coracle-os/coracle/rootfs/unit"
	"github.com/coracle-os/coracle/rootfs/unit/name"
	"github.com/coracle-os/coracle/rootfs/unit/syntax"
	"github.com/coracle-os/coracle/rootfs/unit/timespan"
	"github.com/coracle-os/coracle/rootfs/unit/words"
)

// field points at a part of a unit.
type field[T any] func(u *unit.Unit) *T

func boolean(f field[bool]) setting {
	return func(p *pass, value string) error {
		v, err := syntax.Bool(value)
		if err != nil {
			return err
		}
		*f(p.u) = v
		return nil
	}
}

// text takes a string with specifiers; an empty one resets it.
func text(f field[string]) setting {
	return func(p *pass, value string) error {
		v, err := p.x.Expand(value)
		if err != nil {
			return fmt.Errorf("Failed to resolve unit specifiers in %q, ignoring: %w", value, err)
		}
		*f(p.u) = v
		return nil
	}
}

// oneOf takes one of a list of words.
func oneOf[T ~string](f field[T], allowed ...T) setting {
	return func(p *pass, value string) error {
		if !slices.Contains(allowed, T(value)) {
			return fmt.Errorf("Failed to parse %q, ignoring: it is one of %v", value, allowed)
		}
		*f(p.u) = T(value)
		return nil
	}
}

func number(f field[int], low, high int) setting {
	return func(p *pass, value string) error {
		n, err := strconv.Atoi(value)
		if err != nil || n < low || n > high {
			return fmt.Errorf("Failed to parse number %q, ignoring: it is a whole number from %d to %d", value, low, high)
		}
		*f(p.u) = n
		return nil
	}
}

// octal takes a file mode.
func octal(f field[int]) setting {
	return func(p *pass, value string) error {
		n, err := strconv.ParseUint(value, 8, 12)
		if err != nil {
			return fmt.Errorf("Failed to parse mode value %q, ignoring: write it in octal, for example 0755", value)
		}
		*f(p.u) = int(n)
		return nil
	}
}

func span(f field[time.Duration]) setting {
	return func(p *pass, value string) error {
		d, err := timespan.Parse(value, time.Second)
		if err != nil {
			return err
		}
		*f(p.u) = d
		return nil
	}
}

// limit takes a time span of which 0 means none.
func limit(fields ...field[time.Duration]) setting {
	return func(p *pass, value string) error {
		d, err := timespan.Parse(value, time.Second)
		if err != nil {
			return err
		}
		if d == 0 {
			d = timespan.Infinity
		}
		for _, f := range fields {
			*f(p.u) = d
		}
		return nil
	}
}

func size(f field[uint64]) setting {
	return func(p *pass, value string) error {
		n, err := timespan.ParseSize(value)
		if err != nil {
			return err
		}
		*f(p.u) = n
		return nil
	}
}

// list takes words; an empty value resets the list.
func list(f field[[]string], check func(string) error) setting {
	return func(p *pass, value string) error {
		if value == "" {
			*f(p.u) = nil
			return nil
		}
		return p.each(value, func(w string) error {
			if check != nil {
				if err := check(w); err != nil {
					return err
				}
			}
			if !slices.Contains(*f(p.u), w) {
				*f(p.u) = append(*f(p.u), w)
			}
			return nil
		})
	}
}

// each splits a list of names, replaces specifiers and calls take for every
// word; what is wrong with one word costs only that word.
func (p *pass) each(value string, take func(word string) error) error {
	all, err := words.SplitNames(value)
	for _, w := range all {
		expanded, err := p.x.Expand(w)
		if err != nil {
			p.warn("Failed to resolve unit specifiers in %q, ignoring: %s", w, err)
			continue
		}
		if err := take(expanded); err != nil {
			p.warn("%s", err)
		}
	}
	return err
}

// rawList is list without specifiers.
func rawList(f field[[]string]) setting {
	return func(p *pass, value string) error {
		if value == "" {
			*f(p.u) = nil
			return nil
		}
		all, err := words.SplitNames(value)
		*f(p.u) = append(*f(p.u), all...)
		return err
	}
}

// absolute cleans an absolute path.
func absolute(s string) (string, error) {
	if !strings.HasPrefix(s, "/") {
		return "", fmt.Errorf("Path %q is not absolute, ignoring: begin it with /", s)
	}
	if slices.Contains(strings.Split(s, "/"), "..") {
		return "", fmt.Errorf("Path %q is not normalized, ignoring: write it without \"..\"", s)
	}
	return path.Clean(s), nil
}

// absPath takes an absolute path with specifiers; an empty value resets it.
func absPath(f field[string]) setting {
	return func(p *pass, value string) error {
		v, err := p.x.Expand(value)
		if err != nil {
			return fmt.Errorf("Failed to resolve unit specifiers in %q, ignoring: %w", value, err)
		}
		if v != "" {
			if v, err = absolute(v); err != nil {
				return err
			}
		}
		*f(p.u) = v
		return nil
	}
}

// dependency adds units; an empty value does nothing.
func dependency(kind unit.Dep) setting {
	return func(p *pass, value string) error {
		return p.each(value, func(w string) error {
			if err := name.Check(w); err != nil {
				return fmt.Errorf("Failed to add dependency on %s, ignoring: %w", w, err)
			}
			if w = Instantiate(w, p.u.Name); w != p.u.Name {
				p.u.Deps.Add(kind, w)
			}
			return nil
		})
	}
}

// Instantiate gives a template that is named as a dependency the instance of
// the unit that names it, or its prefix if it has none.
func Instantiate(dependency, by string) string {
	if !name.IsTemplate(dependency) {
		return dependency
	}
	instance, ok := name.Instance(by)
	if !ok {
		instance = name.Prefix(by)
	}
	return name.WithInstance(dependency, instance)
}

// unitName takes the name of a unit of one of the kinds.
func unitName(f field[string], kinds ...string) setting {
	return func(p *pass, value string) error {
		v, err := p.x.Expand(value)
		if err == nil {
			err = name.Check(v)
		}
		if err == nil && len(kinds) > 0 && !slices.Contains(kinds, name.Kind(v)) {
			err = fmt.Errorf("%q is not of type %s", v, strings.Join(kinds, " or "))
		}
		if err != nil {
			return fmt.Errorf("Invalid unit name %q, ignoring: %w", value, err)
		}
		*f(p.u) = v
		return nil
	}
}

// amount takes a size, a percentage or "infinity" for a cgroup.
func amount(f field[unit.Value]) setting {
	return func(p *pass, value string) error {
		if value == "" {
			*f(p.u) = unit.Value{}
			return nil
		}
		v, err := parseAmount(value)
		if err != nil {
			return err
		}
		*f(p.u) = v
		return nil
	}
}

func parseAmount(s string) (unit.Value, error) {
	if s == "infinity" {
		return unit.Value{Set: true, Infinity: true}, nil
	}
	if percent, ok := strings.CutSuffix(s, "%"); ok {
		f, err := strconv.ParseFloat(strings.TrimSpace(percent), 64)
		if err != nil || f < 0 || f > 100 {
			return unit.Value{}, fmt.Errorf("Failed to parse %q, ignoring: a percentage is between 0%% and 100%%", s)
		}
		return unit.Value{Set: true, Permyriad: true, N: uint64(math.Round(f * 100))}, nil
	}
	n, err := timespan.ParseSize(s)
	return unit.Value{Set: true, N: n}, err
}

// weight takes a number between low and high for a cgroup.
func weight(f field[unit.Value], low, high uint64) setting {
	return func(p *pass, value string) error {
		if value == "" {
			*f(p.u) = unit.Value{}
			return nil
		}
		n, err := strconv.ParseUint(value, 10, 64)
		if err != nil || n < low || n > high {
			return fmt.Errorf("Failed to parse %q, ignoring: it is a number from %d to %d", value, low, high)
		}
		*f(p.u) = unit.Value{Set: true, N: n}
		return nil
	}
}

// ignore takes anything and does nothing.
func ignore(*pass, string) error { return nil }
