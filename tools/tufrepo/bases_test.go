package tufrepo

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/coracle-os/coracle/image/release"
)

// TestBases has patches from what the channels have, each version once, and
// goes without them when an older blob cannot be read.
func TestBases(t *testing.T) {
	p := newPlace(t, 1, 1)
	r := p.open(t)
	publish := func(channel, version string, change ...int) *Published {
		t.Helper()
		b, _ := fakeBuild(t, version, change...)
		got, err := r.Publish(t.Context(), b, Options{Channel: channel})
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	check := func(got *Published, skipped bool, want ...string) {
		t.Helper()
		if slices.Sort(got.Bases); !slices.Equal(got.Bases, want) || (got.Skipped != nil) != skipped {
			t.Errorf("version %s: patches from %q, skipped %v, want %q and %v", got.Info.Version, got.Bases, got.Skipped, want, skipped)
		}
	}
	check(publish("alpha", "1.0.0"), false)
	check(publish("beta", "1.0.0"), false)
	check(publish("alpha", "1.1.0", 3, 700), false, "1.0.0")
	check(publish("alpha", "1.2.0", 3, 701), false, "1.0.0", "1.1.0")
	blobs, err := filepath.Glob(filepath.Join(p.dir, TargetsDir, "1.0.0", "*."+release.BlobName))
	if err != nil || len(blobs) != 1 {
		t.Fatalf("%v, %v", blobs, err)
	}
	if err := os.Truncate(blobs[0], 10); err != nil {
		t.Fatal(err)
	}
	check(publish("alpha", "1.3.0", 3, 702), true, "1.2.0")
	left, err := filepath.Glob(filepath.Join(p.dir, ".new-*"))
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}
