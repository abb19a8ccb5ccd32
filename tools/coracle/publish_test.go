package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/coracle-os/coracle/rootfs/program"
)

func TestPublish(t *testing.T) {
	dir := t.TempDir()
	image := make([]byte, 1<<20)
	copy(image[512:], "EFI PART")
	raw := filepath.Join(dir, "coracle.raw")
	for path, data := range map[string][]byte{
		raw: image, filepath.Join(dir, "coracle.qcow2"): []byte("QFI\xfb"), filepath.Join(dir, "manifest.json"): []byte(`{"version":"7.8.9"}`),
	} {
		if err := os.WriteFile(path, data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, tt := range []struct {
		args []string
		code int
		says string
	}{
		{nil, 2, "print the commands for Google"},
		{[]string{"mars"}, 2, "Usage"},
		{[]string{"ami", "-dry-run", raw}, 0, `RegisterImage: "coracle-7.8.9"`},
		{[]string{"ami", "-dry-run", filepath.Join(dir, "coracle.qcow2")}, 1, "coracle convert"},
		{[]string{"ami", filepath.Join(dir, "none.raw")}, 1, "coracle build"},
		{[]string{"ami", "-version", "1", t.TempDir() + "/x"}, 1, "no such file"},
		{[]string{"openstack", filepath.Join(dir, "coracle.qcow2")}, 0, "openstack image create coracle-7.8.9"},
		{[]string{"gce", "-bucket", "b", raw}, 1, "-project is missing"},
		{[]string{"gce", "-version", "1", "-bucket", "b", filepath.Join(dir, "none")}, 1, "coracle convert"},
	} {
		var out, problems bytes.Buffer
		code := run(t.Context(), append([]string{"coracle", "publish"}, tt.args...), program.Stdio{Out: &out, Err: &problems})
		if all := out.String() + problems.String(); code != tt.code || !strings.Contains(all, tt.says) {
			t.Errorf("%q: exit %d, %s", tt.args, code, all)
		}
	}
}
