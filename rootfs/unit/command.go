package unit

import (
	"strings"

	"github.com/coracle-os/coracle/rootfs/unit/words"
)

// Command is one command of an Exec...= line, after quoting, escapes and
// specifiers; variables are replaced by Expand just before it runs.
type Command struct {
	// Path is absolute and clean, or a name without "/" that is searched in
	// SearchPath when the command runs.
	Path string
	// Args is the whole argument vector; Args[0] is the path as written, or
	// the word after "@path".
	Args          []string
	IgnoreFailure bool // "-"
	NoEnv         bool // ":", no variables
	FullPrivilege bool // "+", as root whatever User= says
	NoSetuid      bool // "!"
	AmbientSetuid bool // "!!"
}

// SearchPath is where commands without a "/" are looked for, in this order.
var SearchPath = []string{"/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"}

// DefaultPATH is the value of $PATH that services get.
const DefaultPATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// Expand returns the argument vector with variables replaced from env, whose
// entries are NAME=value, later ones winning. As systemd does it, a word that
// is exactly $FOO becomes the words of the value, honouring quotes in it, and
// vanishes when that is empty or not set; ${FOO} inside a word is replaced by
// the value as it is; $$ is a dollar sign; all else is kept. Args[0] is not
// expanded.
func (c Command) Expand(env []string) []string {
	if c.NoEnv || len(c.Args) == 0 {
		return append([]string(nil), c.Args...)
	}
	values := make(map[string]string, len(env))
	for _, e := range env {
		if name, value, ok := strings.Cut(e, "="); ok {
			values[name] = value
		}
	}
	out := []string{c.Args[0]}
	for _, word := range c.Args[1:] {
		if word == "$" || len(word) > 1 && word[0] == '$' && word[1] != '{' && word[1] != '$' {
			out = append(out, words.SplitRelaxed(values[word[1:]])...)
			continue
		}
		out = append(out, replaceBraced(word, values))
	}
	return out
}

// replaceBraced replaces ${NAME} and $$ in a word. A colon before the closing
// brace is the shell's syntax for default values: that is kept as it is.
func replaceBraced(word string, values map[string]string) string {
	var b strings.Builder
	for i := 0; i < len(word); i++ {
		if word[i] != '$' || i+1 == len(word) {
			b.WriteByte(word[i])
			continue
		}
		switch word[i+1] {
		case '$':
			b.WriteByte('$')
			i++
		case '{':
			end := strings.IndexAny(word[i:], "}:")
			if end < 0 {
				b.WriteString(word[i:])
				return b.String()
			}
			if word[i+end] == '}' {
				b.WriteString(values[word[i+2:i+end]])
			} else {
				b.WriteString(word[i : i+end+1])
			}
			i += end
		default:
			b.WriteByte('$')
		}
	}
	return b.String()
}
