// Package ext4 makes the ext4 file systems of an image, oem and state, with
// e2fsprogs: small, reproducible, without root rights, and ready to be
// enlarged to terabytes while mounted, which stage 1 does on first boot.
//
// e2fsprogs (1.47 or later) is run rather than a Go writer because no kept
// library writes ext4 with checksums and reserved descriptor blocks, and
// because these file systems live for years on machines. Everything that
// mke2fs takes from the host is given: UUIDs, times, features, and a
// configuration of its own in place of /etc/mke2fs.conf.
//
// Left out on purpose: encryption, quotas, and growing, which is the kernel's.
package ext4

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"
	"time"

	"github.com/coracle-os/coracle/image/tree"
)

// Options are what a file system says.
type Options struct {
	Label    string // up to 16 bytes
	UUID     string
	HashSeed string    // a UUID; of the directory hash
	Time     time.Time // of everything in it
	Growable bool      // reserve room to grow to 8 TiB without moving blocks
	// Content are the directories, regular files and symbolic links in it;
	// the zero Tree for none.
	Content tree.Tree
}

const (
	blockSize = 4096
	// MinSize is the least size of a file system in bytes.
	MinSize = 16 << 20

	features = "none,has_journal,ext_attr,resize_inode,dir_index,filetype,extent,64bit,flex_bg," +
		"metadata_csum,metadata_csum_seed,large_dir,sparse_super,large_file,huge_file,dir_nlink,extra_isize"
)

// config stands in for the host's mke2fs.conf. Options on the command line
// say the rest.
const config = `[defaults]
	base_features = none
	default_mntopts = acl,user_xattr
	enable_periodic_fsck = 0
	blocksize = 4096
	inode_size = 256
	inode_ratio = 16384
[fs_types]
	ext3 = {
	}
	floppy = {
	}
	small = {
	}
	default = {
	}
	big = {
	}
	huge = {
	}
`

// Run runs a program with these variables added to an environment that has
// PATH, and returns what it wrote to its standard error.
type Run func(ctx context.Context, env []string, name string, args ...string) (stderr []byte, err error)

// Exec is the Run of real programs. An error ends with the program's own
// words; a program that is not there is named with the package that has it.
func Exec(ctx context.Context, env []string, name string, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	// Debian has these programs in sbin, which is not in every user's PATH.
	cmd.Env = append([]string{"PATH=" + os.Getenv("PATH") + ":/usr/sbin:/sbin", "LC_ALL=C"}, env...)
	if found, err := exec.LookPath(name); err == nil {
		cmd.Path, cmd.Err = found, nil
	} else if found := filepath.Join("/usr/sbin", name); fileExists(found) {
		cmd.Path, cmd.Err = found, nil
	}
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	if err := cmd.Run(); err != nil {
		if cmd.Err != nil {
			return nil, fmt.Errorf("run %s: %w; install e2fsprogs", name, err)
		}
		return stderr.Bytes(), fmt.Errorf("run %s: %w: %s", name, err, bytes.TrimSpace(stderr.Bytes()))
	}
	return stderr.Bytes(), nil
}

func fileExists(name string) bool {
	_, err := os.Stat(name)
	return err == nil
}

// Write makes image a sparse file of size bytes with the file system. What it
// held before is lost. Intermediate files go to scratch, a directory. The same
// options, size and e2fsprogs give the same bytes.
func Write(ctx context.Context, run Run, image string, size int64, scratch string, o Options) error {
	if err := write(ctx, run, image, size, scratch, o); err != nil {
		return fmt.Errorf("write ext4 file system %q: %w", o.Label, err)
	}
	return nil
}

func write(ctx context.Context, run Run, image string, size int64, scratch string, o Options) error {
	if size < MinSize || size%blockSize != 0 {
		return fmt.Errorf("size %d: want a multiple of %d, %d MiB at least", size, blockSize, MinSize>>20)
	}
	if len(o.Label) > 16 {
		return fmt.Errorf("label is longer than 16 bytes")
	}
	dir, err := os.MkdirTemp(scratch, "ext4-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if err := makeSparse(image, size); err != nil {
		return err
	}
	configFile := filepath.Join(dir, "mke2fs.conf")
	if err := os.WriteFile(configFile, []byte(config), 0o600); err != nil {
		return err
	}
	seconds := fmt.Sprint(o.Time.Unix())
	env := []string{"MKE2FS_CONFIG=" + configFile, "E2FSPROGS_FAKE_TIME=" + seconds, "SOURCE_DATE_EPOCH=" + seconds}
	if _, err := run(ctx, env, "mke2fs", arguments(image, size, o)...); err != nil {
		return err
	}
	if o.Content.Len() == 0 {
		return nil
	}
	return fill(ctx, run, env, image, dir, o)
}

