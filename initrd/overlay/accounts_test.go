package overlay

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestAddAccounts(t *testing.T) {
	lower, upper := t.TempDir(), t.TempDir()
	for name, text := range map[string]string{
		"passwd":  "root:x:0:0::/root:/bin/bash\nnew:x:260:260::/:/bin/false\nclash:x:261:261::/:/bin/false\ncore:x:500:500::/home/core:/bin/bash\n",
		"shadow":  "root:*:20000::::::\nnew:*:20000::::::\nclash:*:20000::::::\ncore:*:20000::::::\n",
		"group":   "root:x:0:\nnew:x:260:\ncore:x:500:\n",
		"gshadow": "root:*::\nnew:*::\ncore:*::\n",
	} {
		write(t, filepath.Join(lower, name), text)
	}
	// The owner has removed core, and changed root's shell.
	write(t, filepath.Join(upper, "passwd"), "root:x:0:0::/root:/bin/sh\nalice:x:1000:1000::/home/alice:/bin/bash\nbob:x:261:261::/:/bin/sh")
	write(t, filepath.Join(upper, "shadow"), "root:*:20000::::::\nalice:*:20000::::::\n")
	write(t, filepath.Join(upper, "gshadow"), "root:*::\n")
	if err := os.Chmod(filepath.Join(upper, "shadow"), 0o640); err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second time changes nothing
		notices, err := addAccounts(lower, upper)
		if err != nil {
			t.Fatal(err)
		}
		if len(notices) != 1 || !strings.Contains(notices[0], `"clash"`) {
			t.Errorf("notices %q, want one about clash", notices)
		}
		got := map[string]string{}
		for _, f := range accountFiles {
			if text, err := os.ReadFile(filepath.Join(upper, f.name)); err == nil {
				got[f.name] = string(text)
			}
		}
		want := map[string]string{
			"passwd":  "root:x:0:0::/root:/bin/sh\nalice:x:1000:1000::/home/alice:/bin/bash\nbob:x:261:261::/:/bin/sh\nnew:x:260:260::/:/bin/false\n",
			"shadow":  "root:*:20000::::::\nalice:*:20000::::::\nnew:*:20000::::::\nclash:*:20000::::::\n",
			"gshadow": "root:*::\nnew:*::\n",
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	}
	if info, err := os.Stat(filepath.Join(upper, "shadow")); err != nil || info.Mode().Perm() != 0o640 {
		t.Errorf("shadow has mode %v, %v; want 0640", info.Mode(), err)
	}
	left, _ := filepath.Glob(filepath.Join(upper, ".accounts-*"))
	if len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
}

func TestAddAccountsErrors(t *testing.T) {
	lower, upper := t.TempDir(), t.TempDir()
	write(t, filepath.Join(upper, "passwd"), "root:x:0:0::/root:/bin/sh\n")
	if _, err := addAccounts(lower, upper); err == nil || !strings.Contains(err.Error(), "system accounts") {
		t.Errorf("a root without passwd: %v", err)
	}
}
