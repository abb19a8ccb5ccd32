package check

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// Broken is a file that cannot be read as checks.
type Broken struct {
	Path   string
	SHA256 string // of its content, hexadecimal
	Err    error
}

type file struct {
	Deadline time.Duration `yaml:"deadline"`
	Checks   []Check       `yaml:"checks"`
}

// Parse reads one file. The error names it and the line of each fault.
func Parse(name string, data []byte) ([]Check, error) {
	var f file
	dec := yaml.NewDecoder(bytes.NewReader(data))
	dec.KnownFields(true)
	switch err := dec.Decode(&f); {
	case errors.Is(err, io.EOF): // empty, or only comments
		return nil, nil
	case err != nil:
		return nil, syntaxError(name, err)
	}
	if err := dec.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("%s: more than one YAML document; use one file for each", name)
	}
	if f.Deadline == 0 {
		f.Deadline = DefaultDeadline
	}
	if f.Deadline < time.Second || f.Deadline > MaxDeadline {
		return nil, fmt.Errorf("%s: deadline %s: use 1s to %s", name, f.Deadline, MaxDeadline)
	}
	lines := checkLines(data)
	var errs []error
	for i := range f.Checks {
		c := &f.Checks[i]
		c.Source = name
		if i < len(lines) {
			c.Source = fmt.Sprintf("%s:%d", name, lines[i])
		}
		if err := c.validate(f.Deadline); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", c.Source, err))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return f.Checks, nil
}

// yamlLine is how the library begins the message of each fault.
var yamlLine = regexp.MustCompile(`^(?:yaml: )?line ([0-9]+): `)

func syntaxError(name string, err error) error {
	faults := []string{err.Error()}
	var typed *yaml.TypeError
	if errors.As(err, &typed) {
		faults = typed.Errors
	}
	var errs []error
	for _, f := range faults {
		if m := yamlLine.FindStringSubmatch(f); m != nil {
			errs = append(errs, fmt.Errorf("%s:%s: %s", name, m[1], strings.TrimPrefix(f, m[0])))
		} else {
			errs = append(errs, fmt.Errorf("%s: %s", name, strings.TrimPrefix(f, "yaml: ")))
		}
	}
	return errors.Join(errs...)
}

// checkLines returns the line on which each check begins.
func checkLines(data []byte) []int {
	var document struct {
		Checks []yaml.Node `yaml:"checks"`
	}
	if yaml.Unmarshal(data, &document) != nil {
		return nil
	}
	var lines []int
	for _, n := range document.Checks {
		lines = append(lines, n.Line)
	}
	return lines
}

// Load reads the *.yaml files of the directories, of which later ones win, in
// the order of their names. A directory that is not there is empty.
func Load(dirs ...string) (checks []Check, broken []Broken) {
	paths := map[string]string{}
	for _, dir := range dirs {
		entries, err := os.ReadDir(dir)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			broken = append(broken, Broken{Path: dir, Err: fmt.Errorf("read health checks: %w", err)})
		}
		for _, e := range entries {
			if filepath.Ext(e.Name()) == ".yaml" && !strings.HasPrefix(e.Name(), ".") {
				paths[e.Name()] = filepath.Join(dir, e.Name())
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(paths)) {
		data, err := readBounded(paths[name])
		var list []Check
		if err == nil {
			list, err = Parse(paths[name], data)
		}
		if err != nil {
			sum := sha256.Sum256(data)
			broken = append(broken, Broken{Path: paths[name], SHA256: hex.EncodeToString(sum[:]), Err: err})
			continue
		}
		checks = append(checks, list...)
	}
	return checks, broken
}

func readBounded(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read health checks: %w", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, MaxFile+1))
	if err != nil {
		return nil, fmt.Errorf("read health checks: %w", err)
	}
	if len(data) > MaxFile {
		return data, fmt.Errorf("read health checks: %q is larger than %d bytes", path, MaxFile)
	}
	return data, nil
}
