package tufrepo

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/coracle-os/coracle/image/build"
	"github.com/coracle-os/coracle/image/manifest"
	"github.com/coracle-os/coracle/image/uki"
)

// ReadBuild reads the directory that coracle build wrote and checks that its
// files belong together.
func ReadBuild(dir string) (b *Build, closeRoot func() error, err error) {
	b = &Build{}
	for name, to := range map[string]*[]byte{build.UKIName: &b.UKI, build.ManifestName: &b.Manifest, build.SBOMName: &b.SBOM} {
		if *to, err = os.ReadFile(filepath.Join(dir, name)); err != nil {
			return nil, nil, fmt.Errorf("read build: %w; `coracle build -o %s` makes it", err, dir)
		}
	}
	var m manifest.Manifest
	if err := json.Unmarshal(b.Manifest, &m); err != nil {
		return nil, nil, fmt.Errorf("read build: %s: %w", build.ManifestName, err)
	}
	b.Version, b.RootHash = m.Version, m.RootHash
	sum := sha256.Sum256(b.UKI)
	if i := slices.IndexFunc(m.Results, func(r manifest.Result) bool { return r.Name == build.UKIName }); i < 0 || m.Results[i].SHA256 != hex.EncodeToString(sum[:]) {
		return nil, nil, fmt.Errorf("read build: %s is not the one that the manifest names; build again", build.UKIName)
	}
	image, err := uki.Read(bytes.NewReader(b.UKI))
	if err != nil {
		return nil, nil, fmt.Errorf("read build: %s: %w", build.UKIName, err)
	}
	cmdline, err := image.Text(".cmdline")
	if err != nil || !slices.Contains(strings.Fields(cmdline), "roothash="+m.RootHash) {
		return nil, nil, fmt.Errorf("read build: %s has the command line %q, without the manifest's root hash %s; build again", build.UKIName, cmdline, m.RootHash)
	}
	root, err := os.Open(filepath.Join(dir, build.RootName))
	if err != nil {
		return nil, nil, fmt.Errorf("read build: %w", err)
	}
	if b.RootSize, err = root.Seek(0, io.SeekEnd); err != nil {
		root.Close()
		return nil, nil, fmt.Errorf("read build: %w", err)
	}
	b.Root = root
	return b, root.Close, nil
}
