package query

import (
	"strings"

	"github.com/coracle-os/coracle/rootfs/journal"
	"github.com/coracle-os/coracle/rootfs/journal/format"
)

// UnitLines returns the last n log lines of a unit in this boot, oldest first
// and without newlines, as "systemctl status" prints them. invocation limits
// them to one start of the unit when it is not "". A machine without a journal
// has no lines.
func UnitLines(root, unit, invocation string, n int, options format.Options) ([]string, error) {
	dirs, err := LocalDirs(root)
	if err != nil {
		return nil, err
	}
	j, err := Open(dirs...)
	if err != nil {
		return nil, err
	}
	defer j.Close()
	boots := j.Boots()
	if len(boots) == 0 {
		return nil, nil
	}
	filter := &Filter{Boot: &boots[len(boots)-1].ID, Units: []string{unit}}
	if invocation != "" {
		filter.Fields = [][]string{{"_SYSTEMD_INVOCATION_ID=" + invocation}, {"INVOCATION_ID=" + invocation}}
	}
	var lines []string
	for _, record := range j.Tail(filter, n) {
		lines = append(lines, line(&record, options))
	}
	return lines, nil
}

func line(r *journal.Record, options format.Options) string {
	var b strings.Builder
	format.Write(&b, r, options) // a strings.Builder never fails
	return strings.TrimSuffix(b.String(), "\n")
}
