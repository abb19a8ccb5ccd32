package strict

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// word is a type that reads its own text.
type word string

func (w *word) UnmarshalText(text []byte) error {
	if len(text) > 5 {
		return fmt.Errorf("%q is too long", text)
	}
	*w = word(text)
	return nil
}

type document struct {
	Name   string              `yaml:"name"`
	Count  int                 `yaml:"count"`
	On     bool                `yaml:"on"`
	Word   word                `yaml:"word"`
	List   []item              `yaml:"list"`
	Groups map[string][]string `yaml:"groups"`
}

type item struct {
	Path string `yaml:"path"`
}

func TestDecode(t *testing.T) {
	var got document
	d := Decode([]byte("name: a\ncount: 3\non: true\nword: hi\nlist: [{path: x}, {path: y}]\ngroups: {g: [1.0.0, b]}\n"), &got)
	if err := d.Err(); err != nil {
		t.Fatal(err)
	}
	want := document{Name: "a", Count: 3, On: true, Word: "hi", List: []item{{"x"}, {"y"}}, Groups: map[string][]string{"g": {"1.0.0", "b"}}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("document (-want +got):\n%s", diff)
	}
	if !d.Has("list[1].path") || d.Has("list[2]") {
		t.Error("Has does not know what there is")
	}
}

func TestFaults(t *testing.T) {
	for _, test := range []struct{ name, text, want string }{
		{"empty", "", "1:1: the document is empty"},
		{"syntax", "name: [", "1:1: not YAML: did not find expected node content"},
		{"not a mapping", "- a", `1:1: want keys with values, got a list`},
		{"unknown, near", "nmae: a", `1:1: nmae: unknown key; did you mean "name"?`},
		{"unknown, far", "list:\n- {}\n- other: 1", "3:3: list[1].other: unknown key; known are path"},
		{"twice", "name: a\nname: b", "2:1: name: the key is given twice"},
		{"number for text", "name: 5", "1:7: name: want text (in quotes, if it looks like something else), got the number 5"},
		{"nothing for text", "name:", "1:6: name: want text (in quotes, if it looks like something else), got nothing"},
		{"text for number", "count: many", `1:8: count: want a number, got "many"`},
		{"fraction for number", "count: 1.5", "1:8: count: want a number, got the number 1.5"},
		{"text for truth", "on: sometimes", `1:5: on: want true or false, got "sometimes"`},
		{"refused text", "word: abcdefg", `1:7: word: "abcdefg" is too long`},
		{"list for a word", "word: [a]", "1:7: word: want one value, got a list"},
		{"mapping for a list", "list: {a: b}", "1:7: list: want a list, got keys with values"},
		{"anchor", "name: &n a", "1:7: name: anchors and aliases are not supported; write the value out"},
		{"two at once", "count: x\non: y", "1:8: count: want a number, got \"x\"\n2:5: on: want true or false, got \"y\""},
	} {
		t.Run(test.name, func(t *testing.T) {
			var got document
			err := Decode([]byte(test.text), &got).Err()
			if err == nil {
				t.Fatal("no fault was found")
			}
			if diff := cmp.Diff(test.want, err.Error()); diff != "" {
				t.Errorf("faults (-want +got):\n%s", diff)
			}
		})
	}
}

func TestAddTakesTheNearestPlace(t *testing.T) {
	var got document
	d := Decode([]byte("name: a\nlist:\n  - {path: x}\n"), &got)
	d.Add("list[0].mode", "is missing")
	d.Add("other", "is missing")
	want := "1:1: other: is missing\n3:5: list[0].mode: is missing"
	if err := d.Err(); err == nil || err.Error() != want {
		t.Errorf("faults = %v, want %s", err, want)
	}
}
