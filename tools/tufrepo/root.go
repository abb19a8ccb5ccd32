package tufrepo

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/theupdateframework/go-tuf/v2/metadata"
)

// Roles of a repository, the root first.
func Roles() []string {
	return []string{metadata.ROOT, metadata.TARGETS, metadata.SNAPSHOT, metadata.TIMESTAMP}
}

// Create makes keys in keyDir and an empty repository in dir. Root metadata
// need threshold signatures of rootKeys keys; each other role has one key.
func Create(dir, keyDir string, rootKeys, threshold int, now func() time.Time) (*Repo, error) {
	if threshold < 1 || rootKeys < threshold || rootKeys > 100 {
		return nil, fmt.Errorf("make repository: a threshold of %d with %d root keys; want 1 to 100 keys and no more signatures than keys", threshold, rootKeys)
	}
	r := &Repo{Dir: dir, Keys: Keys{}, Expiry: DefaultExpiry(), Now: now}
	if _, err := r.lastRoot(); err == nil {
		return nil, fmt.Errorf("make repository: there is one in %q already; `coracle key rotate` changes its keys", dir)
	}
	if files, _ := filepath.Glob(filepath.Join(keyDir, "*"+keySuffix)); len(files) > 0 {
		return nil, fmt.Errorf("make repository: %q has keys already; take an empty directory for the new ones", keyDir)
	}
	if err := os.MkdirAll(filepath.Join(dir, MetadataDir), 0o755); err != nil {
		return nil, fmt.Errorf("make repository: %w", err)
	}
	if err := r.takeLock(); err != nil {
		return nil, err
	}
	if err := r.create(keyDir, rootKeys, threshold); err != nil {
		return nil, errors.Join(fmt.Errorf("make repository: %w", err), r.Close())
	}
	return r, nil
}

func (r *Repo) create(keyDir string, rootKeys, threshold int) error {
	r.root = metadata.Root(r.expires(r.Expiry.Root))
	r.root.Signed.ConsistentSnapshot = true
	for _, role := range Roles() {
		count := 1
		if role == metadata.ROOT {
			count = rootKeys
		}
		for range count {
			key, err := r.Keys.Generate(keyDir, role)
			if err != nil {
				return err
			}
			if err := r.root.Signed.AddKey(key.public, role); err != nil {
				return err
			}
		}
	}
	r.root.Signed.Roles[metadata.ROOT].Threshold = threshold
	r.targets, r.snapshot, r.timestamp = metadata.Targets(), metadata.Snapshot(), metadata.Timestamp()
	r.targets.Signed.Version, r.snapshot.Signed.Version, r.timestamp.Signed.Version = 0, 0, 0
	if err := r.publish(change{targets: true}); err != nil {
		return err
	}
	b, err := sign(r.root, r.Keys.of(r.root.Signed.Roles[metadata.ROOT]))
	if err != nil {
		return err
	}
	return r.write(metadataName(1, metadata.ROOT), b)
}

// RootFile is the path of the published root metadata: the trust that machines
// are given.
func (r *Repo) RootFile() string { return r.metadataFile(r.RootVersion(), metadata.ROOT) }

// Rotate makes root metadata in which a role has new keys instead of those
// with the IDs in old (the starts of IDs do), or of all its keys when there are
// none in old. Root with no role just renews the expiry. When too few of the
// root's keys are at hand it stages the new root, and Sign goes on with it;
// missing is how many signatures it lacks.
func (r *Repo) Rotate(role string, old []string, keyDirs ...string) (missing int, err error) {
	next, err := r.nextRoot()
	if err != nil {
		return 0, fmt.Errorf("rotate keys: %w", err)
	}
	if role != "" {
		if err := r.replaceKeys(next, role, old, keyDirs); err != nil {
			return 0, fmt.Errorf("rotate keys: %w", err)
		}
	}
	return r.signRoot(next)
}

// nextRoot is a copy of the root, one version on. Only one can be under way.
func (r *Repo) nextRoot() (*metadata.Metadata[metadata.RootType], error) {
	if _, err := os.Stat(r.stagedFile()); err == nil {
		return nil, fmt.Errorf("root metadata %d wait for signatures; `coracle key sign` adds them, or remove %q", r.RootVersion()+1, r.stagedFile())
	}
	b, err := r.root.ToBytes(false)
	if err != nil {
		return nil, err
	}
	next, err := metadata.Root().FromBytes(b)
	if err != nil {
		return nil, err
	}
	next.Signed.Version++
	next.Signed.Expires = r.expires(r.Expiry.Root)
	next.ClearSignatures()
	return next, nil
}

