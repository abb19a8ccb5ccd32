// Package manifest says what an image was made of: the file manifest.json that
// the builder writes beside an image, for people and programs that compare
// releases, and the same as an SPDX document.
//
// A manifest has no time and no name of the machine that built: the same inputs
// give the same text.
package manifest

import (
	"bytes"
	"encoding/json"
	"fmt"
)

// Manifest is every input and every result of a build.
type Manifest struct {
	Version  string    `json:"version"`
	Channel  string    `json:"channel"`
	RootHash string    `json:"rootHash"` // dm-verity, lower case hex
	Kernel   string    `json:"kernel"`   // as uname -r says
	Cmdline  string    `json:"cmdline"`
	Recipe   string    `json:"recipe"` // SHA-256 of the recipe's text
	Go       string    `json:"go"`     // what go version said
	Root     RootSize  `json:"root"`
	Results  []Result  `json:"results"`
	Packages []Package `json:"packages"` // Debian packages with files in the image
	Programs []Program `json:"programs"` // built from source
}

// RootSize is how large the root is.
type RootSize struct {
	Files      int   `json:"files"`      // number of regular files
	FileBytes  int64 `json:"fileBytes"`  // sum of their sizes
	ImageBytes int64 `json:"imageBytes"` // of the EROFS image
}

// Result is one file that the build made.
type Result struct {
	Name   string `json:"name"`
	Size   int64  `json:"size"` // bytes; of a sparse file, with the holes
	SHA256 string `json:"sha256"`
}

// Package is a Debian package.
type Package struct {
	Name         string `json:"name"`
	Version      string `json:"version"`
	Architecture string `json:"architecture"`
	Suite        string `json:"suite"`
	Source       string `json:"source"`
	SHA256       string `json:"sha256"` // of the .deb file
}

// Program is a Go program and the modules in it.
type Program struct {
	Name    string   `json:"name"`
	Path    string   `json:"path"` // in the image
	Size    int64    `json:"size"` // bytes
	SHA256  string   `json:"sha256"`
	Modules []Module `json:"modules"`
}

// Module is a Go module.
type Module struct {
	Path    string `json:"path"`
	Version string `json:"version"`
	Sum     string `json:"sum,omitempty"` // h1: digest, as in go.sum
}

// JSON is the manifest as indented JSON with a last newline.
func (m Manifest) JSON() ([]byte, error) {
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	if err := encoder.Encode(m); err != nil {
		return nil, fmt.Errorf("write manifest: %w", err)
	}
	return b.Bytes(), nil
}
