// Package tmpfiles makes the files and directories that must exist before
// services start, from tmpfiles.d(5) lines. PID 1 calls it once at boot, after
// the state partition is mounted, because the root and what is below /var in a
// fresh image are read-only or empty.
//
// Of tmpfiles.d(5) it knows the types d D v q Q e f F w L C p z Z r R x X with
// the modifiers + ! - and = ~ ^ ignored by name, modes with ~ and :, users and
// groups by name or number, and the specifiers %b %H %m %S %C %L %t %T %V %%.
// Directories are read with systemd's priority: /etc, /run, /usr/lib, a file
// hides those of the same name in later ones.
//
// Left out on purpose: ages (nothing cleans up by age here yet), devices (c b:
// devtmpfs makes them), attributes, ACLs and xattrs (h H a A t T).
package tmpfiles

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"sort"
	"strconv"
	"strings"
)

// Item is one line of a tmpfiles.d file.
type Item struct {
	Type     byte   // letter of tmpfiles.d(5)
	Append   bool   // "+": f truncates, L replaces, w appends
	Boot     bool   // "!": only at boot
	Quiet    bool   // "-": failing is no error
	Path     string // absolute, clean, specifiers not yet replaced
	Mode     *uint32
	Masked   bool   // "~" before the mode: masked by the existing mode
	Fresh    bool   // ":" before mode, user or group: only when newly made
	User     string // name or number, "" = root, or unchanged for e z Z
	Group    string // the same
	Argument string
	Source   string // "file:line" for messages
}

// known lists the types; a type not here is reported and left out.
const known = "dDvqQefFwLCpzZrRxX"

// Parse reads one file. Every bad line is one error with file and line; the
// good ones are returned all the same.
func Parse(name, text string) (items []Item, errs []error) {
	number := 0
	for line := range strings.Lines(text) {
		number++
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		item, err := parseLine(line)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s:%d: %w; the line is left out", name, number, err))
			continue
		}
		item.Source = fmt.Sprintf("%s:%d", name, number)
		items = append(items, item)
	}
	return items, errs
}

func parseLine(line string) (Item, error) {
	words, argument, err := split(line)
	if err != nil {
		return Item{}, err
	}
	if len(words) < 2 || words[0] == "" {
		return Item{}, errors.New("expected at least a type and a path")
	}
	item := Item{Argument: argument}
	if err := item.parseType(words[0]); err != nil {
		return Item{}, err
	}
	if !path.IsAbs(words[1]) && !strings.HasPrefix(words[1], "%") {
		return Item{}, fmt.Errorf("path %q is not absolute", words[1])
	}
	item.Path = path.Clean(words[1])
	get := func(i int) string {
		if i < len(words) && words[i] != "-" {
			return words[i]
		}
		return ""
	}
	if err := item.parseMode(get(2)); err != nil {
		return Item{}, err
	}
	for i, field := range map[int]*string{3: &item.User, 4: &item.Group} {
		value := get(i)
		if rest, ok := strings.CutPrefix(value, ":"); ok {
			item.Fresh, value = true, rest
		}
		*field = value
	}
	return item, nil
}

func (item *Item) parseType(word string) error {
	item.Type = word[0]
	if !strings.ContainsRune(known, rune(word[0])) {
		return fmt.Errorf("type %q is not supported", word)
	}
	for _, modifier := range word[1:] {
		switch modifier {
		case '+':
			item.Append = true
		case '!':
			item.Boot = true
		case '-':
			item.Quiet = true
		case '=', '~', '^', '$', '?':
		default:
			return fmt.Errorf("unknown modifier %q of type %q", modifier, word)
		}
	}
	return nil
}

func (item *Item) parseMode(word string) error {
	for word != "" && (word[0] == '~' || word[0] == ':') {
		item.Masked = item.Masked || word[0] == '~'
		item.Fresh = item.Fresh || word[0] == ':'
		word = word[1:]
	}
	if word == "" {
		return nil
	}
	mode, err := strconv.ParseUint(word, 8, 32)
	if err != nil || mode > 0o7777 {
		return fmt.Errorf("mode %q is not an octal number up to 7777", word)
	}
	m := uint32(mode)
	item.Mode = &m
	return nil
}

