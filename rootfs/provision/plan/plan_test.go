package plan

import (
	"encoding/json"
	"io/fs"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestKeptSteps: what is kept on disk is read as it was; what cannot be kept is
// an error and not half a step.
func TestKeptSteps(t *testing.T) {
	origin := Origin{Source: "user-data", Position: Position{Line: 3, Column: 5}}
	for _, action := range []Action{
		SetHostname{Name: "a"}, EnsureUser{User: User{Name: "u", PasswordHash: "$6$", Groups: []string{"g"}}}, RemoveUser{Name: "u"},
		AuthorizeKeys{User: "u", Keys: []string{"k"}}, ReloadUnits{}, RestartNetwork{}, UnitCommand{Verb: "stop", Unit: "a.service"},
		PutBack{Path: "/a", Kind: Regular, Content: []byte("\x00\xff"), Mode: 0o600 | fs.ModeSetuid, UID: 1, GID: 2}, PutBack{Path: "/b", Kind: Link, Target: "/c"},
	} {
		step := Step{Action: action, Reason: "why", Origin: origin}
		data, err := json.Marshal(step)
		if err != nil {
			t.Fatal(err)
		}
		var got Step
		if err := json.Unmarshal(data, &got); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(step, got); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	}
	if data, err := json.Marshal(Step{Action: RunScript{}}); err == nil {
		t.Errorf("a script is kept: %s", data)
	}
	for _, text := range []string{`{"Do":"RunScript"}`, `{"Do":"PutBack","With":3}`, `[]`} {
		var got Step
		if err := json.Unmarshal([]byte(text), &got); err == nil {
			t.Errorf("%s is read as %v", text, got)
		}
	}
}

func TestPlaces(t *testing.T) {
	at := Position{Line: 3, Column: 5}
	for _, tt := range []struct {
		step Step
		want string
	}{
		{Step{Action: ReloadUnits{}, Reason: "why"}, "daemon-reload (why)"},
		{Step{Action: ReloadUnits{}, Reason: "why", Origin: Origin{Source: "f"}}, "daemon-reload (why, f)"},
		{Step{Action: ReloadUnits{}, Reason: "why", Origin: Origin{Position: at}}, "daemon-reload (why, line 3, column 5)"},
		{Step{Action: ReloadUnits{}, Reason: "why", Origin: Origin{Source: "f", Position: Position{Line: 3}}}, "daemon-reload (why, f, line 3)"},
	} {
		if got := tt.step.String(); got != tt.want {
			t.Errorf("%q, want %q", got, tt.want)
		}
	}
	var r Report
	r.Add(Position{Line: 9}, Warning, "b")
	r.Hint("did you mean %q?", "c")
	r.Add(at, Error, "a")
	r.Add(at, Error, "a")
	var lines []string
	for _, p := range r.Sorted() {
		lines = append(lines, p.WithHint())
	}
	if got, want := strings.Join(lines, "\n"), "line 3: error: a\nline 9: warning: b; did you mean \"c\"?"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}
