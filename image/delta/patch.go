package delta

import "github.com/coracle-os/coracle/image/release"

// A PatchFetch is one range of the blob and the patches in it.
type PatchFetch struct {
	release.Range
	Patches []release.Patch
}

// Patched replaces fetches of chunks by fetches of the patches that a machine
// which runs the root with this hash can use, of at most limit bytes each but
// for a single larger one. The rest has no patch. Whoever carries it out checks
// the blocks and fetches those that do not hold with Refetch.
func Patched(x *release.Index, running release.Sum, planned []Fetch, limit int64) (patches []PatchFetch, rest []Fetch) {
	wanted := make([]bool, len(x.Root))
	for _, f := range planned {
		for i := f.First; i <= f.Last; i++ {
			wanted[i] = true
		}
	}
	for _, p := range x.PatchesFrom(running) {
		if !wanted[p.Chunk] {
			continue
		}
		wanted[p.Chunk] = false
		if k := len(patches); k > 0 {
			if last := &patches[k-1]; last.End() == p.Offset && last.Length+p.Length <= limit {
				last.Length += p.Length
				last.Patches = append(last.Patches, p)
				continue
			}
		}
		patches = append(patches, PatchFetch{p.Range(), []release.Patch{p}})
	}
	return patches, fetches(x, wanted)
}
