package systemctl

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
)

// inJSON tells if lists are to be written as JSON.
func (t *tool) inJSON() bool { return t.o.output == "json" || t.o.output == "json-pretty" }

// printJSON writes the rows of a list as an array of objects whose members have
// the order of keys, on one line, or with json-pretty as systemd indents them.
func (t *tool) printJSON(keys []string, rows [][]any) error {
	var b bytes.Buffer
	b.WriteByte('[')
	for i, row := range rows {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteByte('{')
		for j, v := range row {
			if j > 0 {
				b.WriteByte(',')
			}
			text, err := json.Marshal(v)
			if err != nil {
				return fmt.Errorf("write JSON: %w", err)
			}
			fmt.Fprintf(&b, "%q:%s", keys[j], text)
		}
		b.WriteByte('}')
	}
	b.WriteByte(']')
	if t.o.output == "json-pretty" {
		var pretty bytes.Buffer
		if err := json.Indent(&pretty, b.Bytes(), "", "\t"); err != nil {
			return fmt.Errorf("write JSON: %w", err)
		}
		b.Reset()
		for line := range strings.Lines(pretty.String()) {
			b.WriteString(strings.Replace(line, "\": ", "\" : ", 1))
		}
	}
	_, err := fmt.Fprintf(t.Out, "%s\n", b.Bytes())
	return err
}

// cells turns rows of words into those of printJSON; "-" is null.
func cells(rows [][]string) [][]any {
	var out [][]any
	for _, row := range rows {
		var line []any
		for _, c := range row {
			if c == "-" {
				line = append(line, nil)
			} else {
				line = append(line, c)
			}
		}
		out = append(out, line)
	}
	return out
}
