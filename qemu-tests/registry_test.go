package qemutests

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"log"
	"net/http/httptest"
	"net/url"
	"os"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// serveRegistry serves a container registry that holds library/busybox on the
// loopback, which a guest reaches as 10.0.2.2, and returns its port.
func serveRegistry(t testing.TB) string {
	t.Helper()
	server := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	t.Cleanup(server.Close)
	address, err := url.Parse(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	ref, err := name.ParseReference(address.Host + "/library/busybox:latest")
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.Write(ref, busyboxImage(t)); err != nil {
		t.Fatal(err)
	}
	return address.Port()
}

// busyboxImage is Debian's static busybox with the few names that tests call.
func busyboxImage(t testing.TB) v1.Image {
	t.Helper()
	program, err := os.ReadFile("/bin/busybox")
	if err != nil {
		t.Fatalf("%v (Debian's package is busybox-static)", err)
	}
	var layer bytes.Buffer
	w := tar.NewWriter(&layer)
	for _, dir := range []string{"bin", "tmp", "etc"} {
		must(t, w.WriteHeader(&tar.Header{Name: dir, Typeflag: tar.TypeDir, Mode: 0o755}))
	}
	must(t, w.WriteHeader(&tar.Header{Name: "bin/busybox", Mode: 0o755, Size: int64(len(program))}))
	if _, err := w.Write(program); err != nil {
		t.Fatal(err)
	}
	for _, tool := range []string{"sh", "echo", "sleep", "cat", "ls", "httpd", "true", "false", "wget", "id", "touch"} {
		must(t, w.WriteHeader(&tar.Header{Name: "bin/" + tool, Typeflag: tar.TypeSymlink, Linkname: "busybox"}))
	}
	must(t, w.Close())
	l, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(layer.Bytes())), nil })
	must(t, err)
	image, err := mutate.AppendLayers(empty.Image, l)
	must(t, err)
	image, err = mutate.Config(image, v1.Config{Cmd: []string{"sh"}, Env: []string{"PATH=/bin"}})
	must(t, err)
	return image
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// mirrorConfig is Docker's configuration for taking docker.io's images from
// the test's registry.
func mirrorConfig(port string) string {
	return fmt.Sprintf(`{"registry-mirrors": ["http://10.0.2.2:%s"]}`, port)
}
