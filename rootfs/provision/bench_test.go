package provision

import (
	"context"
	"encoding/json"
	"os"
	"strings"
	"testing"

	"github.com/coracle-os/coracle/rootfs/userdata"
)

// BenchmarkLargestSample is a whole boot's provisioning with the largest of the
// recorded documents: the first one, which writes, and a later one.
func BenchmarkLargestSample(b *testing.B) {
	cases, err := os.ReadFile("../cloudconfig/testdata/coreos-cloudinit.jsonl")
	if err != nil {
		b.Fatal(err)
	}
	largest := ""
	for line := range strings.Lines(string(cases)) {
		var c struct{ UserData string }
		if err := json.Unmarshal([]byte(line), &c); err != nil {
			b.Fatal(err)
		}
		if len(c.UserData) > len(largest) {
			largest = c.UserData
		}
	}
	source := userdata.Source{Name: "sample", Data: []byte(largest)}
	b.Run("first boot", func(b *testing.B) {
		for b.Loop() {
			b.StopTimer()
			w := newWorld(b, nil, source)
			b.StartTimer()
			w.Run(context.Background())
		}
	})
	b.Run("later boot", func(b *testing.B) {
		w := newWorld(b, nil, source)
		w.Run(context.Background())
		for b.Loop() {
			run := *w.Provisioner
			run.Run(context.Background())
		}
	})
}
