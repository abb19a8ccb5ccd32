package release

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path"
	"regexp"
	"time"
)

// Info is what the signed metadata says about a release: the custom field of
// the target VERSION/image.index.
type Info struct {
	Version    string `json:"version"`
	RootHash   string `json:"rootHash"`   // lower case hex
	DataBlocks int64  `json:"dataBlocks"` // of the root, 4 KiB each
	TreeBlocks int64  `json:"treeBlocks"` // of the hash tree, without superblock
	Sizes      Sizes  `json:"sizes"`
	MinVersion string `json:"minVersion,omitempty"` // a machine below it takes a stepping stone first
	Wave       Wave   `json:"wave,omitempty"`       // as first published; the channel's counts
}

// Sizes are sizes in bytes.
type Sizes struct {
	Root  int64 `json:"root"`  // image of the root
	Tree  int64 `json:"tree"`  // hash partition's content, with superblock
	UKI   int64 `json:"uki"`   // whole UKI
	Blob  int64 `json:"blob"`  // all that can be fetched in pieces
	Index int64 `json:"index"` // of the index
}

// Channel is the content of the target channels/NAME.json: the version that
// machines of the channel should have. Promoting a release writes this file
// anew and nothing else.
type Channel struct {
	Version   string    `json:"version"`
	RootHash  string    `json:"rootHash"`
	Downgrade bool      `json:"downgrade"` // machines take it though theirs is newer
	Published time.Time `json:"published"` // on this channel
	Wave      Wave      `json:"wave,omitempty"`
}

// A Wave is a roll-out in steps; empty means everybody at once.
type Wave []WaveStep

// WaveStep lets a part of the machines update from some time after
// publication on.
type WaveStep struct {
	After   Duration `json:"after"`
	Percent int      `json:"percent"` // of all machines, with those of earlier steps
}

// Duration is a time.Duration that is text in JSON, such as "24h0m0s".
type Duration time.Duration

// MarshalText returns the duration in Go's form.
func (d Duration) MarshalText() ([]byte, error) { return []byte(time.Duration(d).String()), nil }

// UnmarshalText reads a duration in Go's form.
func (d *Duration) UnmarshalText(b []byte) error {
	v, err := time.ParseDuration(string(b))
	*d = Duration(v)
	return err
}

// Percent is the part of the machines that may update so long after
// publication, 0 to 100.
func (w Wave) Percent(since time.Duration) int {
	if len(w) == 0 {
		return 100
	}
	percent := 0
	for _, s := range w {
		if since >= time.Duration(s.After) {
			percent = max(percent, s.Percent)
		}
	}
	return percent
}

func (w Wave) check() error {
	for i, s := range w {
		if s.Percent < 0 || s.Percent > 100 || s.After < 0 {
			return fmt.Errorf("wave: step %d: %d percent after %v, want 0 to 100 and a time that is not negative", i+1, s.Percent, time.Duration(s.After))
		}
	}
	return nil
}

// Target is the name of a release's file in the repository.
func Target(version, name string) string { return path.Join(version, name) }

// ChannelTarget is the name of a channel's file in the repository.
func ChannelTarget(channel string) string { return path.Join(ChannelDir, channel+".json") }

var (
	versionPattern = regexp.MustCompile(`^[0-9]+(\.[0-9]+)*(-[a-z0-9.]+)?$`)
	channelPattern = regexp.MustCompile(`^[a-z][a-z0-9-]{0,31}$`)
	hashPattern    = regexp.MustCompile(`^[0-9a-f]{64}$`)
)

// CheckVersion fails when the text is no version of a release.
func CheckVersion(version string) error {
	if !versionPattern.MatchString(version) || len(version) > 64 {
		return fmt.Errorf("version %q: want numbers with dots, such as 1.2.0", version)
	}
	return nil
}

// CheckChannel fails when the text is no name of a channel.
func CheckChannel(channel string) error {
	if !channelPattern.MatchString(channel) {
		return fmt.Errorf("channel %q: want small letters, digits and -, such as stable", channel)
	}
	return nil
}

// ParseChannel reads the content of a channel's target.
func ParseChannel(b []byte) (*Channel, error) {
	c := &Channel{}
	if err := strict(b, c); err != nil {
		return nil, fmt.Errorf("parse channel: %w", err)
	}
	if err := errors.Join(CheckVersion(c.Version), checkHash(c.RootHash), c.Wave.check()); err != nil {
		return nil, fmt.Errorf("parse channel: %w", err)
	}
	return c, nil
}

// ParseInfo reads the custom field of an index's target.
func ParseInfo(b []byte) (*Info, error) {
	i := &Info{}
	if err := strict(b, i); err != nil {
		return nil, fmt.Errorf("parse release: %w", err)
	}
	err := errors.Join(CheckVersion(i.Version), checkHash(i.RootHash), i.Wave.check())
	if i.MinVersion != "" {
		err = errors.Join(err, CheckVersion(i.MinVersion))
	}
	if i.DataBlocks < 1 || i.DataBlocks > MaxDataBlocks || i.Sizes.UKI < 0 || i.Sizes.UKI > MaxUKISize || i.Sizes.Index < 0 || i.Sizes.Index > MaxIndexSize {
		err = errors.Join(err, fmt.Errorf("%d blocks, a UKI of %d bytes, an index of %d: not possible", i.DataBlocks, i.Sizes.UKI, i.Sizes.Index))
	}
	if err != nil {
		return nil, fmt.Errorf("parse release: %w", err)
	}
	return i, nil
}

func checkHash(s string) error {
	if !hashPattern.MatchString(s) {
		return fmt.Errorf("root hash %q: want 64 hex digits", s)
	}
	return nil
}

// strict decodes one JSON value. Keys that it does not know are of later
// publishers and do not matter.
func strict(b []byte, v any) error {
	d := json.NewDecoder(bytes.NewReader(b))
	if err := d.Decode(v); err != nil {
		return err
	}
	if _, err := d.Token(); err != io.EOF {
		return errors.New("more than one value")
	}
	return nil
}
