package tufrepo

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/coracle-os/coracle/image/release"
)

// signedFile is any metadata file, read without the library that wrote it.
type signedFile struct {
	Signed     json.RawMessage `json:"signed"`
	Signatures []struct{ KeyID, Sig string }
}

// canonical is canonical JSON as the TUF specification names it, for texts of
// ASCII: keys sorted, no white space, nothing escaped but quotes and
// backslashes.
func canonical(t *testing.T, raw []byte) []byte {
	t.Helper()
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	e := json.NewEncoder(&out)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		t.Fatal(err)
	}
	return bytes.TrimSpace(out.Bytes())
}

// TestSpecification walks a repository as the TUF specification says, with
// nothing of go-tuf: key IDs, signatures, thresholds, lengths, digests, names.
func TestSpecification(t *testing.T) {
	p := newPlace(t, 3, 2)
	build, _ := fakeBuild(t, "1.0.0")
	p.publish(t, build, Options{Channel: "stable"})
	type metaFile struct {
		Version, Length int64
		Hashes          map[string]string
	}
	type body struct {
		Type    string `json:"_type"`
		Version int64
		Keys    map[string]json.RawMessage
		Roles   map[string]struct {
			KeyIDs    []string
			Threshold int
		}
		Meta       map[string]metaFile
		Targets    map[string]metaFile
		Consistent bool `json:"consistent_snapshot"`
	}
	var root body
	read := func(name, role string, want *metaFile) body {
		t.Helper()
		content, err := os.ReadFile(filepath.Join(p.dir, MetadataDir, name))
		if err != nil {
			t.Fatal(err)
		}
		sum := sha256.Sum256(content)
		if want != nil && (want.Length != int64(len(content)) || want.Hashes["sha256"] != hex.EncodeToString(sum[:])) {
			t.Errorf("%s: length or digest is not %+v", name, want)
		}
		var f signedFile
		var b body
		if err := json.Unmarshal(content, &f); err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(f.Signed, &b); err != nil {
			t.Fatal(err)
		}
		if role == "root" {
			root = b
		}
		valid := map[string]bool{}
		for _, s := range f.Signatures {
			var key struct {
				KeyType, Scheme string
				KeyVal          struct{ Public string }
			}
			if err := json.Unmarshal(root.Keys[s.KeyID], &key); err != nil {
				t.Fatalf("%s: key %s: %v", name, s.KeyID, err)
			}
			if id := sha256.Sum256(canonical(t, root.Keys[s.KeyID])); hex.EncodeToString(id[:]) != s.KeyID || key.KeyType != "ed25519" || key.Scheme != "ed25519" {
				t.Errorf("%s: key %s is %x, %+v", name, s.KeyID, id, key)
			}
			public, err1 := hex.DecodeString(key.KeyVal.Public)
			signature, err2 := hex.DecodeString(s.Sig)
			valid[s.KeyID] = err1 == nil && err2 == nil && ed25519.Verify(public, canonical(t, f.Signed), signature)
		}
		have := 0
		for _, id := range root.Roles[role].KeyIDs {
			if valid[id] {
				have++
			}
		}
		if r := root.Roles[role]; b.Type != role || r.Threshold < 1 || have < r.Threshold {
			t.Errorf("%s: type %q, %d valid signatures, %d needed", name, b.Type, have, r.Threshold)
		}
		return b
	}
	if b := read("1.root.json", "root", nil); !b.Consistent || b.Roles["root"].Threshold != 2 {
		t.Errorf("root: %+v", b)
	}
	at := read("timestamp.json", "timestamp", nil).Meta["snapshot.json"]
	at = read(fmt.Sprintf("%d.snapshot.json", at.Version), "snapshot", &at).Meta["targets.json"]
	targets := read(fmt.Sprintf("%d.targets.json", at.Version), "targets", &at).Targets
	for name, want := range targets {
		sum, err := hex.DecodeString(want.Hashes["sha256"])
		if err != nil {
			t.Fatal(err)
		}
		content, err := os.ReadFile(filepath.Join(p.dir, TargetsDir, hashedName(name, sum)))
		if err != nil {
			t.Fatal(err)
		}
		if got := sha256.Sum256(content); !bytes.Equal(got[:], sum) || want.Length != int64(len(content)) {
			t.Errorf("%s: length or digest is not %+v", name, want)
		}
	}
	for _, name := range []string{release.UKIName, release.BlobName, release.IndexName, release.ManifestName, release.SBOMName} {
		if _, ok := targets[release.Target("1.0.0", name)]; !ok {
			t.Errorf("no target %s", name)
		}
	}
	if len(targets) != 6 {
		t.Errorf("%d targets, want 6", len(targets))
	}
}
