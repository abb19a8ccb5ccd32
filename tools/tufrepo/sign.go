package tufrepo

import (
	"crypto/sha256"
	"fmt"
	"time"

	"github.com/theupdateframework/go-tuf/v2/metadata"
)

// roots are the root metadata that signatures must satisfy: the published one,
// and during a rotation the next one too.
type roots []*metadata.Metadata[metadata.RootType]

// signers returns the keys for a role in all of these roots. It fails when one
// of them would not be satisfied.
func (k Keys) signers(role string, all roots) ([]*Key, error) {
	var keys []*Key
	taken := map[string]bool{}
	for _, root := range all {
		r := root.Signed.Roles[role]
		if r == nil {
			return nil, fmt.Errorf("sign %s: the root metadata has no such role", role)
		}
		have := k.of(r)
		if len(have) < r.Threshold {
			return nil, noKey(role, len(have), r.Threshold)
		}
		for _, key := range have {
			if !taken[key.ID] {
				taken[key.ID] = true
				keys = append(keys, key)
			}
		}
	}
	return keys, nil
}

// sign replaces the signatures of m.
func sign[T metadata.Roles](m *metadata.Metadata[T], keys []*Key) ([]byte, error) {
	m.ClearSignatures()
	for _, key := range keys {
		if _, err := m.Sign(key.signer); err != nil {
			return nil, fmt.Errorf("sign with key %s: %w", key.ID, err)
		}
	}
	return m.ToBytes(true)
}

// change is what one publication writes.
type change struct {
	targets, snapshot bool // make new versions of these; the timestamp always is
	extra             roots
}

// publish signs and writes new metadata in the order that is safe: what is
// pointed at before what points at it. When it fails before the timestamp is
// written, clients see no difference; the repository must then be opened anew.
func (r *Repo) publish(c change) error {
	all := append(roots{r.root}, c.extra...)
	// A root that was published before the rest, because old keys are lost,
	// and a publisher that was killed then.
	c.targets = c.targets || r.root.VerifyDelegate(metadata.TARGETS, r.targets) != nil
	c.snapshot = c.snapshot || c.targets || r.root.VerifyDelegate(metadata.SNAPSHOT, r.snapshot) != nil
	// Find all keys first, so that nothing is written when one is missing.
	needed := []string{metadata.TIMESTAMP}
	if c.snapshot {
		needed = append(needed, metadata.SNAPSHOT)
	}
	if c.targets {
		needed = append(needed, metadata.TARGETS)
	}
	signers := map[string][]*Key{}
	for _, role := range needed {
		keys, err := r.Keys.signers(role, all)
		if err != nil {
			return err
		}
		signers[role] = keys
	}
	if c.targets {
		s := &r.targets.Signed
		s.Version, s.Expires = s.Version+1, r.expires(r.Expiry.Targets)
		b, err := sign(r.targets, signers[metadata.TARGETS])
		if err != nil {
			return err
		}
		if err := r.write(metadataName(s.Version, metadata.TARGETS), b); err != nil {
			return err
		}
		r.snapshot.Signed.Meta["targets.json"] = metaFile(s.Version, b)
	}
	if c.snapshot {
		s := &r.snapshot.Signed
		s.Version, s.Expires = s.Version+1, r.expires(r.Expiry.Snapshot)
		b, err := sign(r.snapshot, signers[metadata.SNAPSHOT])
		if err != nil {
			return err
		}
		if err := r.write(metadataName(s.Version, metadata.SNAPSHOT), b); err != nil {
			return err
		}
		r.timestamp.Signed.Meta["snapshot.json"] = metaFile(s.Version, b)
	}
	s := &r.timestamp.Signed
	s.Version, s.Expires = s.Version+1, r.expires(r.Expiry.Timestamp)
	b, err := sign(r.timestamp, signers[metadata.TIMESTAMP])
	if err != nil {
		return err
	}
	return r.write(metadataName(0, metadata.TIMESTAMP), b)
}

func metaFile(version int64, content []byte) *metadata.MetaFiles {
	sum := sha256.Sum256(content)
	m := metadata.MetaFile(version)
	m.Length = int64(len(content))
	m.Hashes = metadata.Hashes{"sha256": sum[:]}
	return m
}

func (r *Repo) expires(after time.Duration) time.Time {
	return r.Now().UTC().Add(after).Truncate(time.Second)
}

// Refresh signs a new timestamp. Snapshot and targets are signed anew too when
// a third of their time or less is left and their keys are at hand, or when the
// root no longer accepts them. It returns the roles that it renewed.
func (r *Repo) Refresh() ([]string, error) {
	soon := func(at time.Time, whole time.Duration) bool { return at.Sub(r.Now()) < whole/3 }
	able := func(role string) bool { _, err := r.Keys.signers(role, roots{r.root}); return err == nil }
	var c change
	c.targets = r.root.VerifyDelegate(metadata.TARGETS, r.targets) != nil ||
		soon(r.targets.Signed.Expires, r.Expiry.Targets) && able(metadata.TARGETS) && able(metadata.SNAPSHOT)
	c.snapshot = c.targets || r.root.VerifyDelegate(metadata.SNAPSHOT, r.snapshot) != nil ||
		soon(r.snapshot.Signed.Expires, r.Expiry.Snapshot) && able(metadata.SNAPSHOT)
	renewed := []string{metadata.TIMESTAMP}
	if c.snapshot {
		renewed = append(renewed, metadata.SNAPSHOT)
	}
	if c.targets {
		renewed = append(renewed, metadata.TARGETS)
	}
	if err := r.publish(c); err != nil {
		return nil, fmt.Errorf("refresh: %w", err)
	}
	return renewed, nil
}