// split cuts a line into its first six words, which may be quoted, and the
// rest of the line, which is the argument.
func split(line string) (words []string, argument string, err error) {
	for len(words) < 6 {
		line = strings.TrimLeft(line, " \t")
		if line == "" {
			return words, "", nil
		}
		var word strings.Builder
		var quote byte
		i := 0
		for ; i < len(line); i++ {
			c := line[i]
			switch {
			case quote != 0 && c == quote:
				quote = 0
			case quote == 0 && (c == '"' || c == '\''):
				quote = c
			case c == '\\' && i+1 < len(line):
				i++
				word.WriteByte(line[i])
			case quote == 0 && (c == ' ' || c == '\t'):
				goto done
			default:
				word.WriteByte(c)
			}
		}
		if quote != 0 {
			return nil, "", fmt.Errorf("quote %q is not closed", quote)
		}
	done:
		words = append(words, word.String())
		line = line[i:]
	}
	argument = strings.TrimSpace(line)
	if len(argument) > 1 && (argument[0] == '"' || argument[0] == '\'') && argument[len(argument)-1] == argument[0] {
		argument = argument[1 : len(argument)-1]
	}
	if argument == "-" {
		argument = ""
	}
	return words, unescape(argument), nil
}

// unescape replaces the C escapes that an argument may have.
func unescape(s string) string {
	if !strings.Contains(s, `\`) {
		return s
	}
	if text, err := strconv.Unquote(`"` + strings.ReplaceAll(s, `"`, `\"`) + `"`); err == nil {
		return text
	}
	return s
}

// dirs are the configuration directories, the strongest first.
var dirs = []string{"etc/tmpfiles.d", "run/tmpfiles.d", "usr/lib/tmpfiles.d"}

// Load reads all configuration of a root directory. A path that two lines of
// the same kind claim belongs to the first, as files sort by name. Errors are
// warnings: what could be read is returned.
func Load(root string) (items []Item, errs []error) {
	files := map[string]string{}
	for _, dir := range slices.Backward(dirs) {
		entries, err := os.ReadDir(filepath.Join(root, dir))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, fmt.Errorf("read tmpfiles configuration: %w", err))
		}
		for _, entry := range entries {
			if strings.HasSuffix(entry.Name(), ".conf") {
				files[entry.Name()] = filepath.Join(root, dir, entry.Name())
			}
		}
	}
	names := make([]string, 0, len(files))
	for name := range files {
		names = append(names, name)
	}
	sort.Strings(names)
	for _, name := range names {
		text, err := os.ReadFile(files[name])
		if err != nil {
			errs = append(errs, fmt.Errorf("read tmpfiles configuration: %w", err))
			continue
		}
		more, bad := Parse(files[name], string(text))
		items, errs = append(items, more...), append(errs, bad...)
	}
	return order(items, &errs), errs
}

// order drops later claims of one path and sorts so that a directory comes
// before what is in it.
func order(items []Item, errs *[]error) []Item {
	owner := map[string]string{}
	kept := items[:0:0]
	for _, item := range items {
		if !strings.ContainsRune("wzZrRxXe", rune(item.Type)) {
			if first, ok := owner[item.Path]; ok {
				if item.Source != first {
					*errs = append(*errs, fmt.Errorf("%s: %q is already made by %s; the line is left out", item.Source, item.Path, first))
				}
				continue
			}
			owner[item.Path] = item.Source
		}
		kept = append(kept, item)
	}
	sort.SliceStable(kept, func(i, j int) bool {
		a, b := kept[i], kept[j]
		if ra, rb := removes(a), removes(b); ra != rb {
			return ra
		}
		return a.Path < b.Path
	})
	return kept
}

func removes(item Item) bool { return item.Type == 'r' || item.Type == 'R' }
