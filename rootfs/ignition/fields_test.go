package ignition

import (
	"context"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/coreos/ignition/v2/config/v3_5/types"
)

// refusedFields are refused by name; each with a config that has it and a part
// of the message. All other fields of the specification are applied.
var refusedFields = map[string][2]string{
	"storage.luks.cex.enabled":                {`"cex": {"enabled": true}`, "(cex)"},
	"storage.luks.clevis.custom.config":       {`"clevis": {"custom": {"pin": "sss", "config": "{}"}}`, "custom pins"},
	"storage.luks.clevis.custom.needsNetwork": {`"clevis": {"custom": {"pin": "sss", "config": "{}", "needsNetwork": true}}`, "custom pins"},
	"storage.luks.clevis.custom.pin":          {`"clevis": {"custom": {"pin": "sss", "config": "{}"}}`, "custom pins"},
	"storage.luks.clevis.tang.advertisement":  {`"clevis": {"tang": [{"url": "http://x", "thumbprint": "t", "advertisement": "{}"}]}`, "Tang"},
	"storage.luks.clevis.tang.thumbprint":     {`"clevis": {"tang": [{"url": "http://x", "thumbprint": "t"}]}`, "Tang"},
	"storage.luks.clevis.tang.url":            {`"clevis": {"tang": [{"url": "http://x", "thumbprint": "t"}]}`, "Tang"},
	"storage.luks.clevis.threshold":           {`"clevis": {"tpm2": true, "threshold": 1}`, "TPM"},
	"storage.luks.clevis.tpm2":                {`"clevis": {"tpm2": true}`, "TPM"},
}

// satisfied fields need no code.
var satisfied = map[string]string{
	"passwd.users.noLogInit": "there is no lastlog and no faillog",
	"ignition.version":       "the module's own code reads it",
}

// TestEveryField: each field of the newest specification's types is refused by
// name or used by the code, so that one of a specification to come is not
// forgotten.
func TestEveryField(t *testing.T) {
	used := selectors(t)
	fields := map[string]string{} // by their place in a config: the name in Go
	walk(reflect.TypeFor[types.Config](), "", fields)
	if len(fields) < 100 {
		t.Fatalf("%d fields: the types were not read", len(fields))
	}
	for _, place := range slices.Sorted(maps.Keys(fields)) {
		if _, refused := refusedFields[place]; !refused && satisfied[place] == "" && !used[fields[place]] {
			t.Errorf("%s is neither used nor refused", place)
		}
	}
	for place, example := range refusedFields {
		if fields[place] == "" {
			t.Errorf("%s is no field", place)
		}
		doc := Compile(context.Background(), "test", []byte(`{"ignition": {"version": "3.5.0"}, "storage": {"luks": [{"name": "x", "device": "/dev/vdb", `+example[0]+`}]}}`), nil)
		if got := firstProblem(doc); doc.Valid() || !strings.Contains(got, "not possible on Coracle") || !strings.Contains(got, example[1]) {
			t.Errorf("%s: %q, want %q in it", place, got, example[1])
		}
	}
}

func firstProblem(doc Document) string {
	for _, p := range doc.Plan.Problems.Sorted() {
		return p.Text
	}
	return ""
}

func walk(t reflect.Type, place string, fields map[string]string) {
	for t.Kind() == reflect.Pointer || t.Kind() == reflect.Slice {
		t = t.Elem()
	}
	if t.Kind() != reflect.Struct {
		return
	}
	for i := range t.NumField() {
		f := t.Field(i)
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		at := strings.TrimPrefix(place+"."+name, ".")
		if f.Anonymous {
			at = place
		}
		inner := map[string]string{}
		walk(f.Type, at, inner)
		if len(inner) == 0 && !f.Anonymous {
			inner[at] = f.Name
		}
		maps.Copy(fields, inner)
	}
}

// selectors returns the names that the code below this directory selects.
func selectors(t *testing.T) map[string]bool {
	t.Helper()
	used := map[string]bool{}
	err := filepath.WalkDir(".", func(path string, _ fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
		if err != nil {
			return err
		}
		ast.Inspect(file, func(n ast.Node) bool {
			if s, ok := n.(*ast.SelectorExpr); ok {
				used[s.Sel.Name] = true
			}
			return true
		})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return used
}
