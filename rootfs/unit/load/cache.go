package load

import (
	"github.com/coracle-os/coracle/rootfs/unit"
	"github.com/coracle-os/coracle/rootfs/unit/files"
)

// Cache is a Loader that remembers where the files are. It is used by one
// goroutine.
type Cache struct {
	loader *Loader
	index  *files.Index
}

// NewCache looks at the load path for the first time.
func NewCache(l *Loader) (*Cache, error) {
	index, err := l.Scan()
	if err != nil {
		return nil, err
	}
	return &Cache{loader: l, index: index}, nil
}

// Load reads a unit; see Loader.Load.
func (c *Cache) Load(name string) *unit.Unit { return c.loader.Load(c.index, name) }

// Files returns what the last look found.
func (c *Cache) Files() *files.Index { return c.index }

// Refresh looks at the load path again and tells if names have come or gone,
// or lead elsewhere. When it cannot be read, what was known stays. Modification
// times are not trusted: they are too coarse for scripts that write a unit and
// start it.
func (c *Cache) Refresh() (changed bool) {
	index, err := c.loader.Scan()
	if err != nil {
		return false
	}
	old := c.index
	c.index = index
	return !old.Equal(index)
}
