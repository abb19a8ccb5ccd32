// Package words splits a line of a unit file into words the way systemd does:
// blanks separate, single and double quotes group (also inside a word), and
// backslashes escape. It serves Exec...=, Environment= and every setting that
// is a list; systemd.syntax(7) and systemd.service(5), "Command lines".
//
// A shell-word library would differ in the escapes, in quotes inside words and
// in what an unknown escape becomes, so this is code of our own.
package words

import (
	"errors"
	"strings"
	"unicode/utf8"
)

// ErrUnbalanced is returned for a quote that is not closed.
var ErrUnbalanced = errors.New("unbalanced quoting: close the quote that was opened")

// Split splits a line into words and replaces the C escapes in them.
// badEscape tells if there was an escape that does not exist; such a one is
// kept as it is.
func Split(line string) (list []string, badEscape bool, err error) {
	s := NewScanner(line)
	list, err = s.all()
	return list, s.BadEscape, err
}

// SplitNames splits a line of names: quotes group, backslashes are kept as
// they are.
func SplitNames(line string) ([]string, error) {
	s := Scanner{in: line, mode: keep}
	return s.all()
}

// SplitRelaxed splits the value of a variable: a backslash only takes the
// meaning off the next byte, and a quote that is not closed ends with the
// text.
func SplitRelaxed(value string) []string {
	s := Scanner{in: value, mode: relaxed}
	list, _ := s.all()
	return list
}

// Scanner yields the words of a line one after the other.
type Scanner struct {
	// BadEscape is set once there was an escape that does not exist.
	BadEscape bool

	in   string
	pos  int
	mode mode
}

// mode says what a backslash does.
type mode int

const (
	cEscapes mode = iota
	keep
	relaxed // and an open quote is no error
)

// NewScanner makes a Scanner that replaces C escapes.
func NewScanner(line string) *Scanner { return &Scanner{in: line} }

// Rest returns what is left of the line, without leading blanks.
func (s *Scanner) Rest() string { return strings.TrimLeft(s.in[s.pos:], Blank) }

// Skip drops n bytes of Rest.
func (s *Scanner) Skip(n int) { s.pos = len(s.in) - len(s.Rest()) + n }

func (s *Scanner) all() (list []string, err error) {
	for {
		w, ok, err := s.Next()
		if err != nil || !ok {
			return list, err
		}
		list = append(list, w)
	}
}

// Blank holds the bytes that separate words.
const Blank = " \t\n\r"

// Next returns the next word; ok is false at the end of the line.
func (s *Scanner) Next() (w string, ok bool, err error) {
	for s.pos < len(s.in) && strings.IndexByte(Blank, s.in[s.pos]) >= 0 {
		s.pos++
	}
	if s.pos == len(s.in) {
		return "", false, nil
	}
	var b strings.Builder
	var quote byte
	for ; s.pos < len(s.in); s.pos++ {
		switch c := s.in[s.pos]; {
		case c == '\\' && s.mode != keep:
			s.escape(&b)
		case quote != 0 && c == quote:
			quote = 0
		case quote == 0 && (c == '"' || c == '\''):
			quote = c
		case quote == 0 && strings.IndexByte(Blank, c) >= 0:
			return b.String(), true, nil
		default:
			b.WriteByte(c)
		}
	}
	if quote != 0 && s.mode != relaxed {
		return "", false, ErrUnbalanced
	}
	return b.String(), true, nil
}

// escape writes what the backslash at pos and the bytes after it stand for,
// and leaves pos on the last byte that it used.
func (s *Scanner) escape(b *strings.Builder) {
	rest := s.in[s.pos+1:]
	switch {
	case rest == "" && s.mode == relaxed:
	case rest == "":
		b.WriteByte('\\')
		s.BadEscape = true
	case s.mode == relaxed:
		b.WriteByte(rest[0])
		s.pos++
	default:
		text, n := Unescape(rest)
		if n == 0 {
			b.WriteByte('\\')
			s.BadEscape = true
			// The byte after it is kept too, even if it is a quote.
			b.WriteByte(rest[0])
			n = 1
		}
		b.WriteString(text)
		s.pos += n
	}
}

var single = map[byte]string{'a': "\a", 'b': "\b", 'f': "\f", 'n': "\n", 'r': "\r", 't': "\t", 'v': "\v",
	'\\': "\\", '"': "\"", '\'': "'", 's': " "}

// Unescape returns the text of the escape that s begins with, without its
// backslash, and how many bytes of s it takes: 0 if there is no such escape.
func Unescape(s string) (text string, n int) {
	if s == "" {
		return "", 0
	}
	if t, ok := single[s[0]]; ok {
		return t, 1
	}
	switch s[0] {
	case 'x':
		return number(s, 1, 2, 16)
	case 'u':
		return number(s, 1, 4, 16)
	case 'U':
		return number(s, 1, 8, 16)
	case '0', '1', '2', '3', '4', '5', '6', '7':
		return number(s, 0, 3, 8)
	}
	return "", 0
}

// number reads the digits s[from:from+count]; two hexadecimal and three octal
// digits are a byte, the longer ones a code point. Zero is no valid value.
func number(s string, from, count int, base rune) (string, int) {
	if len(s) < from+count {
		return "", 0
	}
	var v rune
	for _, c := range []byte(s[from : from+count]) {
		d := digit(c)
		if d < 0 || d >= base || v > utf8.MaxRune {
			return "", 0
		}
		v = v*base + d
	}
	switch {
	case v == 0 || count == 3 && v > 255 || count > 3 && !utf8.ValidRune(v):
		return "", 0
	case count <= 3:
		return string([]byte{byte(v)}), from + count
	}
	return string(v), from + count
}

func digit(c byte) rune {
	switch {
	case c >= '0' && c <= '9':
		return rune(c - '0')
	case c|0x20 >= 'a' && c|0x20 <= 'f':
		return rune(c|0x20-'a') + 10
	}
	return -1
}
