package tufrepo

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/theupdateframework/go-tuf/v2/metadata"
	"github.com/theupdateframework/go-tuf/v2/metadata/config"
	"github.com/theupdateframework/go-tuf/v2/metadata/updater"

	"github.com/coracle-os/coracle/image/delta"
	"github.com/coracle-os/coracle/image/release"
	"github.com/coracle-os/coracle/image/verity"
)

// server serves a repository and counts.
type server struct {
	*httptest.Server
	bytes, requests atomic.Int64
}

func serve(t testing.TB, dir string) *server {
	t.Helper()
	s := &server{}
	files := http.FileServer(http.Dir(dir))
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.requests.Add(1)
		files.ServeHTTP(&counter{w, &s.bytes}, r)
	}))
	t.Cleanup(s.Close)
	return s
}

type counter struct {
	http.ResponseWriter
	n *atomic.Int64
}

func (c *counter) Write(b []byte) (int, error) {
	n, err := c.ResponseWriter.Write(b)
	c.n.Add(int64(n))
	return n, err
}

// client is a machine as small as it can be: go-tuf's updater and ranges.
type client struct {
	*updater.Updater
	server *server
}

// connect is a client that trusts this root and has seen what is in cache.
func connect(t testing.TB, s *server, root []byte, cache string, now time.Time) (*client, error) {
	t.Helper()
	c, err := config.New(s.URL+"/"+MetadataDir, root)
	if err != nil {
		t.Fatal(err)
	}
	c.LocalMetadataDir, c.LocalTargetsDir = cache, cache
	c.RemoteTargetsURL = s.URL + "/" + TargetsDir
	u, err := updater.New(c)
	if err != nil {
		return nil, err
	}
	u.UnsafeSetRefTime(now)
	return &client{u, s}, u.Refresh()
}

func (c *client) target(name string) ([]byte, *metadata.TargetFiles, error) {
	info, err := c.GetTargetInfo(name)
	if err != nil {
		return nil, nil, err
	}
	_, content, err := c.DownloadTarget(info, "", "")
	return content, info, err
}

// channel is what the client is told to have.
func (c *client) channel(name string) (*release.Channel, error) {
	b, _, err := c.target(release.ChannelTarget(name))
	if err != nil {
		return nil, err
	}
	return release.ParseChannel(b)
}

