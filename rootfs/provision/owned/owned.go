// Package owned remembers the users that provisioning made, and by which
// document, so that one that leaves its document can be removed and one that
// provisioning did not make never is.
//
// A user is removed only by a later reading of the document that made it, and
// only when that reading was whole: a server that is down or a mistake in a
// document removes nobody.
package owned

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/coracle-os/coracle/rootfs/provision/plan"
)

// Path is where the users are remembered, below the root directory.
const Path = "/var/lib/coracle/provisioned-users.json"

// Users are the names of users, each with the source that made it.
type Users map[string]string

// Load reads the users. A file that is missing or damaged remembers nobody.
func Load(root string) (Users, error) {
	users := Users{}
	data, err := os.ReadFile(filepath.Join(root, Path))
	if errors.Is(err, fs.ErrNotExist) {
		return users, nil
	}
	if err == nil {
		err = json.Unmarshal(data, &users)
	}
	if err != nil {
		return Users{}, fmt.Errorf("read who was made by provisioning: %w", err)
	}
	return users, nil
}

// Save writes the users.
func (u Users) Save(root string) error {
	path := filepath.Join(root, Path)
	data, err := json.MarshalIndent(u, "", "  ")
	if err == nil {
		err = os.MkdirAll(filepath.Dir(path), 0o755)
	}
	if err == nil {
		err = os.WriteFile(path+".new", append(data, '\n'), 0o600)
	}
	if err == nil {
		err = os.Rename(path+".new", path)
	}
	if err != nil {
		return fmt.Errorf("remember who was made by provisioning: %w", err)
	}
	return nil
}

// SourceOf is the name of a source as it is remembered: without the device,
// which may have another name at the next boot.
func SourceOf(name string) string {
	before, _, _ := strings.Cut(name, " /dev/")
	return before
}

// Leaving returns the steps that remove the users of the sources that read says
// yes to and that are not named by any of the plans.
func (u Users) Leaving(read func(source string) bool, plans ...plan.Plan) (steps []plan.Step) {
	named := map[string]bool{}
	for _, p := range plans {
		for _, step := range p.Steps {
			if a, ok := step.Action.(plan.EnsureUser); ok {
				named[a.User.Name] = true
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(u)) {
		if named[name] || !read(u[name]) {
			continue
		}
		reason := "the user is no longer in " + u[name]
		steps = append(steps,
			plan.Step{Action: plan.AuthorizeKeys{User: name}, Reason: reason},
			plan.Step{Action: plan.RemoveUser{Name: name}, Reason: reason})
	}
	return steps
}
