package mirror

import (
	"github.com/coracle-os/coracle/agents/fleet"
	"github.com/coracle-os/coracle/agents/fleet/unitfile"
)

// content is a unit's text, parsed once for all units that have it.
type content struct {
	raw  string
	file unitfile.File
}

func parseContent(raw string) (*content, error) {
	file, err := unitfile.Parse([]byte(raw))
	if err != nil {
		return nil, err
	}
	return &content{raw, file}, nil
}

// requirements are those of a unit of this name. A bad value, which no API lets
// in, counts as not given.
func (c *content) requirements(name string) fleet.Requirements {
	r, _, _ := c.file.Requirements(name)
	return r
}
