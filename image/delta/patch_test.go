package delta

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/coracle-os/coracle/image/release"
)

func TestPatched(t *testing.T) {
	running := release.Sum{1}
	x := &release.Index{DataBlocks: 10, ChunkBlocks: 1, Root: make([]release.Chunk, 10)}
	for i := range x.Root {
		x.Root[i] = release.Chunk{Offset: int64(i) * 100, Length: 100, Size: release.BlockSize}
	}
	var patches []release.Patch
	for i, chunk := range []int{1, 2, 3, 5, 6} {
		patches = append(patches, release.Patch{Chunk: chunk, Blocks: 1, Offset: 1000 + int64(i)*10, Length: 10})
	}
	x.Bases = []release.Base{{RootHash: release.Sum{2}}, {RootHash: running, Patches: patches}}
	planned := []Fetch{{release.Range{Offset: 100, Length: 200}, 1, 2}, {release.Range{Offset: 400, Length: 300}, 4, 6}}
	for name, test := range map[string]struct {
		running release.Sum
		limit   int64
		want    [][]release.Patch
		rest    []Fetch
	}{
		"another root":   {release.Sum{3}, 100, nil, planned},
		"a base without": {release.Sum{2}, 100, nil, planned},
		"neighbours":     {running, 100, [][]release.Patch{patches[:2], patches[3:]}, []Fetch{{release.Range{Offset: 400, Length: 100}, 4, 4}}},
		"limit":          {running, 15, [][]release.Patch{patches[:1], patches[1:2], patches[3:4], patches[4:]}, []Fetch{{release.Range{Offset: 400, Length: 100}, 4, 4}}},
	} {
		t.Run(name, func(t *testing.T) {
			got, rest := Patched(x, test.running, planned, test.limit)
			var sorted [][]release.Patch
			for _, f := range got {
				if f.Offset != f.Patches[0].Offset || f.End() != f.Patches[len(f.Patches)-1].Range().End() {
					t.Errorf("range %+v of patches %+v", f.Range, f.Patches)
				}
				sorted = append(sorted, f.Patches)
			}
			if diff := cmp.Diff(test.want, sorted); diff != "" {
				t.Errorf("patches (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(test.rest, rest); diff != "" {
				t.Errorf("rest (-want +got):\n%s", diff)
			}
		})
	}
}
