package pki

import (
	"errors"
	"os"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestOwn(t *testing.T) {
	none, there := In(t.TempDir()), In(t.TempDir())
	for _, name := range []string{there.Authority, there.Certificate, there.Key} {
		if err := os.WriteFile(name, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	local := []string{"http://127.0.0.1:2379", "http://localhost:4001"}
	for _, test := range []struct {
		endpoints []string
		own       Files
		want      []string
		files     Files
	}{
		{local, none, local, Files{}},
		{local, there, []string{"https://127.0.0.1:2379", "https://localhost:4001"}, there},
		{[]string{"https://[::1]:2379"}, there, []string{"https://[::1]:2379"}, there},
		{[]string{"http://127.0.0.1:2379", "http://10.0.0.1:2379"}, there, []string{"http://127.0.0.1:2379", "http://10.0.0.1:2379"}, Files{}},
	} {
		got, files := Own(test.endpoints, test.own)
		if diff := cmp.Diff(test.want, got); diff != "" || files != test.files {
			t.Errorf("%q: %s, files %v", test.endpoints, diff, files)
		}
	}
}

func TestAwait(t *testing.T) {
	own := In(t.TempDir())
	ended := make(chan error)
	go func() { ended <- Await(t.Context(), own, false, time.Millisecond) }()
	for _, name := range []string{own.Authority, own.Certificate, own.Key} {
		select {
		case err := <-ended:
			t.Fatalf("ended before all were there: %v", err)
		default:
		}
		if err := os.WriteFile(name, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := <-ended; !errors.Is(err, ErrOther) {
		t.Error(err)
	}
}
