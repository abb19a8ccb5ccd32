package release

import (
	"cmp"
	"strings"
)

// CompareVersions orders two versions as systemd-boot does, which decides what
// starts: the Version Format Specification of the UAPI group, as far as
// versions of releases go. It returns -1, 0 or 1. Numbers compare as numbers; a
// version with more parts is the newer one, so 1.2.0-rc1 comes after 1.2.0.
func CompareVersions(a, b string) int {
	for {
		if a == "" || b == "" {
			return cmp.Compare(min(len(a), 1), min(len(b), 1))
		}
		for _, separator := range "-." {
			if c := cmp.Compare(bit(a[0] != byte(separator)), bit(b[0] != byte(separator))); c != 0 {
				return c
			}
		}
		if a[0] == '-' || a[0] == '.' {
			a, b = a[1:], b[1:]
			continue
		}
		if isDigit(rune(a[0])) || isDigit(rune(b[0])) {
			var x, y string
			x, a = split(a, isDigit)
			y, b = split(b, isDigit)
			x, y = strings.TrimLeft(x, "0"), strings.TrimLeft(y, "0")
			if c := cmp.Or(cmp.Compare(len(x), len(y)), cmp.Compare(x, y)); c != 0 {
				return c
			}
			continue
		}
		var x, y string
		x, a = split(a, isLetter)
		y, b = split(b, isLetter)
		if c := cmp.Compare(x, y); c != 0 || x == "" {
			return c
		}
	}
}

func bit(b bool) int {
	if b {
		return 1
	}
	return 0
}

func isDigit(r rune) bool { return r >= '0' && r <= '9' }

func isLetter(r rune) bool { return !isDigit(r) && r != '-' && r != '.' }

// split cuts the longest start of s whose characters are of a kind.
func split(s string, kind func(rune) bool) (start, rest string) {
	i := strings.IndexFunc(s, func(r rune) bool { return !kind(r) })
	if i < 0 {
		return s, ""
	}
	return s[:i], s[i:]
}
