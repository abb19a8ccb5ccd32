package config

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/coracle-os/coracle/rootfs/unit/syntax"
	"github.com/coracle-os/coracle/rootfs/unit/timespan"
	"github.com/coracle-os/coracle/rootfs/unit/words"
)

// ignored is for keys that change nothing here.
func ignored[T any](*T, string) error { return nil }

// list makes a field of words; an empty value resets the list. A word that
// check refuses is left out.
func list[T any](of func(*T) *[]string, check func(string) (string, error)) field[T] {
	return func(target *T, value string) error {
		all := of(target)
		if value == "" {
			*all = nil
			return nil
		}
		var problem error
		for _, word := range words.SplitRelaxed(value) {
			if check != nil {
				var err error
				if word, err = check(word); err != nil {
					problem = err
					continue
				}
			}
			*all = append(*all, word)
		}
		return problem
	}
}

// word makes a field of one text that check may refuse or change.
func word[T any](of func(*T) *string, check func(string) (string, error)) field[T] {
	return func(target *T, value string) error {
		if value != "" && check != nil {
			var err error
			if value, err = check(value); err != nil {
				return err
			}
		}
		*of(target) = value
		return nil
	}
}

// oneOf makes a field of one of some words.
func oneOf[T any](of func(*T) *string, choices ...string) field[T] {
	return word(of, func(value string) (string, error) {
		if !slices.Contains(choices, value) {
			return "", fmt.Errorf("%q is not known; write one of %s", value, strings.Join(choices, ", "))
		}
		return value, nil
	})
}

func boolean[T any](of func(*T) *bool) field[T] {
	return func(target *T, value string) error {
		b, err := truth(value)
		if err == nil {
			*of(target) = b
		}
		return err
	}
}

// maybe makes a field of a boolean that may be left to the kernel.
func maybe[T any](of func(*T) **bool) field[T] {
	return func(target *T, value string) error {
		if value == "" {
			*of(target) = nil
			return nil
		}
		b, err := truth(value)
		if err == nil {
			*of(target) = &b
		}
		return err
	}
}

func truth(value string) (bool, error) {
	b, err := syntax.Bool(value)
	if err != nil {
		return false, fmt.Errorf("%q is not a boolean; write yes or no", value)
	}
	return b, nil
}

func number[T any](of func(*T) *int, low, high int) field[T] {
	return func(target *T, value string) error {
		n, err := parseNumber(value, low, high)
		if err == nil {
			*of(target) = n
		}
		return err
	}
}

func parseNumber(value string, low, high int) (int, error) {
	n, err := strconv.ParseInt(value, 0, 64)
	if err != nil || n < int64(low) || n > int64(high) {
		return 0, fmt.Errorf("%q is not a number from %d to %d", value, low, high)
	}
	return int(n), nil
}

// mtu reads a number of bytes, with the suffixes K and M of 1024.
func mtu[T any](of func(*T) *int) field[T] {
	return func(target *T, value string) error {
		text, factor := value, 1
		for suffix, by := range map[string]int{"K": 1024, "M": 1 << 20} {
			if rest, ok := strings.CutSuffix(value, suffix); ok {
				text, factor = rest, by
			}
		}
		n, err := strconv.Atoi(text)
		if err != nil || n < 0 || n*factor < 68 || n > 65535 || n*factor > 65535 {
			return fmt.Errorf("%q is not a number from 68 to 65535", value)
		}
		*of(target) = n * factor
		return nil
	}
}

// span makes a field of a time; a number without a unit is in seconds.
func span[T any](of func(*T) *time.Duration) field[T] {
	return func(target *T, value string) error {
		d, err := timespan.Parse(value, time.Second)
		if err != nil || d < 0 {
			return fmt.Errorf("%q is not a time; write 100ms or 5s", value)
		}
		*of(target) = d
		return nil
	}
}

// ip makes a field of an address; an empty value resets it.
func ip[T any](of func(*T) *netip.Addr) field[T] {
	return func(target *T, value string) error {
		if value == "" {
			*of(target) = netip.Addr{}
			return nil
		}
		a, err := parseAddr(value)
		if err == nil {
			*of(target) = a
		}
		return err
	}
}

func parseAddr(value string) (netip.Addr, error) {
	a, err := netip.ParseAddr(value)
	if err != nil || a.Zone() != "" {
		return netip.Addr{}, fmt.Errorf("%q is not an address", value)
	}
	return a, nil
}

// parsePrefix reads an address with or without a prefix length; without one
// it is the whole address.
func parsePrefix(value string) (netip.Prefix, error) {
	if prefix, err := netip.ParsePrefix(value); err == nil {
		return prefix, nil
	}
	a, err := parseAddr(value)
	if err != nil {
		return netip.Prefix{}, fmt.Errorf("%q is not an address with prefix length", value)
	}
	return netip.PrefixFrom(a, a.BitLen()), nil
}

// network makes a field of a network such as 10.0.0.0/8.
func network[T any](of func(*T) *netip.Prefix) field[T] {
	return func(target *T, value string) error {
		prefix, err := parsePrefix(value)
		if err == nil {
			*of(target) = prefix.Masked()
		}
		return err
	}
}

func macAddress(word string) (string, error) {
	mac, err := net.ParseMAC(word)
	if err != nil {
		return "", fmt.Errorf("%q is not a hardware address", word)
	}
	return mac.String(), nil
}

// linkName checks the name of an interface: 15 bytes at most, as the kernel
// has it.
func linkName(word string) (string, error) {
	if word == "" || len(word) > 15 || word == "." || word == ".." || word == "all" || word == "default" ||
		strings.ContainsAny(word, "/:% \t\n\r\"'\\") || strings.ContainsFunc(word, func(c rune) bool { return c < 33 || c > 126 }) {
		return "", fmt.Errorf("%q is not the name of an interface", word)
	}
	return word, nil
}

// domain takes a search domain, or with "~" in front one whose names the
// servers of this interface are for.
func domain(word string) (string, error) {
	if word == "~." || word == "~" {
		return "~.", nil
	}
	name, routing := strings.CutPrefix(word, "~")
	name, err := server(strings.TrimSuffix(name, "."))
	if err == nil && routing {
		name = "~" + name
	}
	return name, err
}

func server(word string) (string, error) {
	if _, err := netip.ParseAddr(word); err == nil {
		return word, nil
	}
	if !ValidName(strings.TrimSuffix(word, ".")) {
		return "", fmt.Errorf("%q is not a domain name", word)
	}
	return word, nil
}

// ValidName tells whether a text is a host or domain name of at most 253
// characters: labels of letters, digits, hyphens and underscores. Names come
// from DHCP servers too, and end up in files with a format of their own.
func ValidName(name string) bool {
	if name == "" || len(name) > 253 {
		return false
	}
	for label := range strings.SplitSeq(name, ".") {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
			return false
		}
		for _, c := range []byte(label) {
			if !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '-' || c == '_') {
				return false
			}
		}
	}
	return true
}

var tableNames = map[string]int{"default": 253, "main": 254, "local": 255}

// routeTable reads the number or name of a routing table.
func routeTable(value string) (int, error) {
	if n, ok := tableNames[value]; ok {
		return n, nil
	}
	n, err := parseNumber(value, 1, 1<<32-1)
	if err != nil {
		return 0, errors.New(err.Error() + ", and not default, main or local")
	}
	return n, nil
}

// choice refuses a text that is none of those known.
func choice(value string, known []string) (string, error) {
	if !slices.Contains(known, value) {
		return "", fmt.Errorf("%q is not supported", value)
	}
	return value, nil
}
