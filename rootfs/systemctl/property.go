package systemctl

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/coracle-os/coracle/rootfs/control"
	"github.com/coracle-os/coracle/rootfs/unit"
	"github.com/coracle-os/coracle/rootfs/unit/settings"
	"github.com/coracle-os/coracle/rootfs/unit/specifier"
)

// setPropertyHeader is what systemd writes above a setting.
const setPropertyHeader = "# This is a drop-in unit file extension, created via \"systemctl set-property\"\n# or an equivalent operation. Do not edit.\n"

// setProperty writes each assignment as a drop-in of its own, where systemd
// keeps them, and has PID 1 read them: what is in a control group changes at
// once. Values stay as they were typed.
func (t *tool) setProperty() error {
	n := t.unitName(t.args[0], "service")
	files := map[string]string{}
	for _, a := range t.args[1:] {
		key, text, err := assignment(n, a)
		if err != nil {
			return err
		}
		files["50-"+key+".conf"] = text
	}
	r, err := t.collect(control.Request{Verb: control.Show, Units: []string{n}})
	if err == nil && len(r.Units) == 1 && r.Units[0].Load == string(unit.NotFound) {
		err = fmt.Errorf("Unit %s not found.", n)
	}
	if err != nil {
		return fmt.Errorf("Failed to set unit properties on %s: %w", n, err)
	}
	dir := "etc/systemd/system.control"
	if t.o.runtime {
		dir = "run/systemd/system.control"
	}
	dir = filepath.Join(t.Root, dir, n+".d")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("Failed to set unit properties on %s: %w", n, err)
	}
	for file, text := range files {
		if err := replace(filepath.Join(dir, file), text); err != nil {
			return fmt.Errorf("Failed to set unit properties on %s: %w", n, err)
		}
	}
	return t.reloadAfter()
}

// assignment checks one, and returns its name and its drop-in.
func assignment(n, text string) (key, dropIn string, err error) {
	key, value, ok := strings.Cut(text, "=")
	if !ok {
		return "", "", fmt.Errorf("Not an assignment: %s", text)
	}
	if strings.ContainsAny(text, "\n\x00") {
		return "", "", errors.New("Failed to parse assignment: write it on one line")
	}
	u := settings.New(n)
	section := settings.Section(u.Kind)
	known, live := settings.Live(u, key)
	switch {
	case !known:
		return "", "", fmt.Errorf("Unknown assignment: %s", text)
	case !live:
		return "", "", fmt.Errorf("Failed to set unit properties on %s: Cannot set property %s, or unknown property.", n, key)
	case key == "Description":
		section = "Unit"
	}
	dropIn = fmt.Sprintf("%s[%s]\n%s=%s\n", setPropertyHeader, section, key, value)
	settings.Apply(u, "drop-in", []byte(dropIn), specifier.Expander{})
	if len(u.Warnings) > 0 {
		return "", "", fmt.Errorf("Failed to parse %s: %s", text, u.Warnings[0].Text)
	}
	return key, dropIn, nil
}

// replace writes a file that is whole at every moment.
func replace(path, text string) error {
	if err := os.WriteFile(path+".tmp", []byte(text), 0o644); err != nil {
		os.Remove(path + ".tmp")
		return err
	}
	return os.Rename(path+".tmp", path)
}
