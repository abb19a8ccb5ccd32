package fetch

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/coracle-os/coracle/image/release"
)

// Range returns a range of the release's blob for which check holds. Mirrors
// that break off are asked again from where they stopped; the bytes of one that
// fails the check are thrown away and the mirror comes last from then on.
func (c *Client) Range(ctx context.Context, r *Release, want release.Range, check func([]byte) error) ([]byte, error) {
	name := remoteName(r.blob)
	var all []error
	for _, m := range c.order() {
		b, err := c.whole(ctx, m, name, want)
		if err == nil {
			err = check(b)
			if err != nil {
				c.suspect[m.Name()] = err
				c.log.Warn("mirror gives wrong bytes", "mirror", m.Name(), "error", err)
			}
		}
		if err == nil {
			return b, nil
		}
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		all = append(all, fmt.Errorf("mirror %s: %w", m.Name(), err))
	}
	return nil, fmt.Errorf("fetch %d bytes at %d of release %s: %w", want.Length, want.Offset, r.Info.Version, errors.Join(all...))
}

// whole reads a range from one mirror, going on while there is progress.
func (c *Client) whole(ctx context.Context, m Mirror, name string, want release.Range) ([]byte, error) {
	b := make([]byte, want.Length)
	done := int64(0)
	for done < want.Length {
		n, err := c.part(ctx, m, name, b[done:], want.Offset+done)
		done += n
		if err != nil && (n == 0 || ctx.Err() != nil) {
			return nil, fmt.Errorf("after %d of %d bytes: %w", done, want.Length, err)
		}
	}
	return b, nil
}

func (c *Client) part(ctx context.Context, m Mirror, name string, b []byte, offset int64) (int64, error) {
	body, err := c.open(ctx, m, name, offset, int64(len(b)))
	if err != nil {
		return 0, err
	}
	defer body.Close()
	n, err := io.ReadFull(body, b)
	return int64(n), err
}

// order is the mirrors, those that gave wrong bytes last.
func (c *Client) order() []Mirror {
	var good, bad []Mirror
	for _, m := range c.mirrors {
		if c.suspect[m.Name()] != nil {
			bad = append(bad, m)
		} else {
			good = append(good, m)
		}
	}
	return append(good, bad...)
}