func (r *Repo) replaceKeys(next *metadata.Metadata[metadata.RootType], role string, old, keyDirs []string) error {
	if !slices.Contains(Roles(), role) {
		return fmt.Errorf("role %q: want one of %q", role, Roles())
	}
	ids := next.Signed.Roles[role].KeyIDs
	if len(old) > 0 {
		var chosen []string
		for _, start := range old {
			i := slices.IndexFunc(ids, func(id string) bool { return len(start) >= 6 && len(start) <= len(id) && id[:len(start)] == start })
			if i < 0 {
				return fmt.Errorf("%s has no key %q; it has %q", role, start, ids)
			}
			chosen = append(chosen, ids[i])
		}
		ids = chosen
	}
	dir, err := r.Keys.dirOf(role, keyDirs)
	if err != nil {
		return err
	}
	for _, id := range slices.Clone(ids) {
		if err := next.Signed.RevokeKey(id, role); err != nil {
			return err
		}
		key, err := r.Keys.Generate(dir, role)
		if err != nil {
			return err
		}
		if err := next.Signed.AddKey(key.public, role); err != nil {
			return err
		}
	}
	return nil
}

func (r *Repo) stagedFile() string {
	return filepath.Join(r.Dir, stagedDir, filepath.Base(metadataName(r.RootVersion()+1, metadata.ROOT)))
}

// Sign adds the signatures of the keys at hand to the staged root metadata and
// publishes them when they are enough.
func (r *Repo) Sign() (missing int, err error) {
	next, err := metadata.Root().FromFile(r.stagedFile())
	if err != nil {
		return 0, fmt.Errorf("sign root: %w; there is something to sign after `coracle key rotate` only", err)
	}
	if next.Signed.Version != r.RootVersion()+1 {
		return 0, fmt.Errorf("sign root: version %d is staged, want %d", next.Signed.Version, r.RootVersion()+1)
	}
	return r.signRoot(next)
}

// signRoot signs the next root with what is at hand and publishes it, or
// stages it.
func (r *Repo) signRoot(next *metadata.Metadata[metadata.RootType]) (missing int, err error) {
	done := map[string]bool{}
	for _, s := range next.Signatures {
		done[s.KeyID] = true
	}
	for _, root := range (roots{r.root, next}) {
		role := root.Signed.Roles[metadata.ROOT]
		for _, key := range r.Keys.of(role) {
			if done[key.ID] {
				continue
			}
			if _, err := next.Sign(key.signer); err != nil {
				return 0, fmt.Errorf("sign root with key %s: %w", key.ID, err)
			}
			done[key.ID] = true
		}
		have := 0
		for _, id := range role.KeyIDs {
			if done[id] {
				have++
			}
		}
		missing = max(missing, role.Threshold-have)
	}
	b, err := next.ToBytes(true)
	if err != nil {
		return 0, fmt.Errorf("sign root: %w", err)
	}
	staged := r.stagedFile()
	if missing > 0 {
		name, err := filepath.Rel(r.Dir, staged)
		if err != nil {
			return 0, fmt.Errorf("sign root: %w", err)
		}
		return missing, r.write(name, b)
	}
	if err := errors.Join(r.root.VerifyDelegate(metadata.ROOT, next), next.VerifyDelegate(metadata.ROOT, next)); err != nil {
		return 0, fmt.Errorf("sign root: %w", err)
	}
	if err := r.publishRoot(next, b); err != nil {
		return 0, fmt.Errorf("publish root: %w", err)
	}
	if err := os.Remove(staged); err != nil && !errors.Is(err, os.ErrNotExist) {
		return 0, fmt.Errorf("publish root: %w", err)
	}
	return 0, nil
}

// publishRoot writes a signed root. What the new root would not accept is first
// signed with old and new keys, so that it holds before and after. When the old
// keys are gone the root goes first, and clients fail until the rest follows.
func (r *Repo) publishRoot(next *metadata.Metadata[metadata.RootType], content []byte) error {
	var c change
	c.targets = next.VerifyDelegate(metadata.TARGETS, r.targets) != nil
	c.snapshot = c.targets || next.VerifyDelegate(metadata.SNAPSHOT, r.snapshot) != nil
	needed := c.snapshot || next.VerifyDelegate(metadata.TIMESTAMP, r.timestamp) != nil
	writeRoot := func() error { return r.write(metadataName(next.Signed.Version, metadata.ROOT), content) }
	if !needed {
		if err := writeRoot(); err != nil {
			return err
		}
		r.root = next
		return nil
	}
	rootFirst := false
	for role, used := range map[string]bool{metadata.TARGETS: c.targets, metadata.SNAPSHOT: c.snapshot, metadata.TIMESTAMP: true} {
		if !used {
			continue
		}
		if _, err := r.Keys.signers(role, roots{next}); err != nil {
			return err
		}
		if _, err := r.Keys.signers(role, roots{r.root}); err != nil {
			rootFirst = true
		}
	}
	if rootFirst {
		if err := writeRoot(); err != nil {
			return err
		}
		r.root = next
		return r.publish(c)
	}
	c.extra = roots{next}
	if err := r.publish(c); err != nil {
		return err
	}
	if err := writeRoot(); err != nil {
		return err
	}
	r.root = next
	return nil
}
