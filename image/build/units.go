package build

import (
	"fmt"
	"path"
	"strings"

	"github.com/coracle-os/coracle/image/tree"
)

// unitDir is where units of the image are.
const unitDir = "usr/lib/systemd/system"

// addUnits adds the recipe's units and enables those that it wants enabled.
func (c *composer) addUnits(root tree.Tree) (tree.Tree, error) {
	for _, u := range c.Recipe.Units {
		name := path.Join(unitDir, u.Name)
		if u.Content != "" || u.Source != "" {
			entry, err := c.content(u.Content, u.Source)
			if err != nil {
				return tree.Tree{}, fmt.Errorf("units: %s: %w", u.Name, err)
			}
			entry.Path = name
			if root, err = overlay(root, []tree.Entry{entry}); err != nil {
				return tree.Tree{}, fmt.Errorf("units: %s: %w", u.Name, err)
			}
		}
		if !u.Enable {
			continue
		}
		entry, ok := root.Lookup(name)
		if !ok {
			return tree.Tree{}, fmt.Errorf("units: %s: there is no such unit to enable", u.Name)
		}
		text, err := entry.ReadFile()
		if err != nil {
			return tree.Tree{}, err
		}
		links := installLinks(u.Name, string(text))
		if len(links) == 0 {
			return tree.Tree{}, fmt.Errorf("units: %s: the unit cannot be enabled, its [Install] section names nothing", u.Name)
		}
		if root, err = overlay(root, links); err != nil {
			return tree.Tree{}, fmt.Errorf("units: %s: %w", u.Name, err)
		}
	}
	return root, nil
}

// installLinks returns the links that enable a unit: those of the keys WantedBy,
// RequiredBy and Alias of its [Install] section (systemd.unit(5)).
func installLinks(name, text string) []tree.Entry {
	var links []tree.Entry
	section := ""
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, "[") {
			section = line
			continue
		}
		key, value, ok := strings.Cut(line, "=")
		if section != "[Install]" || !ok {
			continue
		}
		for _, target := range strings.Fields(value) {
			switch strings.TrimSpace(key) {
			case "WantedBy":
				links = append(links, tree.Symlink(path.Join(unitDir, target+".wants", name), "../"+name))
			case "RequiredBy":
				links = append(links, tree.Symlink(path.Join(unitDir, target+".requires", name), "../"+name))
			case "Alias":
				links = append(links, tree.Symlink(path.Join(unitDir, target), name))
			}
		}
	}
	return links
}
