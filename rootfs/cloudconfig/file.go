package cloudconfig

import (
	"fmt"
	"io"
	"os"
)

// ReadFile reads a document of at most a byte more than MaxSize, so that one that
// is too large is told as such; "-" is stdin.
func ReadFile(name string, stdin io.Reader) ([]byte, error) {
	r := stdin
	if name != "-" {
		f, err := os.Open(name)
		if err != nil {
			return nil, fmt.Errorf("read user-data: %w", err)
		}
		defer f.Close()
		r = f
	}
	data, err := io.ReadAll(io.LimitReader(r, MaxSize+1))
	if err != nil {
		return nil, fmt.Errorf("read user-data: %w", err)
	}
	return data, nil
}
