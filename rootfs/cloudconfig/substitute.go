package cloudconfig

import (
	"regexp"
	"strings"
)

// Addresses are the machine's addresses as the variables of a document see
// them; "" is not known.
type Addresses struct {
	PublicIPv4, PrivateIPv4, PublicIPv6, PrivateIPv6 string
}

// Environment returns the known addresses as the variables of
// /etc/environment.
func (a Addresses) Environment() map[string]string {
	env := map[string]string{}
	for key, value := range map[string]string{
		"COREOS_PUBLIC_IPV4":  a.PublicIPv4,
		"COREOS_PRIVATE_IPV4": a.PrivateIPv4,
		"COREOS_PUBLIC_IPV6":  a.PublicIPv6,
		"COREOS_PRIVATE_IPV6": a.PrivateIPv6,
	} {
		if value != "" {
			env[key] = value
		}
	}
	return env
}

// Or returns a with every unknown address taken from b.
func (a Addresses) Or(b Addresses) Addresses {
	or := func(x, y string) string {
		if x != "" {
			return x
		}
		return y
	}
	return Addresses{
		PublicIPv4:  or(a.PublicIPv4, b.PublicIPv4),
		PrivateIPv4: or(a.PrivateIPv4, b.PrivateIPv4),
		PublicIPv6:  or(a.PublicIPv6, b.PublicIPv6),
		PrivateIPv6: or(a.PrivateIPv6, b.PrivateIPv6),
	}
}

// UsesAddresses tells whether data names an address of the machine, by variable
// or through /etc/environment, so that applying it needs the network.
func UsesAddresses(data []byte) bool {
	text := string(data)
	variable := regexp.MustCompile(`(?:[^\\]|^)\$(?:public|private)_ipv[46]`)
	return variable.MatchString(text) || strings.Contains(text, "COREOS_P") ||
		strings.Contains(text, "/etc/environment")
}

// Substitute replaces $public_ipv4, $private_ipv4, $public_ipv6 and
// $private_ipv6 everywhere in the text; an unknown address becomes nothing.
// \$private_ipv4 stands for the text $private_ipv4. As in the original there is
// no word boundary after a name, and of two equal variables without a character
// between them the second stays.
func Substitute(data []byte, a Addresses) []byte {
	text := string(data)
	for _, v := range []struct{ name, value string }{
		{"$public_ipv4", a.PublicIPv4},
		{"$private_ipv4", a.PrivateIPv4},
		{"$public_ipv6", a.PublicIPv6},
		{"$private_ipv6", a.PrivateIPv6},
	} {
		if !strings.Contains(text, v.name) {
			continue
		}
		variable := regexp.MustCompile(`(?s)([^\\]|^)` + regexp.QuoteMeta(v.name))
		text = variable.ReplaceAllStringFunc(text, func(match string) string {
			return strings.TrimSuffix(match, v.name) + v.value
		})
		text = strings.ReplaceAll(text, `\`+v.name, v.name)
	}
	return []byte(text)
}
