// Package strict decodes a YAML document into Go values and reports everything
// that is wrong with it at once, each with line and column: unknown and repeated
// keys (with the likely meant one), wrong types, values that a type refuses.
//
// It is for the recipe. The YAML libraries have a strict mode, but stop at the
// first fault or lose the column; this package only walks the syntax tree that
// go.yaml.in/yaml/v3 makes (YAML 1.2, one document). Anchors and merge keys are
// refused: a recipe says what it means in one place.
package strict

import (
	"encoding"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// A Fault is one thing that is wrong.
type Fault struct {
	Line, Column int    // of the value or key, from 1; 0 when the document has none
	Path         string // such as partitions.esp or packages[2].files
	Message      string
}

func (f Fault) Error() string {
	text := fmt.Sprintf("%d:%d: ", f.Line, f.Column)
	if f.Path != "" {
		text += f.Path + ": "
	}
	return text + f.Message
}

// Faults is everything wrong with a document, in the order of lines.
type Faults []Fault

func (f Faults) Error() string {
	lines := make([]string, len(f))
	for i, fault := range f {
		lines[i] = fault.Error()
	}
	return strings.Join(lines, "\n")
}

// Document says where the values of a decoded document stand.
type Document struct {
	positions map[string][2]int
	Faults    Faults // what Decode found; checks of the caller may Add more
}

// Add records a fault of the value at path; without such a value, of the nearest
// one that holds it.
func (d *Document) Add(path, format string, args ...any) {
	fault := Fault{Path: path, Message: fmt.Sprintf(format, args...)}
	for at := path; ; {
		if position, ok := d.positions[at]; ok {
			fault.Line, fault.Column = position[0], position[1]
			break
		}
		if at == "" {
			break
		}
		at = at[:max(strings.LastIndexAny(at, ".["), 0)]
	}
	d.Faults = append(d.Faults, fault)
}

// Err returns the faults in the order of lines, or nil.
func (d *Document) Err() error {
	if len(d.Faults) == 0 {
		return nil
	}
	slices.SortStableFunc(d.Faults, func(a, b Fault) int {
		if a.Line != b.Line {
			return a.Line - b.Line
		}
		return a.Column - b.Column
	})
	return d.Faults
}

// Has reports whether the document has a value at path.
func (d *Document) Has(path string) bool { _, ok := d.positions[path]; return ok }

// Decode reads text into the struct that target points to. Struct fields carry
// yaml tags with the key. Types that implement encoding.TextUnmarshaler get the
// scalar's text.
func Decode(text []byte, target any) *Document {
	d := &Document{positions: map[string][2]int{}}
	var root yaml.Node
	if err := yaml.Unmarshal(text, &root); err != nil {
		d.Faults = append(d.Faults, syntaxFault(err))
		return d
	}
	if len(root.Content) == 0 {
		d.Faults = append(d.Faults, Fault{Line: 1, Column: 1, Message: "the document is empty"})
		return d
	}
	d.decode(root.Content[0], reflect.ValueOf(target).Elem(), "")
	return d
}

// syntaxFault turns "yaml: line 3: ..." into a Fault. The library knows no column.
func syntaxFault(err error) Fault {
	message := strings.TrimPrefix(err.Error(), "yaml: ")
	fault := Fault{Line: 1, Column: 1, Message: message}
	if rest, ok := strings.CutPrefix(message, "line "); ok {
		number, what, _ := strings.Cut(rest, ": ")
		if line, err := strconv.Atoi(number); err == nil {
			fault.Line, fault.Message = line, what
		}
	}
	fault.Message = "not YAML: " + fault.Message
	return fault
}

func (d *Document) decode(node *yaml.Node, value reflect.Value, path string) {
	d.positions[path] = [2]int{node.Line, node.Column}
	switch {
	case node.Kind == yaml.AliasNode || node.Anchor != "":
		d.Add(path, "anchors and aliases are not supported; write the value out")
	case value.CanAddr() && value.Addr().Type().Implements(textUnmarshaler):
		d.decodeText(node, value, path)
	case value.Kind() == reflect.Struct:
		d.decodeStruct(node, value, path)
	case value.Kind() == reflect.Map:
		d.decodeMap(node, value, path)
	case value.Kind() == reflect.Slice:
		d.decodeSlice(node, value, path)
	default:
		d.decodeScalar(node, value, path)
	}
}

var textUnmarshaler = reflect.TypeFor[encoding.TextUnmarshaler]()

func (d *Document) decodeText(node *yaml.Node, value reflect.Value, path string) {
	if node.Kind != yaml.ScalarNode {
		d.Add(path, "want one value, got %s", kind(node))
		return
	}
	if err := value.Addr().Interface().(encoding.TextUnmarshaler).UnmarshalText([]byte(node.Value)); err != nil {
		d.Add(path, "%v", err)
	}
}

// pairs calls each for every key of a mapping that is not repeated.
func (d *Document) pairs(node *yaml.Node, path string, each func(key, value *yaml.Node, path string)) {
	if node.Kind != yaml.MappingNode {
		d.Add(path, "want keys with values, got %s", kind(node))
		return
	}
	seen := map[string]bool{}
	for i := 0; i+1 < len(node.Content); i += 2 {
		key, value := node.Content[i], node.Content[i+1]
		at := join(path, key.Value)
		if seen[key.Value] {
			d.Faults = append(d.Faults, Fault{key.Line, key.Column, at, "the key is given twice"})
			continue
		}
		seen[key.Value] = true
		each(key, value, at)
	}
}

func (d *Document) decodeStruct(node *yaml.Node, value reflect.Value, path string) {
	fields := map[string]int{}
	var names []string
	for i := range value.NumField() {
		name := value.Type().Field(i).Tag.Get("yaml")
		fields[name] = i
		names = append(names, name)
	}
	d.pairs(node, path, func(key, item *yaml.Node, at string) {
		index, ok := fields[key.Value]
		if !ok {
			d.Faults = append(d.Faults, Fault{key.Line, key.Column, at, "unknown key" + hint(key.Value, names)})
			return
		}
		d.decode(item, value.Field(index), at)
	})
}

func (d *Document) decodeMap(node *yaml.Node, value reflect.Value, path string) {
	value.Set(reflect.MakeMap(value.Type()))
	d.pairs(node, path, func(key, item *yaml.Node, at string) {
		element := reflect.New(value.Type().Elem()).Elem()
		d.decode(item, element, at)
		value.SetMapIndex(reflect.ValueOf(key.Value), element)
	})
}

func (d *Document) decodeSlice(node *yaml.Node, value reflect.Value, path string) {
	if node.Kind != yaml.SequenceNode {
		d.Add(path, "want a list, got %s", kind(node))
		return
	}
	for i, item := range node.Content {
		element := reflect.New(value.Type().Elem()).Elem()
		d.decode(item, element, fmt.Sprintf("%s[%d]", path, i))
		value.Set(reflect.Append(value, element))
	}
}

func (d *Document) decodeScalar(node *yaml.Node, value reflect.Value, path string) {
	wrong := func(want string) { d.Add(path, "want %s, got %s", want, kind(node)) }
	switch value.Kind() {
	case reflect.String:
		if node.Kind != yaml.ScalarNode || node.Tag != "!!str" {
			wrong("text (in quotes, if it looks like something else)")
			return
		}
		value.SetString(node.Value)
	case reflect.Bool:
		if node.Kind != yaml.ScalarNode || node.Tag != "!!bool" {
			wrong("true or false")
			return
		}
		value.SetBool(strings.EqualFold(node.Value, "true"))
	case reflect.Int:
		number, err := strconv.Atoi(node.Value)
		if node.Kind != yaml.ScalarNode || node.Tag != "!!int" || err != nil {
			wrong("a number")
			return
		}
		value.SetInt(int64(number))
	default:
		panic("strict: no decoding for type " + value.Type().String())
	}
}

func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

func kind(node *yaml.Node) string {
	switch {
	case node.Kind == yaml.MappingNode:
		return "keys with values"
	case node.Kind == yaml.SequenceNode:
		return "a list"
	case node.Tag == "!!null":
		return "nothing"
	case node.Tag == "!!int" || node.Tag == "!!float":
		return "the number " + node.Value
	case node.Tag == "!!bool":
		return node.Value
	}
	return strconv.Quote(node.Value)
}

// hint names the known key that is nearest to what was written.
func hint(got string, known []string) string {
	best, distance := "", 3
	for _, name := range known {
		if n := editDistance(got, name); n < distance {
			best, distance = name, n
		}
	}
	if best != "" {
		return fmt.Sprintf("; did you mean %q?", best)
	}
	sorted := slices.Sorted(slices.Values(known))
	return "; known are " + strings.Join(sorted, ", ")
}

// editDistance counts the letters to insert, remove or replace.
func editDistance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		previous := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			previous, row[j+1] = row[j+1], min(row[j+1]+1, row[j]+1, previous+cost)
		}
	}
	return row[len(b)]
}