func makeSparse(name string, size int64) error {
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	defer f.Close()
	return f.Truncate(size)
}

// arguments are those of mke2fs.
func arguments(image string, size int64, o Options) []string {
	// assume_storage_prezeroed: a new sparse file is zero, so neither mke2fs
	// nor, on first boot, the kernel writes the inode tables.
	extended := "nodiscard,assume_storage_prezeroed=1,root_owner=0:0,hash_seed=" + o.HashSeed
	if o.Growable {
		extended += ",resize=4294967295"
	}
	journal := min(max(size>>23, 4), 64) // MiB: an eighth of the file system
	return []string{
		"-q", "-F", "-b", fmt.Sprint(blockSize), "-i", "16384", "-I", "256", "-m", "0",
		"-J", fmt.Sprintf("size=%d", journal), "-L", o.Label, "-U", o.UUID,
		"-O", features, "-E", extended, image,
	}
}

// fill puts the content in with debugfs, which, unlike mke2fs -d, takes owners
// and the order of files from its script and not from the host's disk.
func fill(ctx context.Context, run Run, env []string, image, dir string, o Options) error {
	var script strings.Builder
	n := 0
	for e := range o.Content.All() {
		if strings.ContainsAny(e.Path+e.Target, "\"\n\\") {
			return fmt.Errorf("path %q: quotes, backslashes and line feeds cannot be written", e.Path)
		}
		n++
		staged := filepath.Join(dir, fmt.Sprint(n))
		if err := stage(staged, e); err != nil {
			return err
		}
		writeCommands(&script, e, staged, o.Time.Unix())
	}
	commands := filepath.Join(dir, "commands")
	if err := os.WriteFile(commands, []byte(script.String()), 0o600); err != nil {
		return err
	}
	stderr, err := run(ctx, env, "debugfs", "-w", "-f", commands, image)
	if err != nil {
		return err
	}
	// debugfs says its version there, and each failure; its exit code is 0.
	for line := range strings.Lines(string(stderr)) {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "debugfs 1.") {
			return fmt.Errorf("put content in: debugfs: %s", line)
		}
	}
	return nil
}

// stage writes the content of a regular file to a file of the host.
func stage(name string, e tree.Entry) error {
	if !e.Mode.IsRegular() {
		return nil
	}
	r, err := e.Open()
	if err != nil {
		return fmt.Errorf("open %q: %w", e.Path, err)
	}
	defer r.Close()
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	n, err := io.Copy(f, r)
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	if err == nil && n != e.Size {
		err = fmt.Errorf("source has %d bytes, the tree says %d", n, e.Size)
	}
	if err != nil {
		return fmt.Errorf("copy %q: %w", e.Path, err)
	}
	return nil
}

// writeCommands writes the debugfs commands that make e.
func writeCommands(w *strings.Builder, e tree.Entry, staged string, seconds int64) {
	name := "/" + strings.TrimPrefix(e.Path, ".")
	mode := e.Mode.Perm()
	if e.Path != "." {
		fmt.Fprintf(w, "cd \"%s\"\n", path.Dir(name))
	}
	var kind fs.FileMode
	switch {
	case e.Mode.IsDir():
		kind = 0o040000
		if e.Path != "." {
			fmt.Fprintf(w, "mkdir \"%s\"\n", path.Base(name))
		}
	case e.Mode.Type() == fs.ModeSymlink:
		kind = 0o120000
		fmt.Fprintf(w, "symlink \"%s\" \"%s\"\n", path.Base(name), e.Target)
	default:
		kind = 0o100000
		fmt.Fprintf(w, "write \"%s\" \"%s\"\n", staged, path.Base(name))
	}
	for i, bit := range []fs.FileMode{fs.ModeSticky, fs.ModeSetgid, fs.ModeSetuid} {
		if e.Mode&bit != 0 {
			mode |= 0o1000 << i
		}
	}
	fmt.Fprintf(w, "sif \"%s\" mode 0%o\n", name, uint32(kind|mode))
	fmt.Fprintf(w, "sif \"%s\" uid %d\nsif \"%s\" gid %d\n", name, e.UID, name, e.GID)
	for _, field := range []string{"atime", "mtime", "ctime", "crtime"} {
		fmt.Fprintf(w, "sif \"%s\" %s @%d\nsif \"%s\" %s_extra 0\n", name, field, seconds, name, field)
	}
}
