// Package tools_test checks the picture of the source that README and design
// give: imports point one way through the folders.
package tools_test

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/coracle-os/coracle"

// folders are the module's folders in order: a package imports from its own
// folder and those before it. (Inside a folder Go itself refuses cycles.)
var folders = []string{"image", "initrd", "rootfs", "agents", "tools", "qemu-tests"}

func TestImportsPointOneWay(t *testing.T) {
	cmd := exec.Command("go", "list", "-json=ImportPath,Imports,TestImports,XTestImports", module+"/...")
	cmd.Stderr = t.Output()
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	packages := 0
	for list := json.NewDecoder(out); ; packages++ {
		var p struct {
			ImportPath                         string
			Imports, TestImports, XTestImports []string
		}
		if err := list.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		from := rank(p.ImportPath)
		if from < 0 {
			t.Errorf("%s is in none of the folders %v", p.ImportPath, folders)
		}
		for _, imported := range slices.Concat(p.Imports, p.TestImports, p.XTestImports) {
			if strings.HasPrefix(imported, module+"/") && rank(imported) > from {
				t.Errorf("%s imports %s, which stands to its right; move what both need to the left", p.ImportPath, imported)
			}
		}
	}
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	if packages < 20 {
		t.Errorf("go list knows only %d packages", packages)
	}
}

// rank is the place of a package's folder in the order, -1 for none.
func rank(importPath string) int {
	folder, _, _ := strings.Cut(strings.TrimPrefix(importPath, module+"/"), "/")
	return slices.Index(folders, folder)
}
