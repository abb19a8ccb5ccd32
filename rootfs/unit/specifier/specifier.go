// Package specifier replaces the % specifiers of unit files;
// systemd.unit(5), "Specifiers". Credentials (%d) and portable images are left
// out: %d is unknown here.
package specifier

import (
	"fmt"
	"path"
	"strings"

	"github.com/coracle-os/coracle/rootfs/unit/name"
)

// Host is what the specifiers say about the machine; the caller fills it.
type Host struct {
	MachineID string // %m, 32 hexadecimal digits
	BootID    string // %b, the same
	Hostname  string // %H
	Pretty    string // %q; the hostname if empty
	Kernel    string // %v
	Arch      string // %a, systemd's name: x86-64
	Shell     string // %s, root's; /bin/sh if empty
	// OSRelease holds ID, VERSION_ID, BUILD_ID, VARIANT_ID, IMAGE_ID and
	// IMAGE_VERSION of os-release.
	OSRelease map[string]string
}

// Expander replaces specifiers for one unit.
type Expander struct {
	Host     Host
	Name     string // with suffix
	Fragment string // path of the unit file
}

// UnknownError is returned for a specifier that does not exist.
type UnknownError struct {
	Specifier byte
}

func (e *UnknownError) Error() string {
	return fmt.Sprintf("unknown specifier %%%c: write %%%% for a percent sign", e.Specifier)
}

// Expand replaces the specifiers in s. A percent sign that no letter follows
// stays.
func (x Expander) Expand(s string) (string, error) {
	if strings.IndexByte(s, '%') < 0 {
		return s, nil
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] != '%' || i+1 == len(s) {
			b.WriteByte(s[i])
			continue
		}
		c := s[i+1]
		switch {
		case c == '%':
			b.WriteByte('%')
		case !letterOrDigit(c):
			b.WriteByte('%')
			b.WriteByte(c)
		default:
			v, err := x.value(c)
			if err != nil {
				return "", err
			}
			b.WriteString(v)
		}
		i++
	}
	return b.String(), nil
}

func letterOrDigit(c byte) bool {
	return c|0x20 >= 'a' && c|0x20 <= 'z' || c >= '0' && c <= '9'
}

var fixed = map[byte]string{'t': "/run", 'S': "/var/lib", 'C': "/var/cache", 'L': "/var/log", 'E': "/etc",
	'T': "/tmp", 'V': "/var/tmp", 'u': "root", 'U': "0", 'g': "root", 'G': "0", 'h': "/root"}

var osRelease = map[byte]string{'o': "ID", 'w': "VERSION_ID", 'B': "BUILD_ID", 'W': "VARIANT_ID", 'M': "IMAGE_ID", 'A': "IMAGE_VERSION"}

func (x Expander) value(c byte) (string, error) {
	if v, ok := fixed[c]; ok {
		return v, nil
	}
	if key, ok := osRelease[c]; ok {
		return x.Host.OSRelease[key], nil
	}
	switch c {
	case 'n':
		return x.Name, nil
	case 'N':
		return name.Base(x.Name), nil
	case 'm':
		return x.Host.MachineID, nil
	case 'b':
		return x.Host.BootID, nil
	case 'H':
		return x.Host.Hostname, nil
	case 'l':
		short, _, _ := strings.Cut(x.Host.Hostname, ".")
		return short, nil
	case 'q':
		return either(x.Host.Pretty, x.Host.Hostname), nil
	case 'v':
		return x.Host.Kernel, nil
	case 'a':
		return x.Host.Arch, nil
	case 's':
		return either(x.Host.Shell, "/bin/sh"), nil
	case 'y':
		return x.Fragment, nil
	case 'd':
		return "/run/credentials/" + x.Name, nil
	case 'Y':
		return path.Dir(x.Fragment), nil
	}
	return x.nameValue(c)
}

// nameValue is value for the parts of the unit's name.
func (x Expander) nameValue(c byte) (string, error) {
	prefix := name.Prefix(x.Name)
	instance, isInstance := name.Instance(x.Name)
	last := prefix[strings.LastIndexByte(prefix, '-')+1:]
	switch c {
	case 'p':
		return prefix, nil
	case 'P':
		return name.Unescape(prefix)
	case 'i':
		return instance, nil
	case 'I':
		return name.Unescape(instance)
	case 'j':
		return last, nil
	case 'J':
		return name.Unescape(last)
	case 'f':
		part := prefix
		if isInstance {
			part = instance
		}
		if p, err := name.UnescapePath(part); err == nil {
			return p, nil
		}
		p, err := name.Unescape(part)
		return "/" + strings.TrimPrefix(p, "/"), err
	}
	return "", &UnknownError{c}
}

func either(a, b string) string {
	if a != "" {
		return a
	}
	return b
}
