package apply

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/coracle-os/coracle/rootfs/provision/plan"
)

const compared = `#cloud-config
hostname: box
users:
  - {name: core, passwd: "$6$x$y"}
  - {name: elroy, ssh_authorized_keys: [ssh-ed25519 AAAA a]}
ssh_authorized_keys: [ssh-ed25519 AAAA me]
write_files:
  - {path: /etc/motd, content: "new\n"}
  - {path: /etc/secret, content: "s3cret", permissions: "0600"}
  - {path: /etc/there, content: "x", permissions: "0640"}
coreos:
  units:
    - name: a.service
      enable: true
      command: start
      content: "[Service]\nExecStart=/bin/true\n[Install]\nWantedBy=multi-user.target\n"
    - {name: old.service, mask: true}
    - {name: on.service, command: start}
`

func TestCompare(t *testing.T) {
	e, m := newExecutor(t)
	m.active = map[string]bool{"on.service": true}
	for path, content := range map[string]string{"etc/motd": "old\n", "etc/secret": "earlier", "etc/there": "x"} {
		if err := os.WriteFile(filepath.Join(e.Root, path), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	var got []string
	for _, step := range planOf(compared).Steps {
		c := e.Compare(context.Background(), step)
		line := step.Action.String() + ": " + string(c.State)
		if c.Detail != "" {
			line += ", " + c.Detail
		}
		if c.Path != "" {
			line += " | " + string(c.Before) + "->" + string(c.After)
		}
		if !strings.HasPrefix(line, "unmask") {
			got = append(got, line)
		}
	}
	want := []string{
		`set hostname box: differs, "localhost" -> "box"`,
		"user core: differs, another password",
		"user elroy: new",
		"authorize 1 keys for elroy: new, the user is not there yet",
		"authorize 1 keys for core: new | ->ssh-ed25519 AAAA me\n",
		"write /etc/motd (4 bytes, root, mode 0644): differs | old\n->new\n",
		"write /etc/secret (6 bytes, root, mode 0600): differs, 7 -> 6 bytes, not shown",
		"write /etc/there (1 bytes, root, mode 0640): differs, mode 0644 -> 0640",
		"envfile /etc/environment: new | ->COREOS_PRIVATE_IPV4=10.0.2.15\n",
		"place /etc/systemd/system/a.service: new | ->[Service]\nExecStart=/bin/true\n[Install]\nWantedBy=multi-user.target\n",
		"enable a.service runtime=false: new, the unit is not there yet",
		"mask /etc/systemd/system/old.service: new",
		"daemon-reload: runs",
		"start a.service: runs",
		"start on.service: done",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestCompareAgreesWithApply: whatever a recorded document asks for, a step that
// is "done" changes nothing when it is applied, and after applying no step is
// left that would change something but those that always run.
func TestCompareAgreesWithApply(t *testing.T) {
	for _, data := range recordedDocuments(t) {
		e, _ := newExecutor(t)
		steps := planOf(data)
		for _, step := range steps.Steps {
			before := e.Compare(context.Background(), step)
			e.Apply(context.Background(), plan.Plan{Steps: []plan.Step{step}}, func(o Outcome) {
				after := e.Compare(context.Background(), step)
				_, isCommand := step.Action.(plan.UnitCommand)
				switch {
				case o.Result == Failed || o.Err != nil || isCommand:
				case before.State == Done && o.Result == Changed:
					t.Errorf("%s: done, but changed something", step)
				case after.State != Done && after.State != Runs:
					t.Errorf("%s: %s after it was applied (%s)", step, after.State, after.Detail)
				}
			})
		}
	}
}

func recordedDocuments(t *testing.T) (documents []string) {
	t.Helper()
	data, err := os.ReadFile("../../cloudconfig/testdata/coreos-cloudinit.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(data)) {
		var c struct{ UserData string }
		if err := json.Unmarshal([]byte(line), &c); err != nil {
			t.Fatal(err)
		}
		documents = append(documents, c.UserData)
	}
	if len(documents) < 40 {
		t.Fatalf("%d documents", len(documents))
	}
	return documents
}
