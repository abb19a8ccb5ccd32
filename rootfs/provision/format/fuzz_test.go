package format

import (
	"encoding/json"
	"os"
	"strings"
	"testing"

	"github.com/coracle-os/coracle/rootfs/cloudconfig"
	"github.com/coracle-os/coracle/rootfs/provision/plan"
)

// lineEnds makes LF of what YAML takes for the end of a line.
var lineEnds = strings.NewReplacer("\r", "\n", "\u0085", "\n", "\u2028", "\n", "\u2029", "\n")

// FuzzCompile checks that no user-data makes Compile panic, that messages and
// steps are of lines of it, that steps have a reason and their source, and that
// what is written is below "/".
func FuzzCompile(f *testing.F) {
	cases, err := os.ReadFile("../../cloudconfig/testdata/coreos-cloudinit.jsonl")
	if err != nil {
		f.Fatal(err)
	}
	for line := range strings.Lines(string(cases)) {
		var c struct{ UserData string }
		if err := json.Unmarshal([]byte(line), &c); err != nil {
			f.Fatal(err)
		}
		f.Add([]byte(c.UserData))
	}
	f.Add([]byte(header + "--==b==\nContent-Type: text/cloud-config\nContent-Transfer-Encoding: quoted-printable\n\n#cloud-config\nhostname=3A a\n--==b==\n\n#!/bin/sh\n--==b==--\n"))
	f.Add([]byte(pack(header + "--==b==\nContent-Type: multipart/mixed; boundary=c\n\n--c\n\n#cloud-config\nusers: [{name: a}]\n--c--\n--==b==--\n")))
	f.Fuzz(func(t *testing.T, data []byte) {
		kind, p, report := Compile("source", data, cloudconfig.Facts{}, nil)
		plain, err := cloudconfig.Gunzip(data)
		if err != nil {
			return
		}
		last := 2 + strings.Count(lineEnds.Replace(string(plain)), "\n")
		for _, problem := range report {
			if problem.Line < 0 || problem.Line > last || problem.Text == "" {
				t.Errorf("%s %s: there are %d lines", kind, problem, last)
			}
		}
		for _, step := range p.Steps {
			if step.Origin.Line < 0 || step.Origin.Line > last || step.Origin.Source != "source" || step.Reason == "" {
				t.Errorf("%s %s: there are %d lines", kind, step, last)
			}
			path := "/"
			switch a := step.Action.(type) {
			case plan.WriteFile:
				path = a.Path
			case plan.PlaceUnit:
				path = a.Path
			}
			if !strings.HasPrefix(path, "/") || strings.Contains(path, "/../") {
				t.Errorf("%s: path %q", kind, path)
			}
		}
	})
}
