package timespan

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// ParseSize reads a number of bytes with an optional suffix B, K, M, G, T, P
// or E of base 1024; decimals are allowed. "infinity" is not a size.
func ParseSize(s string) (uint64, error) {
	text := strings.TrimSpace(s)
	whole, rest := digits(text)
	fraction := ""
	if strings.HasPrefix(rest, ".") {
		fraction, rest = digits(rest[1:])
	}
	shift := 10 * strings.Index("BKMGTPE", strings.TrimSpace(rest))
	if strings.TrimSpace(rest) == "" {
		shift = 0
	}
	if whole == "" || shift < 0 || len(strings.TrimSpace(rest)) > 1 {
		return 0, fmt.Errorf("parse size %q: write a number with K, M, G or T, for example %q", s, "512M")
	}
	n, err := strconv.ParseUint(whole, 10, 64)
	if err != nil || n > math.MaxUint64>>shift {
		return 0, fmt.Errorf("parse size %q: it is larger than 16 EiB", s)
	}
	total := n << shift
	part := float64(uint64(1) << shift)
	for _, c := range []byte(fraction) {
		part /= 10
		total += uint64(part * float64(c-'0'))
	}
	return total, nil
}
