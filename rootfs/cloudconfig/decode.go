package cloudconfig

import (
	"encoding/base64"
	"fmt"
	"math"
	"reflect"
	"regexp"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/coracle-os/coracle/rootfs/provision/plan"
)

// maxMerges bounds the mappings that "<<" keys may pull in, so that a document
// of a few lines can not ask for unbounded work.
const maxMerges = 1000

// maxHints bounds the keys for which a better one is looked for: that takes more
// time than all the rest, and nobody misspells more.
const maxHints = 100

// decoder fills a Config from a YAML tree by the Config's field tags. What does
// not fit is reported and left zero.
type decoder struct {
	report plan.Report
	merges int
	hints  int
}

// decode is the entry: root is the document's first node.
func (d *decoder) decode(root *yaml.Node, config *Config) {
	d.value(root, reflect.ValueOf(config).Elem(), "", position(root))
}

func (d *decoder) value(n *yaml.Node, v reflect.Value, name string, at plan.Position) (ok bool) {
	n = resolve(n)
	switch v.Kind() {
	case reflect.Struct:
		ok = n.Kind == yaml.MappingNode
		if ok {
			d.structure(n, v, name)
		}
	case reflect.Slice:
		ok = n.Kind == yaml.SequenceNode
		if ok {
			d.list(n, v, name)
		}
	default:
		ok = d.scalar(n, v)
	}
	if !ok {
		d.report.Add(at, plan.Warning, "incorrect type for %q (want %s)", name, typeName(v.Type()))
	}
	return ok
}

func (d *decoder) list(n *yaml.Node, v reflect.Value, name string) {
	for i, child := range n.Content {
		item := reflect.New(v.Type().Elem()).Elem()
		if d.value(child, item, name+"["+strconv.Itoa(i)+"]", position(child)) {
			v.Set(reflect.Append(v, item))
		}
	}
}

func (d *decoder) structure(n *yaml.Node, v reflect.Value, name string) {
	fields := fieldsByKey(v.Type())
	origin := Origin{Position: position(n), Keys: map[string]plan.Position{}}
	own := map[string]bool{}
	for _, p := range d.pairs(n) {
		key := strings.ReplaceAll(p.key.Value, "-", "_")
		at := position(p.key)
		index, known := fields[key]
		if !known {
			d.report.Add(at, plan.Warning, "unrecognized key %q", key)
			if d.hints++; d.hints <= maxHints {
				d.report.Hint("%s", unknownKeyHint(key, v.Type()))
			}
			if name == "coreos" && key == "write_files" {
				d.report.Add(at, plan.Info, "write_files doesn't belong under coreos")
			}
			continue
		}
		if own[key] && !p.merged {
			d.report.Add(at, plan.Warning, "key %q is given again (line %d does not apply)", key, origin.Keys[key].Line)
		}
		own[key] = !p.merged
		origin.Keys[key] = at
		field := v.Type().Field(index)
		if reason := field.Tag.Get("deprecated"); reason != "" {
			d.report.AddFormal(at, plan.Warning, "deprecated key %q (%s)", key, reason)
		}
		target := v.Field(index)
		target.SetZero()
		if d.value(p.value, target, key, at) && !validValue(target, field.Tag.Get("valid")) {
			d.report.Add(at, plan.Error, "invalid value %v", target.Interface())
			d.report.Hint("%s", invalidValueHint(fmt.Sprint(target.Interface()), field.Tag.Get("valid")))
		}
	}
	v.FieldByName("Origin").Set(reflect.ValueOf(origin))
}

func position(n *yaml.Node) plan.Position { return plan.Position{Line: n.Line, Column: n.Column} }

type pair struct {
	key, value *yaml.Node
	merged     bool // comes from a "<<" key
}

// pairs returns a mapping's keys and values, those that "<<" brings first.
func (d *decoder) pairs(n *yaml.Node) []pair {
	var merged, own []pair
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := resolve(n.Content[i]), n.Content[i+1]
		if key.ShortTag() != "!!merge" {
			own = append(own, pair{key: key, value: value})
			continue
		}
		sources := []*yaml.Node{resolve(value)}
		if sources[0].Kind == yaml.SequenceNode {
			sources = sources[0].Content
		}
		for _, source := range sources {
			source = resolve(source)
			if d.merges++; source.Kind != yaml.MappingNode || d.merges > maxMerges {
				d.report.Add(position(key), plan.Error, "\"<<\" needs a mapping, at most %d in a document", maxMerges)
				continue
			}
			for _, p := range d.pairs(source) {
				merged = append(merged, pair{p.key, p.value, true})
			}
		}
	}
	return append(merged, own...)
}

