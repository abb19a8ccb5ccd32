package systemctl

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/coracle-os/coracle/rootfs/control"
)

// showEnvironment prints the variables that PID 1 gives to every command.
func (t *tool) showEnvironment() error {
	r, err := t.collect(control.Request{Verb: control.Show})
	if err != nil || len(r.Units) != 1 {
		return err
	}
	list := strings.Split(r.Units[0].Properties["Environment"], "\n")
	slices.Sort(list)
	for _, e := range list {
		fmt.Fprintln(t.Out, e)
	}
	return nil
}

func (t *tool) setEnvironment(v control.Verb) error {
	if _, err := t.collect(control.Request{Verb: v, Units: t.args}); err != nil {
		return fmt.Errorf("Failed to set environment: %w", err)
	}
	return nil
}

// importEnvironment sets the named variables, of this program's own.
func (t *tool) importEnvironment() error {
	if len(t.args) == 0 {
		return errors.New("import-environment: name the variables to import")
	}
	var list []string
	for _, n := range t.args {
		if v, ok := os.LookupEnv(n); ok {
			list = append(list, n+"="+v)
		}
	}
	t.args = list
	return t.setEnvironment(control.SetEnvironment)
}
