package semaphore

import (
	"encoding/json"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestKey(t *testing.T) {
	for group, want := range map[string]string{
		"":         "/coreos.com/updateengine/rebootlock/semaphore",
		"web":      "/coreos.com/updateengine/rebootlock/groups/web/semaphore",
		"rack 1/2": "/coreos.com/updateengine/rebootlock/groups/rack+1%2F2/semaphore",
	} {
		if got := Key(group); got != want {
			t.Errorf("Key(%q) = %q, want %q", group, got, want)
		}
	}
}

func TestJSON(t *testing.T) {
	data, err := json.Marshal(New())
	if want := `{"semaphore":1,"max":1,"holders":null}`; err != nil || string(data) != want {
		t.Errorf("%s, %v; want %s", data, err, want)
	}
	if _, err := Parse([]byte("{")); err == nil {
		t.Error("half a value is read without an error")
	}
}

func TestOperations(t *testing.T) {
	v := New()
	do := func(what string, next Value, err, wantErr error, want Value) {
		t.Helper()
		if !errors.Is(err, wantErr) || (err == nil) != (wantErr == nil) {
			t.Errorf("%s: error %v, want %v", what, err, wantErr)
		}
		if diff := cmp.Diff(want, next); diff != "" {
			t.Errorf("%s: -want +got:\n%s", what, diff)
		}
		v = next
	}
	next, err := v.Lock("b")
	do("lock", next, err, nil, Value{0, 1, []string{"b"}})
	next, err = v.Lock("a")
	do("lock of a second", next, err, ErrFull, Value{0, 1, []string{"b"}})
	next, err = v.Lock("b")
	do("lock again: full comes first", next, err, ErrFull, Value{0, 1, []string{"b"}})
	next, err = v.SetMax(3)
	do("more places", next, err, nil, Value{2, 3, []string{"b"}})
	next, err = v.Lock("b")
	do("lock again", next, err, ErrHolds, Value{2, 3, []string{"b"}})
	next, err = v.Lock("a")
	do("holders are sorted", next, err, nil, Value{1, 3, []string{"a", "b"}})
	next, err = v.SetMax(1)
	do("fewer places than holders", next, err, nil, Value{-1, 1, []string{"a", "b"}})
	next, err = v.Lock("c")
	do("lock below zero", next, err, ErrFull, Value{-1, 1, []string{"a", "b"}})
	next, err = v.Unlock("c")
	do("unlock of a stranger", next, err, ErrNotHolder, Value{-1, 1, []string{"a", "b"}})
	next, err = v.Unlock("a")
	do("unlock", next, err, nil, Value{0, 1, []string{"b"}})
	next, err = v.Unlock("b")
	do("unlock of the last", next, err, nil, Value{1, 1, []string{}})
	if _, err := v.SetMax(-1); err == nil {
		t.Error("a negative maximum is accepted")
	}
}