func (d *decoder) scalar(n *yaml.Node, v reflect.Value) bool {
	if n.Kind != yaml.ScalarNode {
		return false
	}
	number := strings.ReplaceAll(n.Value, "_", "")
	switch tag := scalarTag(n); v.Kind() {
	case reflect.String:
		return d.text(n, tag, v)
	case reflect.Bool:
		value, _ := yaml11Bool(n.Value)
		v.SetBool(tag == "!!bool" && value)
		return tag == "!!bool"
	case reflect.Int:
		i, err := strconv.ParseInt(number, 0, 64)
		if f, ferr := strconv.ParseFloat(number, 64); tag == "!!float" && ferr == nil && f == math.Trunc(f) && math.Abs(f) < 1<<53 {
			v.SetInt(int64(f)) // the original sets it, too, and says that the type is wrong
			return false
		}
		if tag != "!!int" || err != nil {
			return false
		}
		v.SetInt(i)
		return true
	case reflect.Float64:
		f, err := strconv.ParseFloat(number, 64)
		if tag == "!!int" && err != nil {
			var i int64
			i, err = strconv.ParseInt(number, 0, 64)
			f = float64(i)
		}
		if err != nil || math.IsInf(f, 0) || math.IsNaN(f) || (tag != "!!int" && tag != "!!float") {
			return false
		}
		v.SetFloat(f)
		return true
	}
	return false
}

// text stores a scalar's text; only null has none. !!binary is decoded.
func (d *decoder) text(n *yaml.Node, tag string, v reflect.Value) bool {
	switch tag {
	case "!!null":
		return false
	case "!!binary":
		data, err := base64.StdEncoding.DecodeString(strings.Join(strings.Fields(n.Value), ""))
		if err != nil {
			d.report.Add(position(n), plan.Error, "!!binary value is not base64: %v", err)
			return true
		}
		v.SetString(string(data))
		return true
	}
	v.SetString(n.Value)
	return true
}

// yaml11Bool reads a plain scalar that YAML 1.1 takes for a boolean: y, yes,
// true, on and their opposites in lower, upper and title case.
func yaml11Bool(text string) (value, is bool) {
	lower := strings.ToLower(text)
	if text != lower && text != strings.ToUpper(text) && text != strings.ToUpper(lower[:1])+lower[1:] {
		return false, false
	}
	switch lower {
	case "y", "yes", "true", "on":
		return true, true
	case "n", "no", "false", "off":
		return false, true
	}
	return false, false
}

// scalarTag returns the short tag of a scalar as YAML 1.1 sees it.
func scalarTag(n *yaml.Node) string {
	quoted := yaml.DoubleQuotedStyle | yaml.SingleQuotedStyle | yaml.LiteralStyle | yaml.FoldedStyle | yaml.TaggedStyle
	if _, is := yaml11Bool(n.Value); is && n.Style&quoted == 0 {
		return "!!bool"
	}
	return n.ShortTag()
}

func resolve(n *yaml.Node) *yaml.Node {
	for range 10 {
		if n.Kind != yaml.AliasNode || n.Alias == nil {
			break
		}
		n = n.Alias
	}
	return n
}

func fieldsByKey(t reflect.Type) map[string]int {
	fields := make(map[string]int, t.NumField())
	for i := range t.NumField() {
		if key := t.Field(i).Tag.Get("yaml"); key != "-" {
			fields[key] = i
		}
	}
	return fields
}

func typeName(t reflect.Type) string {
	switch t.Kind() {
	case reflect.Struct:
		return "struct"
	case reflect.Slice:
		return "[]" + typeName(t.Elem())
	}
	return t.Kind().String()
}

// validValue tells whether a value is zero or matches the pattern.
func validValue(v reflect.Value, pattern string) bool {
	if pattern == "" || v.IsZero() {
		return true
	}
	return regexp.MustCompile(pattern).MatchString(v.String())
}
