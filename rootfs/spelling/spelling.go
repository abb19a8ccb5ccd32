// Package spelling finds the word that a person meant and wrote a little wrong:
// a key of a user-data document or of a network file. It serves the messages of
// their readers.
package spelling

import "slices"

// Nearest returns the one of words that is most like text, or "" when none is
// like it: at most one slip of the pen (a letter too many, too few, another, or
// two swapped) in three letters.
func Nearest(text string, words []string) string {
	if len(text) > 64 { // nobody means that, and the work is its square
		return ""
	}
	words = slices.Sorted(slices.Values(words)) // the same answer every time
	best, least := "", len(text)/3
	for _, word := range words {
		if d := distance(text, word); d > 0 && d <= least && (best == "" || d < least) {
			best, least = word, d
		}
	}
	return best
}

// distance is the optimal string alignment distance.
func distance(a, b string) int {
	var before, last []int
	for i := range len(a) + 1 {
		row := make([]int, len(b)+1)
		for j := range row {
			switch {
			case i == 0 || j == 0:
				row[j] = i + j
				continue
			case a[i-1] == b[j-1]:
				row[j] = last[j-1]
			default:
				row[j] = 1 + min(last[j], row[j-1], last[j-1])
			}
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
		before, last = last, row
	}
	return last[len(b)]
}
