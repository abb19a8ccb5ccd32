package ctl

import (
	"encoding/pem"
	"net/http/httptest"
	"os/exec"
	"strings"
	"testing"

	"github.com/coracle-os/coracle/agents/fleet/api/schema"
)

func TestLookup(t *testing.T) {
	machines := []schema.Machine{{ID: "aab1", PrimaryIP: "10.0.0.1"}, {ID: "aab2", PrimaryIP: "10.0.0.2"}, {ID: "aab", PrimaryIP: ""}}
	for word, want := range map[string]string{"aab1": "aab1", "aab": "aab", "10.0.0.2": "aab2",
		"aa": "found more than one machine", "": "could not find", "c": "could not find", "aab11": "could not find"} {
		m, err := lookup(machines, word)
		if err != nil && !strings.HasPrefix(err.Error(), want) || err == nil && m.ID != want {
			t.Errorf("lookup(%q) = %q, %v; want %q", word, m.ID, err, want)
		}
	}
}

func TestAmounts(t *testing.T) {
	for bytes, want := range map[int64]string{0: "0", 1023: "1023", 1024: "1K", 1536: "1.5K", 8 << 30: "8G", 5 << 40: "5T", 5000 << 40: "5000T"} {
		if got := size(bytes); got != want {
			t.Errorf("size(%d) = %q, want %q", bytes, got, want)
		}
	}
	for milli, want := range map[int64]string{0: "0", 500: "0.5", 1000: "1", 1250: "1.25", 10000: "10", 1: "0.001"} {
		if got := cores(milli); got != want {
			t.Errorf("cores(%d) = %q, want %q", milli, got, want)
		}
	}
}

// TestQuote has the shell as its judge.
func TestQuote(t *testing.T) {
	for _, word := range []string{"hello.service", "", `a\x2db@1.service`, "it's $(x) `y`", "-l", "*", "a b"} {
		out, err := exec.Command("/bin/sh", "-c", "printf %s "+quote(word)).Output()
		if err != nil || string(out) != word {
			t.Errorf("the shell reads %s as %q, want %q (%v)", quote(word), out, word, err)
		}
	}
}

func TestHTTPS(t *testing.T) {
	w := newWorld(t).three()
	s := httptest.NewTLSServer(w.handler)
	defer s.Close()
	w.file("ca.pem", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})))
	w.expect("11111111...\n22222222...\n33333333...\n", "", 0, "--endpoint="+s.URL, "--ca-file="+w.dir+"/ca.pem", "list-machines", "--no-legend", "--fields=machine")
	w.expect("", "certificate signed by unknown authority", 1, "--endpoint="+s.URL, "list-machines")
}
