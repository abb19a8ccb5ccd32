// Package name knows the syntax of unit names: type suffix, template and
// instance, and the escaping of paths and other text in them;
// systemd.unit(5), "Description" and "String escaping for inclusion in unit
// names". Names are plain strings everywhere; these functions take them apart.
//
// go-systemd's unit package escapes too, but neither validates nor rejects
// paths with "..", and does not know templates.
package name

import (
	"fmt"
	"path"
	"strings"
)

const maxLength = 255

var suffixes = []string{"service", "socket", "target", "timer", "path", "mount", "automount", "slice", "scope", "swap", "device"}

const validChars = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ:-_.\\@"

// Kind returns the type suffix of a name without the dot, "" if there is no
// known one.
func Kind(name string) string {
	i := strings.LastIndexByte(name, '.')
	for _, s := range suffixes {
		if i > 0 && name[i+1:] == s {
			return s
		}
	}
	return ""
}

// Check returns an error that says what is wrong with a unit name, nil if it
// is a valid plain, template or instance name.
func Check(name string) error {
	base := Base(name)
	switch {
	case len(name) > maxLength:
		return fmt.Errorf("unit name of %d bytes: at most %d are allowed", len(name), maxLength)
	case Kind(name) == "":
		return fmt.Errorf("unit name %q has no known type: end it in .service, .socket, .target or another type", name)
	case base == "" || base[0] == '@':
		return fmt.Errorf("unit name %q has nothing before its type or instance", name)
	}
	for _, c := range base {
		if !strings.ContainsRune(validChars, c) {
			return fmt.Errorf("unit name %q holds %q: use letters, digits and :-_.\\@, or escape it", name, c)
		}
	}
	return nil
}

// Valid tells if Check has nothing to say.
func Valid(name string) bool { return Check(name) == nil }

// Base returns the name without its type: %N.
func Base(name string) string {
	if i := strings.LastIndexByte(name, '.'); i >= 0 {
		return name[:i]
	}
	return name
}

// Prefix returns what is before "@", or the whole base of a plain name: %p.
func Prefix(name string) string {
	p, _, _ := strings.Cut(Base(name), "@")
	return p
}

// Instance returns what is between "@" and the type; ok is false for plain
// names and templates.
func Instance(name string) (instance string, ok bool) {
	_, instance, _ = strings.Cut(Base(name), "@")
	return instance, instance != ""
}

// IsTemplate tells if the name is one like "a@.service".
func IsTemplate(name string) bool {
	return strings.HasSuffix(Base(name), "@") && strings.Count(Base(name), "@") == 1
}

// Template returns the template of an instance, "" if it is none.
func Template(name string) string {
	if _, ok := Instance(name); !ok {
		return ""
	}
	return Prefix(name) + "@." + Kind(name)
}

// WithInstance returns the template or instance name with another instance.
func WithInstance(name, instance string) string {
	return Prefix(name) + "@" + instance + "." + Kind(name)
}

// WithKind returns the name with another type suffix.
func WithKind(name, kind string) string { return Base(name) + "." + kind }

// Escape escapes text for use in a unit name.
func Escape(s string) string {
	var b strings.Builder
	for i, c := range []byte(s) {
		switch {
		case c == '/':
			b.WriteByte('-')
		case c == '.' && i == 0, c == '-', c == '\\', strings.IndexByte(validChars, c) < 0, c == '@':
			fmt.Fprintf(&b, "\\x%02x", c)
		default:
			b.WriteByte(c)
		}
	}
	return b.String()
}

// Unescape is the inverse of Escape.
func Unescape(s string) (string, error) {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] == '-':
			b.WriteByte('/')
		case s[i] != '\\':
			b.WriteByte(s[i])
		default:
			var c byte
			if len(s) < i+4 || s[i+1] != 'x' {
				return "", fmt.Errorf("unescape %q: expected \\xNN at byte %d", s, i)
			}
			if _, err := fmt.Sscanf(s[i+2:i+4], "%02x", &c); err != nil {
				return "", fmt.Errorf("unescape %q: expected \\xNN at byte %d", s, i)
			}
			b.WriteByte(c)
			i += 3
		}
	}
	return b.String(), nil
}

// EscapePath escapes a path: leading, trailing and double slashes are dropped
// and the root directory is "-". A path with ".." is an error.
func EscapePath(p string) (string, error) {
	for _, part := range strings.Split(p, "/") {
		if part == ".." {
			return "", fmt.Errorf("escape path %q: it must not hold %q", p, "..")
		}
	}
	p = strings.Trim(path.Clean("/"+p), "/")
	if p == "" {
		return "-", nil
	}
	return Escape(p), nil
}

// UnescapePath is the inverse of EscapePath; the result is absolute.
func UnescapePath(s string) (string, error) {
	if s == "-" {
		return "/", nil
	}
	p, err := Unescape(s)
	if err != nil {
		return "", err
	}
	abs := "/" + p
	if path.Clean(abs) != abs || p == "" {
		return "", fmt.Errorf("unescape path %q: %q is not a clean path", s, abs)
	}
	return abs, nil
}

// Mangle turns what a user wrote into a unit name: a path becomes a mount or
// device unit, a name without a type gets def, and bytes that are not allowed
// are escaped, as systemctl does with its arguments.
func Mangle(s, def string) string {
	if Valid(s) {
		return s
	}
	if strings.HasPrefix(s, "/") {
		if e, err := EscapePath(s); err == nil {
			if strings.HasPrefix(s, "/dev/") {
				return e + ".device"
			}
			return e + ".mount"
		}
	}
	var b strings.Builder
	for _, c := range []byte(s) {
		switch {
		case c == '/':
			b.WriteByte('-')
		case strings.IndexByte(validChars, c) < 0:
			fmt.Fprintf(&b, "\\x%02x", c)
		default:
			b.WriteByte(c)
		}
	}
	if out := b.String(); Kind(out) != "" {
		return out
	}
	return b.String() + "." + def
}
