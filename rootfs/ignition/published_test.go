package ignition

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// published returns the configs of Ignition's own documentation and of its
// tests, which the module has.
func published(t *testing.T) []string {
	t.Helper()
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/coreos/ignition/v2").Output()
	if err != nil {
		t.Fatal(err)
	}
	dir := strings.TrimSpace(string(out))
	var all []string
	block := regexp.MustCompile("(?s)```json[^\n]*\n(.*?)```")
	for _, name := range []string{"examples.md", "migrating-configs.md", "operator-notes.md"} {
		text, err := os.ReadFile(filepath.Join(dir, "docs", name))
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range block.FindAllStringSubmatch(string(text), -1) {
			all = append(all, m[1])
		}
	}
	err = filepath.WalkDir(filepath.Join(dir, "tests"), func(path string, entry fs.DirEntry, err error) error {
		if err != nil || filepath.Ext(path) != ".go" {
			return err
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
		if err != nil {
			return err
		}
		ast.Inspect(file, func(n ast.Node) bool {
			if literal, ok := n.(*ast.BasicLit); ok && literal.Kind == token.STRING {
				if text, err := strconv.Unquote(literal.Value); err == nil && strings.Contains(text, `"ignition"`) {
					all = append(all, text)
				}
			}
			return true
		})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// TestPublished compares with Debian's ignition-validate over the configs that
// Ignition's authors have published; it knows the versions up to 3.3.
func TestPublished(t *testing.T) {
	of := regexp.MustCompile(`"version": *"3\.[4-9][^"]*"`)
	valid, newer, compared := 0, 0, 0
	for _, text := range published(t) {
		text = strings.NewReplacer("$version", "3.3.0", "$DEVICE", "/dev/vdb", "$disk1", "/dev/vdb", "$disk0", "/dev/vdc").Replace(text)
		_, problems, ours := Parse([]byte(text))
		if of.MatchString(text) {
			newer++
			continue
		}
		cmd := exec.Command("ignition-validate", "-")
		cmd.Stdin = strings.NewReader(text)
		out, err := cmd.CombinedOutput()
		compared++
		if err == nil {
			valid++
		}
		if (err == nil) != (ours == nil) {
			t.Errorf("%s\nignition-validate: %v %s\nhere: %v %v", text, err, out, ours, problems)
		}
	}
	t.Logf("%d configs, %d of them valid; %d of newer versions", compared, valid, newer)
	if compared < 100 || valid < 50 {
		t.Errorf("only %d configs, %d of them valid: the comparison says little", compared, valid)
	}
}
