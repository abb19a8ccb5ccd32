package files

import (
	"fmt"
	"io/fs"
	"path"
	"strings"
)

// Chase follows every link in a path, absolute ones from the root of the file
// system. What does not exist is kept as it is, so the result may not exist.
func Chase(fsys fs.FS, p string) (string, error) {
	rest := strings.Split(path.Clean(p), "/")
	done := "."
	for links := 0; len(rest) > 0; {
		next := path.Join(done, rest[0])
		rest = rest[1:]
		target, err := readLink(fsys, next)
		if err != nil {
			done = next
			continue
		}
		if links++; links > 40 {
			return "", fmt.Errorf("follow %q: too many links", "/"+p)
		}
		done = "."
		rest = append(strings.Split(target, "/"), rest...)
	}
	return done, nil
}

// readLink returns the target of a link relative to the root of the file
// system; an error if p is no link.
func readLink(fsys fs.FS, p string) (string, error) {
	target, err := fs.ReadLink(fsys, p)
	if err != nil {
		return "", err
	}
	if !strings.HasPrefix(target, "/") {
		target = "/" + path.Join(path.Dir(p), target)
	}
	target = strings.TrimPrefix(path.Clean(target), "/")
	if target == "" {
		target = "."
	}
	return target, nil
}
