package apply

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

const scriptUnit = `[Unit]
Description=Unit generated and executed by coreos-cloudinit on behalf of user

[Service]
ExecStart=/bin/bash %s
`

// fallbackWorkspace is used when the workspace can not be written: a script
// must run on a machine with a full disk, it may be what makes room.
const fallbackWorkspace = "/run/coreos-cloudinit"

// script stores a script and starts it as a unit. The name is of the script's
// digest, so that every boot uses the same one and nothing piles up.
func (e *Executor) script(ctx context.Context, content []byte) error {
	digest := sha256.Sum256(content)
	id := hex.EncodeToString(digest[:6])
	path, err := e.storeScript(e.Workspace, id, content)
	if err != nil {
		var again error
		if path, again = e.storeScript(fallbackWorkspace, id, content); again != nil {
			return errors.Join(err, again)
		}
	}
	unit := "coreos-cloudinit-" + id + ".service"
	_, unitErr := e.put(file{
		path:    "/run/systemd/system/" + unit,
		content: fmt.Appendf(nil, scriptUnit, strings.ReplaceAll(path, "%", "%%")),
		mode:    0o644,
	})
	if unitErr != nil {
		return errors.Join(err, unitErr)
	}
	if reloadErr := e.Machine.Reload(ctx); reloadErr != nil {
		return errors.Join(err, fmt.Errorf("reload unit files: %w", reloadErr))
	}
	e.unitsChanged = false
	if startErr := e.Machine.Start(ctx, unit); startErr != nil {
		return errors.Join(err, fmt.Errorf("start %s: %w", unit, startErr))
	}
	return err
}

// storeScript writes the script and removes those of earlier boots.
func (e *Executor) storeScript(workspace, id string, content []byte) (path string, err error) {
	dir := filepath.Join(workspace, "scripts")
	path = filepath.Join(dir, id)
	if e.scripts == nil {
		e.scripts = map[string]bool{}
	}
	e.scripts[id] = true
	if _, err := e.put(file{path: path, content: content, mode: 0o744}); err != nil {
		return "", err
	}
	name := filepath.Join(dir, "unit-name")
	if _, err := e.put(file{path: name, content: []byte("coreos-cloudinit-" + id + ".service"), mode: 0o644}); err != nil {
		return "", err
	}
	entries, err := os.ReadDir(filepath.Join(e.Root, dir))
	if err != nil {
		return "", err
	}
	for _, entry := range entries {
		if !e.scripts[entry.Name()] && entry.Name() != "unit-name" {
			os.Remove(filepath.Join(e.Root, dir, entry.Name()))
		}
	}
	return path, nil
}
