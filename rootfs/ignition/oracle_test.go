package ignition

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// parts are values that a generated config may have, good and bad ones.
var parts = map[string][]string{
	"VERSION": {"3.0.0", "3.1.0", "3.2.0", "3.3.0", "3.3.0", "3.3.0", "2.3.0", "3", ""},
	"PATH":    {"/etc/a", "/etc/a", "/etc/b", "/opt/c/d", "etc/x", "", "/"},
	"SOURCE":  {"data:,hello", "data:;base64,aGVsbG8=", "data:;base64,!", "https://example.com/x", "ftp://x", "s3://bucket/key", "x", ""},
	"MODE":    {"420", "0", "4095", "4096", "-1", `"0644"`, "1.5"},
	"BOOL":    {"true", "false", "null", `"yes"`},
	"HASH":    {"sha512-" + strings.Repeat("a", 128), "sha256-" + strings.Repeat("b", 64), "sha512-zz", "md5-aa", "x"},
	"UNIT":    {"a.service", "b.mount", "c", "d.conf", ""},
	"BODY":    {"[Service]\\nExecStart=/bin/true\\n[Install]\\nWantedBy=a.target\\n", "[Service", "", "x"},
	"NAME":    {"core", "bob", "", "a b"},
	"DEVICE":  {"/dev/sda", "/dev/md/x", "sda", ""},
	"NUMBER":  {"0", "1", "2", "-1", "129"},
	"MIB":     {"0", "1", "100", "-5"},
	"GUID":    {"8A7A84A0-8387-40F6-AB9E-A8B9A5A60D23", "", "x", "8A7A84A0838740F6AB9EA8B9A5A60D23"},
	"FORMAT":  {"ext4", "xfs", "vfat", "swap", "none", "zfs", ""},
	"LEVEL":   {"raid1", "raid5", "1", "raid9", ""},
	"LABEL":   {"data", strings.Repeat("x", 40), "a:b", ""},
}

// templates are configs with places for parts.
var templates = []string{
	`{"ignition": {"version": "VERSION"}, "storage": {"files": [{"path": "PATH", "mode": MODE, "overwrite": BOOL, "contents": {"source": "SOURCE", "verification": {"hash": "HASH"}}}, {"path": "PATH"}]}}`,
	`{"ignition": {"version": "VERSION"}, "storage": {"directories": [{"path": "PATH", "mode": MODE}], "links": [{"path": "PATH", "target": "PATH", "hard": BOOL}]}}`,
	`{"ignition": {"version": "VERSION"}, "systemd": {"units": [{"name": "UNIT", "enabled": BOOL, "contents": "BODY", "dropins": [{"name": "UNIT", "contents": "BODY"}]}]}}`,
	`{"ignition": {"version": "VERSION"}, "passwd": {"users": [{"name": "NAME", "sshAuthorizedKeys": ["k"]}, {"name": "NAME"}], "groups": [{"name": "NAME", "gid": NUMBER}]}}`,
	`{"ignition": {"version": "VERSION"}, "storage": {"disks": [{"device": "DEVICE", "wipeTable": BOOL, "partitions": [{"number": NUMBER, "sizeMiB": MIB, "startMiB": MIB, "label": "LABEL", "guid": "GUID", "typeGuid": "GUID"}, {"number": NUMBER, "label": "LABEL", "sizeMiB": MIB}]}]}}`,
	`{"ignition": {"version": "VERSION"}, "storage": {"raid": [{"name": "NAME", "level": "LEVEL", "devices": ["DEVICE", "DEVICE"], "spares": NUMBER}], "filesystems": [{"device": "DEVICE", "format": "FORMAT", "path": "PATH", "label": "LABEL"}, {"device": "DEVICE", "format": "FORMAT"}]}}`,
	`{"ignition": {"version": "VERSION"}, "storage": {"luks": [{"name": "NAME", "device": "DEVICE", "label": "LABEL", "keyFile": {"source": "SOURCE"}}]}}`,
	`{"ignition": {"version": "VERSION", "config": {"merge": [{"source": "SOURCE"}], "replace": {"source": "SOURCE"}}, "timeouts": {"httpTotal": NUMBER}, "security": {"tls": {"certificateAuthorities": [{"source": "SOURCE"}]}}}}`,
	`{"ignition": {"version": "VERSION"}, "unknown": BOOL, "kernelArguments": {"shouldExist": ["NAME"], "shouldNotExist": ["LABEL"]}}`,
}

// TestValidity compares with Debian's ignition-validate over generated configs,
// as the published examples have them and with one part or the other broken.
func TestValidity(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	valid := 0
	const file = `{"ignition": {"version": "3.3.0"}, "storage": {"files": [{"path": "/etc/%s", "contents": {"source": "data:,%s"}}]}}`
	odd := []string{"", "{", "[]", "null", "\xff\xfe{\x00", fmt.Sprintf(file, "\xff", "x"), fmt.Sprintf(file, "x", strings.Repeat("x", 5<<20)),
		fmt.Sprintf(file, "x", "x") + "x", strings.Replace(fmt.Sprintf(file, "x", "x"), "{", "{\"ignition\": {}, ", 1)}
	for i := range 300 + len(odd) {
		text := templates[i%len(templates)]
		if i >= 300 {
			text = odd[i-300]
		}
		for _, name := range slices.Sorted(maps.Keys(parts)) {
			values := parts[name]
			for strings.Contains(text, name) {
				value := values[0]
				if random.IntN(6) == 0 {
					value = values[random.IntN(len(values))]
				}
				text = strings.Replace(text, name, value, 1)
			}
		}
		cmd := exec.Command("ignition-validate", "-")
		cmd.Stdin = strings.NewReader(text)
		out, err := cmd.CombinedOutput()
		_, problems, ours := Parse([]byte(text))
		if err == nil {
			valid++
		}
		if (err == nil) != (ours == nil) {
			t.Errorf("%s\nignition-validate: %v %s\nhere: %v %v", text, err, out, ours, fmt.Sprint(problems))
		}
		Compile(context.Background(), "test", []byte(text), nil)
	}
	if valid < 50 {
		t.Errorf("only %d configs are valid: the comparison says little", valid)
	}
}
