package live_test

import (
	"bytes"
	"encoding/hex"
	"io"
	"os"
	"strings"
	"testing"

	"github.com/coracle-os/coracle/image/live"
	"github.com/coracle-os/coracle/image/live/livetest"
	"github.com/coracle-os/coracle/image/livename"
	"github.com/coracle-os/coracle/image/verity"
)

func TestOpen(t *testing.T) {
	raw, size := livetest.Image(t)
	p, err := live.Open(raw, size)
	if err != nil {
		t.Fatal(err)
	}
	loader, err := os.ReadFile(livetest.Loader)
	if err != nil {
		t.Fatal(err)
	}
	if p.Version != "1.2.3" || !bytes.HasPrefix(p.Kernel, []byte("linuxlinux")) || string(p.Initrd) != "the initrd" || !bytes.Equal(p.Loader, loader) {
		t.Errorf("version %q, kernel %.10q, initrd %q, loader of %d bytes", p.Version, p.Kernel, p.Initrd, len(p.Loader))
	}
	hash, err := hex.DecodeString(p.RootHash)
	if err == nil {
		err = verity.Verify(p.Root, p.Root.Size(), p.Hashes, hash)
	}
	if err != nil {
		t.Errorf("root and hash tree: %v", err)
	}
	for kind, want := range map[string]string{
		livename.Memory: "roothash=" + p.RootHash + " quiet coracle.live=memory rootfstype=ramfs",
		livename.Medium: "roothash=" + p.RootHash + " quiet coracle.live=medium",
	} {
		if got := p.Arguments(kind); got != want {
			t.Errorf("%s: %q, want %q", kind, got, want)
		}
	}
}

func TestNoImage(t *testing.T) {
	raw, size := livetest.Image(t)
	if _, err := live.Open(io.NewSectionReader(raw, 0, size/2), size/2); err == nil {
		t.Error("half an image: no error")
	}
	if _, err := live.Open(strings.NewReader("text"), 4); err == nil {
		t.Error("text: no error")
	}
}
