package systemctl

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"golang.org/x/term"

	"github.com/coracle-os/coracle/rootfs/install"
)

func (t *tool) link() error {
	for _, a := range t.args {
		if !strings.Contains(a, "/") {
			return fmt.Errorf("Link argument must contain at least one directory separator.\nIf you intended to link a file in the current directory, try ./%s instead.", a)
		}
	}
	return t.change("link unit", (*install.Installer).Link)
}

func (t *tool) revert() error { return t.change("revert unit", (*install.Installer).Revert) }

func (t *tool) addWants() error    { return t.addDependency(".wants") }
func (t *tool) addRequires() error { return t.addDependency(".requires") }

// addDependency lets the unit that is named first want or require the others.
func (t *tool) addDependency(suffix string) error {
	target := t.unitName(t.args[0], "target")
	t.args = t.args[1:]
	return t.change("add dependency", func(i *install.Installer, names []string, o install.Options) (install.Plan, error) {
		return i.AddDependency(target, names, suffix, o)
	})
}

// The lines around what is to be edited, as systemd writes them.
const (
	editAbove = "### Anything between here and the comment below will become the contents of the drop-in file"
	editBelow = "### Edits below this comment will be discarded"
)

// edit lets the user edit a drop-in of each unit, or with --full its file.
func (t *tool) edit() error {
	in, ok := t.In.(*os.File)
	if !ok || !term.IsTerminal(int(in.Fd())) {
		return errors.New("Cannot edit units if not on a tty.")
	}
	for _, n := range t.fileNames(t.args) {
		if err := t.editOne(n); err != nil {
			return fmt.Errorf("Failed to edit %s: %w", n, err)
		}
	}
	return t.reloadAfter()
}

func (t *tool) editOne(n string) error {
	i, err := t.installer()
	if err != nil {
		return err
	}
	found, exists := i.Index.Lookup(n)
	if !exists && !t.o.force {
		return fmt.Errorf("no files found for %s: run \"systemctl edit --force --full %s\" to create a new unit", n, n)
	}
	fragment := ""
	if exists {
		b, err := fs.ReadFile(os.DirFS(t.Root), found.Path)
		if err != nil {
			return err
		}
		fragment = string(b)
	}
	dir := "/etc/systemd/system"
	if t.o.runtime {
		dir = "/run/systemd/system"
	}
	to := filepath.Join(t.Root, dir, n+".d", "override.conf")
	if t.o.full {
		to = filepath.Join(t.Root, dir, n)
	}
	text, err := t.editText(to, fragment)
	if err != nil {
		return err
	}
	if strings.TrimSpace(text) == "" {
		fmt.Fprintf(t.Err, "Editing %q canceled: the text is empty.\n", to)
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return err
	}
	return replace(to, text)
}

// editText runs the editor over what the file is to be and returns the result.
func (t *tool) editText(to, fragment string) (string, error) {
	text := fragment
	if !t.o.full {
		now, _ := os.ReadFile(to)
		text = fmt.Sprintf("### Editing %s\n%s\n\n%s\n%s\n\n", to, editAbove, now, editBelow)
		for line := range strings.Lines(fragment) {
			text += "# " + line
		}
	}
	f, err := os.CreateTemp("", "systemctl-edit-*.conf")
	if err != nil {
		return "", err
	}
	defer os.Remove(f.Name())
	_, err = f.WriteString(text)
	if err := errors.Join(err, f.Close()); err != nil {
		return "", err
	}
	editor, err := findEditor()
	if err != nil {
		return "", err
	}
	cmd := exec.CommandContext(t.ctx, editor[0], append(editor[1:], f.Name())...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = t.In, t.Out, t.Err
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("run the editor: %w", err)
	}
	b, err := os.ReadFile(f.Name())
	if t.o.full {
		return string(b), err
	}
	return edited(string(b)), err
}

// edited returns what stands between the two comments.
func edited(text string) string {
	if _, after, ok := strings.Cut(text, editAbove+"\n"); ok {
		text = after
	}
	text, _, _ = strings.Cut(text, editBelow)
	text = strings.Trim(text, "\n")
	if text != "" {
		text += "\n"
	}
	return text
}

// findEditor returns the user's editor as words, or one that is there.
func findEditor() ([]string, error) {
	for _, variable := range []string{"SYSTEMD_EDITOR", "EDITOR", "VISUAL"} {
		if words := strings.Fields(os.Getenv(variable)); len(words) > 0 {
			return words, nil
		}
	}
	for _, program := range []string{"editor", "nano", "vim", "vi"} {
		if _, err := exec.LookPath(program); err == nil {
			return []string{program}, nil
		}
	}
	return nil, errors.New("there is no editor here: set $EDITOR to one, or write the file yourself and run systemctl daemon-reload")
}
