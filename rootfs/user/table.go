package user

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// fileKind is one of the four account files.
type fileKind struct {
	name   string      // below the root directory
	fields int         // colon-separated fields of a whole line
	mode   fs.FileMode // of a file that does not exist yet
}

var (
	passwdFile  = fileKind{"etc/passwd", 7, 0o644}
	groupFile   = fileKind{"etc/group", 4, 0o644}
	shadowFile  = fileKind{"etc/shadow", 9, 0o600}
	gshadowFile = fileKind{"etc/gshadow", 4, 0o600}
)

// table is an account file in memory. Splitting at every colon loses nothing,
// so a line of any shape is written back as it was read.
type table struct {
	kind fileKind
	rows [][]string
}

func parseTable(kind fileKind, text string) *table {
	t := &table{kind: kind}
	for line := range strings.Lines(text) {
		t.rows = append(t.rows, strings.Split(strings.TrimSuffix(line, "\n"), ":"))
	}
	return t
}

func (t *table) String() string {
	var b strings.Builder
	for _, row := range t.rows {
		b.WriteString(strings.Join(row, ":"))
		b.WriteByte('\n')
	}
	return b.String()
}

// load reads one account file; a missing file is an empty table.
func load(root string, kind fileKind) (*table, error) {
	text, err := os.ReadFile(filepath.Join(root, kind.name))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("read account file: %w", err)
	}
	return parseTable(kind, string(text)), nil
}

// whole reports whether a row is an entry, not a comment or a broken line.
func (t *table) whole(row []string) bool {
	return len(row) == t.kind.fields && row[0] != "" && row[0][0] != '#'
}

// find returns the first entry of that name, or nil. The result may be edited.
func (t *table) find(name string) []string {
	for _, row := range t.rows {
		if t.whole(row) && row[0] == name {
			return row
		}
	}
	return nil
}

// findID returns the first entry with that number in the third field, or nil.
func (t *table) findID(number string) []string {
	id, err := parseID(number)
	if err != nil {
		return nil
	}
	for _, row := range t.rows {
		if t.whole(row) && row[2] == strconv.Itoa(id) {
			return row
		}
	}
	return nil
}

// add appends an entry.
func (t *table) add(fields ...string) { t.rows = append(t.rows, fields) }

// groupsOf lists the groups that name user as a member, except primary.
func (t *table) groupsOf(user string, primary int) []int {
	var gids []int
	for _, row := range t.rows {
		if !t.whole(row) || !slices.Contains(strings.Split(row[3], ","), user) {
			continue
		}
		if gid, err := parseID(row[2]); err == nil && gid != primary {
			gids = append(gids, gid)
		}
	}
	slices.Sort(gids)
	return slices.Compact(gids)
}

// addMember puts user on the member list of the group (last field).
func (t *table) addMember(group, user string) {
	row := t.find(group)
	if row == nil {
		return
	}
	last := len(row) - 1
	if row[last] == "" {
		row[last] = user
	} else if !slices.Contains(strings.Split(row[last], ","), user) {
		row[last] += "," + user
	}
}

// save replaces the file in one step, keeping the owner and mode of the old one.
func (t *table) save(root string) (err error) {
	path := filepath.Join(root, t.kind.name)
	mode, uid, gid := t.kind.mode, 0, 0
	var stat unix.Stat_t
	if unix.Stat(path, &stat) == nil {
		mode, uid, gid = fs.FileMode(stat.Mode&0o7777), int(stat.Uid), int(stat.Gid)
	}
	file, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-*")
	if err != nil {
		return fmt.Errorf("write account file: %w", err)
	}
	defer func() {
		if err != nil {
			file.Close()
			os.Remove(file.Name())
			err = fmt.Errorf("write account file %q: %w; the old one is unchanged", path, err)
		}
	}()
	if _, err = file.WriteString(t.String()); err != nil {
		return err
	}
	if os.Geteuid() == 0 {
		if err = file.Chown(uid, gid); err != nil {
			return err
		}
	}
	if err = file.Chmod(mode); err != nil {
		return err
	}
	if err = file.Sync(); err != nil {
		return err
	}
	if err = file.Close(); err != nil {
		return err
	}
	return os.Rename(file.Name(), path)
}
