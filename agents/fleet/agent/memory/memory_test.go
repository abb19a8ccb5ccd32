package memory

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func open1(t *testing.T, path string) *Memory {
	t.Helper()
	m, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close() })
	return m
}

func fill(t *testing.T, m *Memory) (Machine, map[string]Unit) {
	t.Helper()
	machine := Machine{Boot: "b", Lease: 7, Sent: time.Minute, Members: [][]string{{"http://a:2379"}}}
	units := map[string]Unit{"a.service": {Began: "1"}, "b.timer": {Began: "2"}}
	change := map[string]*Unit{"gone.service": nil}
	for n, u := range units {
		change[n] = &u
	}
	if err := m.SetMachine(machine); err != nil {
		t.Fatal(err)
	}
	if err := m.SetUnits(map[string]*Unit{"gone.service": {Began: "3"}}); err != nil {
		t.Fatal(err)
	}
	if err := m.SetUnits(change); err != nil {
		t.Fatal(err)
	}
	return machine, units
}

func TestRemembers(t *testing.T) {
	path := filepath.Join(t.TempDir(), "fleet", "agent.db")
	m := open1(t, path)
	machine, units := fill(t, m)
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
	gotMachine, gotUnits, err := open1(t, path).Read()
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(machine, gotMachine) + cmp.Diff(units, gotUnits); d != "" {
		t.Error(d)
	}
}

// TestDamage opens files that were cut, overwritten or are something else: none
// is fatal, and what is wrong is told and kept.
func TestDamage(t *testing.T) {
	sound := filepath.Join(t.TempDir(), "agent.db")
	m := open1(t, sound)
	fill(t, m)
	m.Close()
	good, err := os.ReadFile(sound)
	if err != nil {
		t.Fatal(err)
	}
	random := rand.New(rand.NewPCG(1, 1))
	cases := map[string][]byte{"text": []byte(strings.Repeat("hello\n", 2000)), "short": []byte("x"), "half": good[:len(good)/2], "one page": good[:os.Getpagesize()]}
	for n := range 40 {
		b := append([]byte(nil), good...)
		for range 1 + random.IntN(200) {
			b[random.IntN(len(b))] ^= byte(1 + random.IntN(255))
		}
		cases["noise "+string(rune('a'+n))] = b
	}
	for name, data := range cases {
		path := filepath.Join(t.TempDir(), "agent.db")
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		m, err := Open(path)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if _, err := os.Stat(path + ".damaged"); (err == nil) != (m.Notice != "") {
			t.Errorf("%s: notice %q, damaged file kept: %v", name, m.Notice, err == nil)
		}
		if _, _, err := m.Read(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if m.Notice != "" {
			fill(t, m)
		}
		m.Close()
	}
}

func TestTwoAgents(t *testing.T) {
	path := filepath.Join(t.TempDir(), "agent.db")
	open1(t, path)
	if _, err := Open(path); err == nil || !strings.Contains(err.Error(), "another agent") {
		t.Errorf("the second one: %v", err)
	}
}