func (c *client) fetch(version string, r release.Range) ([]byte, error) {
	info, err := c.GetTargetInfo(release.Target(version, release.BlobName))
	if err != nil {
		return nil, err
	}
	if r.Length == 0 {
		return nil, nil
	}
	q, err := http.NewRequest("GET", c.server.URL+"/"+TargetsDir+"/"+hashedName(info.Path, info.Hashes["sha256"]), nil)
	if err != nil {
		return nil, err
	}
	q.Header.Set("Range", fmt.Sprintf("bytes=%d-%d", r.Offset, r.End()-1))
	answer, err := http.DefaultClient.Do(q)
	if err != nil {
		return nil, err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusPartialContent {
		return nil, fmt.Errorf("%s", answer.Status)
	}
	return io.ReadAll(answer.Body)
}

// slot is a root with its UKI, as installed.
type slot struct {
	data, tree, uki []byte
	root            release.Sum
	noPatches       bool // as if it were a version that no channel had
}

func newSlot(t testing.TB, data, uki []byte) *slot {
	t.Helper()
	s := &slot{data: data, uki: uki, tree: make([]byte, verity.TreeSize(int64(len(data))))}
	hash, err := verity.Format(bytes.NewReader(data), int64(len(data)), bufferAt(s.tree), verity.Superblock{Salt: verity.Salt()})
	if err != nil {
		t.Fatal(err)
	}
	copy(s.root[:], hash)
	return s
}

type bufferAt []byte

func (b bufferAt) WriteAt(p []byte, at int64) (int, error) { return copy(b[at:], p), nil }

// update gets the version that a channel has, with what is in running, and
// checks it.
func (c *client) update(t testing.TB, channel string, running *slot) *slot {
	t.Helper()
	ch, err := c.channel(channel)
	if err != nil {
		t.Fatal(err)
	}
	b, info, err := c.target(release.Target(ch.Version, release.IndexName))
	if err != nil {
		t.Fatal(err)
	}
	said, err := release.ParseInfo(*info.Custom)
	if err != nil {
		t.Fatal(err)
	}
	x, err := release.ParseIndex(b)
	if err != nil {
		t.Fatal(err)
	}
	if got := hex.EncodeToString(x.RootHash[:]); got != ch.RootHash || said.RootHash != got || said.DataBlocks != x.DataBlocks ||
		said.TreeBlocks != x.TreeBlocks() || said.Sizes.Blob != x.BlobSize() || said.Sizes.Index != int64(len(b)) {
		t.Fatalf("the texts do not agree: %+v, %+v, index of %d bytes with %s", ch, said, len(b), got)
	}
	get := func(r release.Range) []byte {
		content, err := c.fetch(ch.Version, r)
		if err != nil {
			t.Fatal(err)
		}
		return content
	}
	next := &slot{data: make([]byte, x.DataBlocks*release.BlockSize), uki: make([]byte, x.UKISize), root: x.RootHash}
	knownTree, known := &delta.Installed{}, &delta.Installed{}
	if running != nil {
		blocks := int64(len(running.data)) / release.BlockSize
		leaves, err := delta.Leaves(bytes.NewReader(running.tree), running.root, blocks)
		if err != nil {
			t.Fatal(err)
		}
		known.Add(0, 0, leaves)
		if err := knownTree.AddTree(0, bytes.NewReader(running.tree), running.root, blocks); err != nil {
			t.Fatal(err)
		}
	}
	next.tree, err = delta.ReadTree(x, delta.TreeSource{
		Known: knownTree,
		Copy:  func(p delta.Place, b []byte) error { copy(b, running.tree[p.Block*release.BlockSize:]); return nil },
		Fetch: func(r release.Range, check func([]byte) error) ([]byte, error) { b := get(r); return b, check(b) },
	})
	if err != nil {
		t.Fatal(err)
	}
	leaves, err := delta.Leaves(bytes.NewReader(next.tree), x.RootHash, x.DataBlocks)
	if err != nil {
		t.Fatal(err)
	}
	plan, err := delta.New(x, leaves, known, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range plan.Copies {
		copy(next.data[k.To*release.BlockSize:], running.data[k.From.Block*release.BlockSize:][:k.Blocks*release.BlockSize])
	}
	d, err := release.NewDecoder()
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	fetches := plan.Fetches
	if running != nil && !running.noPatches {
		var patches []delta.PatchFetch
		patches, fetches = delta.Patched(x, running.root, fetches, 512<<10)
		for _, f := range patches {
			b := get(f.Range)
			for _, p := range f.Patches {
				first, n := x.ChunkBlocksOf(p.Chunk)
				dictionary := running.data[p.From*release.BlockSize:][:p.Blocks*release.BlockSize]
				if err := d.DecodePatch(next.data[first*release.BlockSize:][:n*release.BlockSize], p, b[p.Offset-f.Offset:][:p.Length], dictionary); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	for _, f := range fetches {
		b := get(f.Range)
		for i := f.First; i <= f.Last; i++ {
			k := x.Root[i]
			first, _ := x.ChunkBlocksOf(i)
			if err := d.Decode(next.data[first*release.BlockSize:][:k.Size], k, b[k.Offset-f.Offset:][:k.Length]); err != nil {
				t.Fatal(err)
			}
		}
	}
	c.updateUKI(t, x, d, running, next, get)
	if err := verity.Verify(bytes.NewReader(next.data), int64(len(next.data)), bytes.NewReader(next.tree), x.RootHash[:]); err != nil {
		t.Fatal(err)
	}
	return next
}

func (c *client) updateUKI(t testing.TB, x *release.Index, d *release.Decoder, running, next *slot, get func(release.Range) []byte) {
	t.Helper()
	have := map[release.Sum][]byte{}
	if running != nil {
		pieces, err := release.CutUKI(bytes.NewReader(running.uki), int64(len(running.uki)))
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range pieces {
			have[p.Content] = running.uki[p.At:][:p.Size]
		}
	}
	for _, p := range x.UKI {
		if old, ok := have[p.Content]; ok {
			copy(next.uki[p.At:], old)
			continue
		}
		if err := d.Decode(next.uki[p.At:][:p.Size], p.Chunk, get(p.Range())); err != nil {
			t.Fatal(err)
		}
	}
	if sha256.Sum256(next.uki) != x.UKISum {
		t.Fatal("the UKI is not the published one")
	}
}

// fakeBuild is a small build; change makes it another one.
func fakeBuild(t testing.TB, version string, change ...int) (Build, *slot) {
	t.Helper()
	data := make([]byte, 1100*release.BlockSize)
	for i := range data {
		data[i] = byte(i*i>>9 ^ i>>3)
	}
	for _, block := range change {
		copy(data[block*release.BlockSize:], "changed in "+version)
	}
	s := newSlot(t, data, []byte(strings.Repeat("kernel", 30_000)+version))
	return Build{
		Version: version, RootHash: hex.EncodeToString(s.root[:]), Root: bytes.NewReader(data), RootSize: int64(len(data)), UKI: s.uki,
		Manifest: []byte(`{"version":"` + version + `"}`), SBOM: []byte("{}"),
	}, s
}
