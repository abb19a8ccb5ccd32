package systemdescape

import (
	"bufio"
	"encoding/json"
	"os"
	"testing"
)

// TestRecorded checks against what systemd-escape of systemd 252 printed.
func TestRecorded(t *testing.T) {
	f, err := os.Open("testdata/recorded.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); {
		var c struct {
			Name  string
			Args  []string
			Out   string
			Error bool
		}
		if err := json.Unmarshal(s.Bytes(), &c); err != nil {
			t.Fatal(err)
		}
		out, err := run(append([]string{"systemd-escape"}, c.Args...))
		if (err != nil) != c.Error || out != c.Out {
			t.Errorf("%s %q: %q, %v; want %q", c.Name, c.Args, out, err, c.Out)
		}
	}
}
