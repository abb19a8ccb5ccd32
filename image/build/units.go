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

// missingPrograms returns a sentence for each program that a unit of the root
// starts and the root does not have. It looks at absolute paths without
// specifiers; what is in /var or /run is only there on a running machine.
func missingPrograms(root tree.Tree) ([]string, error) {
	var result []string
	for entry := range root.All() {
		if path.Dir(entry.Path) != unitDir || !entry.Mode.IsRegular() {
			continue
		}
		text, err := entry.ReadFile()
		if err != nil {
			return nil, err
		}
		for line := range strings.Lines(string(text)) {
			key, value, _ := strings.Cut(strings.TrimSpace(line), "=")
			words := strings.Fields(value)
			if !strings.HasPrefix(key, "Exec") || len(words) == 0 {
				continue
			}
			program := strings.TrimPrefix(strings.TrimLeft(words[0], "-@:+!"), "/")
			if strings.Contains(program, "%") || strings.HasPrefix(program, "var/") || strings.HasPrefix(program, "run/") {
				continue
			}
			target, err := root.Resolve(program)
			if err != nil || !root.Has(target) {
				result = append(result, fmt.Sprintf("%s starts /%s, which the root does not have", path.Base(entry.Path), program))
			}
		}
	}
	return result, nil
}
