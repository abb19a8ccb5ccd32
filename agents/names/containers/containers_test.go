package containers

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestHangs has a Docker that takes requests and does not answer, before and
// within the list.
func TestHangs(t *testing.T) {
	for _, begins := range []bool{false, true} {
		path := filepath.Join(t.TempDir(), "docker.sock")
		l, err := net.Listen("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if strings.HasSuffix(r.URL.Path, "/events") {
				w.(http.Flusher).Flush()
			} else if begins {
				w.Write([]byte(`[{"Names":["/a"]`))
				w.(http.Flusher).Flush()
			}
			<-r.Context().Done()
		}))
		server.Listener = l
		server.Start()
		d := New(path)
		d.patience = 50 * time.Millisecond
		ctx, done := context.WithTimeout(t.Context(), 20*time.Second)
		err = d.Watch(ctx, func(list []Container) { t.Errorf("told of %v", list) })
		if err == nil || ctx.Err() != nil {
			t.Errorf("Watch: %v, %v", err, ctx.Err())
		}
		done()
		server.Close()
	}
}

func TestParse(t *testing.T) {
	for text, want := range map[string]int{
		`[]`: 0, `[{"Names":[]}]`: 0, `[{"Names":["/a"]},{"Names":["/b"],"NetworkSettings":{"Networks":{"x":{"IPAddress":"nonsense"}}}}]`: 2,
	} {
		if got, err := parse(strings.NewReader(text)); err != nil || len(got) != want {
			t.Errorf("%s: %v, %v", text, got, err)
		}
	}
	if _, err := parse(strings.NewReader(`{"message":"no"}`)); err == nil {
		t.Error("an object was read as a list")
	}
}
