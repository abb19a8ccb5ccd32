package firstboot

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
)

// large is a config of 5 MB: 300 files of 16 kB, 100 units and 20 users.
func large(t testing.TB) string {
	t.Helper()
	type object = map[string]any
	content := "data:;base64," + base64.StdEncoding.EncodeToString([]byte(strings.Repeat("0123456789abcdef", 800)))
	var files, units, users []object
	for i := range 300 {
		files = append(files, object{"path": fmt.Sprintf("/etc/large/%d/file", i), "mode": 0o600, "contents": object{"source": content}})
	}
	for i := range 100 {
		units = append(units, object{"name": fmt.Sprintf("large-%d.service", i), "contents": "[Service]\nExecStart=/bin/true\n"})
	}
	for i := range 20 {
		users = append(users, object{"name": fmt.Sprintf("user%d", i), "sshAuthorizedKeys": []string{"ssh-ed25519 A"}})
	}
	data, err := json.Marshal(object{"ignition": object{"version": "3.4.0"}, "storage": object{"files": files}, "systemd": object{"units": units}, "passwd": object{"users": users}})
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// BenchmarkLargest is a first boot with the largest config, and what every
// later boot does about it.
func BenchmarkLargest(b *testing.B) {
	config := large(b)
	b.Run("first boot", func(b *testing.B) {
		b.SetBytes(int64(len(config)))
		for b.Loop() {
			b.StopTimer()
			box := newBox(b, newRoot(b), config)
			b.StartTimer()
			if err := box.run(); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("later boot", func(b *testing.B) {
		box := newBox(b, newRoot(b), config)
		if err := box.run(); err != nil {
			b.Fatal(err)
		}
		for b.Loop() {
			if err := box.runner.Run(context.Background()); err != nil {
				b.Fatal(err)
			}
		}
	})
}
