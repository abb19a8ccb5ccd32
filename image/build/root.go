package build

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"

	"github.com/coracle-os/coracle/image/debian"
	"github.com/coracle-os/coracle/image/erofs"
	"github.com/coracle-os/coracle/image/manifest"
	"github.com/coracle-os/coracle/image/step"
	"github.com/coracle-os/coracle/image/tree"
	"github.com/coracle-os/coracle/image/verity"
)

// rootResult is the result of the step root.
type rootResult struct {
	dir    string
	image  string // file with the EROFS image
	hashes string // file with the hash tree
	info   rootInfo
}

// rootInfo is kept beside the image in the store.
type rootInfo struct {
	RootHash string // lower case hex
	Size     manifest.RootSize
	Packages []debian.Package // that have files in the root
}

// rootTime is the time of all files of the root, in seconds since 1970. It is
// the same in every release; 0 would read as "unknown" to some programs.
const rootTime = 1

// root composes the root tree and writes it and its hash tree.
func (b *builder) root(ctx context.Context, packages *packageSet, kernel *kernelResult, programs []program, bios string) (*rootResult, error) {
	key, err := b.rootKey(packages, kernel, programs)
	if err != nil {
		return nil, err
	}
	key.Add(filepath.Base(bios))
	dir, err := b.store.Run(ctx, "root", key, func(ctx context.Context, dir string) error {
		c := &composer{builder: b, packages: packages, bios: bios}
		files, err := c.compose(ctx, kernel, programs)
		if err != nil {
			return err
		}
		info := rootInfo{Packages: c.used}
		info.Size.FileBytes = files.Size()
		for entry := range files.All() {
			if entry.Mode.IsRegular() {
				info.Size.Files++
			}
		}
		if info.RootHash, info.Size.ImageBytes, err = writeRoot(dir, files); err != nil {
			return err
		}
		if limit := int64(b.Recipe.Partitions.Root); info.Size.ImageBytes > limit {
			return fmt.Errorf("the root has %d bytes and its partition %d; set partitions.root in the recipe to at least %d MiB",
				info.Size.ImageBytes, limit, (info.Size.ImageBytes+1<<20-1)>>20)
		}
		if err := writeListing(filepath.Join(dir, "files.txt"), files); err != nil {
			return err
		}
		return writeJSON(filepath.Join(dir, "info.json"), info)
	})
	if err != nil {
		return nil, err
	}
	result := &rootResult{dir: dir, image: filepath.Join(dir, "root.erofs"), hashes: filepath.Join(dir, "root.verity")}
	return result, readJSON(filepath.Join(dir, "info.json"), &result.info)
}

// rootKey is the digest of all that goes into the root.
func (b *builder) rootKey(packages *packageSet, kernel *kernelResult, programs []program) (*step.Key, error) {
	key := b.key("root", string(b.RecipeText), filepath.Base(kernel.dir))
	key.Add(packages.lock.Boot.SHA256, b.sign.id)
	for _, p := range packages.lock.Root {
		key.Add(id(p), p.SHA256)
	}
	for _, p := range programs {
		if !p.initrd {
			key.Add(p.path, p.sha256)
		}
	}
	for _, base := range b.Recipe.Base {
		files, err := tree.FromDir(filepath.Join(b.Source, base))
		if err != nil {
			return nil, fmt.Errorf("root: %w", err)
		}
		digest, err := files.Digest()
		if err != nil {
			return nil, fmt.Errorf("root: %w", err)
		}
		key.Add(base, digest)
	}
	for _, source := range b.sources() {
		digest, err := fileDigest(filepath.Join(b.RecipeDir, source))
		if err != nil {
			return nil, fmt.Errorf("root: %w; is source right in the recipe?", err)
		}
		key.Add(source, digest)
	}
	return key, nil
}

// sources are the files beside the recipe that it uses.
func (b *builder) sources() []string {
	var result []string
	for _, f := range b.Recipe.Files {
		if f.Source != "" {
			result = append(result, f.Source)
		}
	}
	for _, u := range b.Recipe.Units {
		if u.Source != "" {
			result = append(result, u.Source)
		}
	}
	return result
}

// writeRoot writes root.erofs and root.verity into dir.
func writeRoot(dir string, files tree.Tree) (rootHash string, size int64, err error) {
	digest, err := files.Digest()
	if err != nil {
		return "", 0, err
	}
	image, err := os.Create(filepath.Join(dir, "root.erofs"))
	if err != nil {
		return "", 0, err
	}
	defer image.Close()
	size, err = erofs.Write(image, files, erofs.Options{UUID: uuidOf("root " + digest), Time: rootTime})
	if err != nil {
		return "", 0, err
	}
	hashes, err := os.Create(filepath.Join(dir, "root.verity"))
	if err != nil {
		return "", 0, err
	}
	defer hashes.Close()
	hash, err := verity.Format(image, size, hashes, verity.Superblock{UUID: uuidOf("verity " + digest), Salt: verity.Salt()})
	if err != nil {
		return "", 0, err
	}
	if err := hashes.Close(); err != nil {
		return "", 0, err
	}
	return hex.EncodeToString(hash), size, image.Close()
}

// uuidOf derives a UUID (version 8, RFC 9562) from a text.
func uuidOf(text string) (uuid [16]byte) {
	sum := sha256.Sum256([]byte("coracle " + text))
	copy(uuid[:], sum[:])
	uuid[6] = uuid[6]&0x0f | 0x80
	uuid[8] = uuid[8]&0x3f | 0x80
	return uuid
}

// writeListing writes one line for each entry of the root, for people.
func writeListing(name string, files tree.Tree) error {
	out, err := os.Create(name)
	if err != nil {
		return err
	}
	defer out.Close()
	for entry := range files.All() {
		suffix := ""
		if entry.Target != "" {
			suffix = " -> " + entry.Target
		}
		if _, err := fmt.Fprintf(out, "%v %d:%d %9d %s%s\n", entry.Mode, entry.UID, entry.GID, entry.Size, entry.Path, suffix); err != nil {
			return err
		}
	}
	return out.Close()
}
