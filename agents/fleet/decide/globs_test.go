package decide

import (
	"math/rand/v2"
	"path"
	"slices"
	"testing"
)

// TestGlobs compares the index with path.Match of every pattern.
func TestGlobs(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	text := func(alphabet string, n int) string {
		b := make([]byte, r.IntN(n))
		for i := range b {
			b[i] = alphabet[r.IntN(len(alphabet))]
		}
		return string(b)
	}
	for range 300 {
		var g globs
		var patterns []string
		for range 20 {
			patterns = append(patterns, text(`ab@.*?[]\-`, 7))
		}
		patterns = append(patterns, "a*", "*b", "a*b", "*", "ab", "[ab]*", `a\*`, "")
		g.add(patterns)
		for range 20 {
			name := text("ab@.*-", 6)
			var got []string
			for _, id := range g.match(name) {
				got = append(got, g.patterns[id])
			}
			for _, pattern := range patterns {
				if _, err := path.Match(pattern, ""); err != nil {
					continue
				}
				want, _ := path.Match(pattern, name)
				if slices.Contains(got, pattern) != want {
					t.Fatalf("%q matches %q: %v by the index", pattern, name, !want)
				}
			}
		}
	}
}
