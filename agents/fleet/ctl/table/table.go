// Package table writes the tables of fleetctl: columns that people choose by
// name, padded with tabs as fleet's fleetctl padded them, so that scripts that
// cut its output work.
package table

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
)

// Column is a field that can be shown of a T.
type Column[T any] struct {
	Name  string
	Value func(T) string // what is not there is "-"
}

// Table is some columns in an order.
type Table[T any] struct {
	columns []Column[T]
}

// Choose takes the columns that fields names, separated by commas. The error
// for an unknown one has fleet's text.
func Choose[T any](all []Column[T], fields string) (Table[T], error) {
	var t Table[T]
	if fields == "" {
		return t, errors.New("no columns to print: --fields must not be empty")
	}
	for name := range strings.SplitSeq(fields, ",") {
		i := 0
		for i < len(all) && all[i].Name != name {
			i++
		}
		if i == len(all) {
			return t, fmt.Errorf("Invalid key in output format: %q", name) //nolint:staticcheck // fleet's text
		}
		t.columns = append(t.columns, all[i])
	}
	return t, nil
}

// Write writes a line of names, if legend is set, and a line for each row. A
// value with a tab or a newline does not break the table.
func (t Table[T]) Write(w io.Writer, legend bool, rows []T) error {
	buffer := bufio.NewWriter(w)
	out := tabwriter.NewWriter(buffer, 0, 8, 1, '\t', 0)
	if legend {
		names := make([]string, len(t.columns))
		for i, c := range t.columns {
			names[i] = strings.ToUpper(c.Name)
		}
		fmt.Fprintln(out, strings.Join(names, "\t"))
	}
	cells := make([]string, len(t.columns))
	for _, row := range rows {
		for i, c := range t.columns {
			if cells[i] = oneLine.Replace(c.Value(row)); cells[i] == "" {
				cells[i] = "-"
			}
		}
		fmt.Fprintln(out, strings.Join(cells, "\t"))
	}
	if err := errors.Join(out.Flush(), buffer.Flush()); err != nil {
		return fmt.Errorf("write the table: %w", err)
	}
	return nil
}

var oneLine = strings.NewReplacer("\t", " ", "\n", " ", "\r", " ", "\v", " ", "\f", " ")
