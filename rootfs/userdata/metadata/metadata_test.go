package metadata

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/coracle-os/coracle/rootfs/cloudconfig"
	"github.com/coracle-os/coracle/rootfs/network/config"
	"github.com/coracle-os/coracle/rootfs/userdata/imds"
	"github.com/coracle-os/coracle/rootfs/userdata/platform"
	"github.com/coracle-os/coracle/rootfs/userdata/vmware"
)

func quote(text string) string {
	data, _ := json.Marshal(text)
	return string(data)
}

func encode(text string) string { return base64.StdEncoding.EncodeToString([]byte(text)) }

// asker asks a server of the test's and never waits long.
func asker(base string) Asker {
	return Asker{
		Client:         imds.Client{Base: base, Timeout: 2 * time.Second, Backoff: time.Microsecond, Limit: 2 * time.Second},
		WireServer:     base,
		Now:            func() time.Time { return time.Date(2026, 11, 21, 0, 0, 0, 0, time.UTC) },
		ProvisioningCD: func(context.Context) ([]byte, error) { return nil, fs.ErrNotExist },
		VMware:         func() (vmware.Host, error) { return nil, errors.New("not on VMware") },
	}
}

// said is what a result is expected to hold besides the user-data.
type said struct {
	Metadata cloudconfig.Metadata
	Notes    int
}

func addresses(private4, public4, private6, public6 string) cloudconfig.Addresses {
	return cloudconfig.Addresses{PrivateIPv4: private4, PublicIPv4: public4, PrivateIPv6: private6, PublicIPv6: public6}
}

var platforms = map[platform.Name]said{
	platform.EC2: {cloudconfig.Metadata{Hostname: "ip-10-0-0-5.eu-west-1.compute.internal",
		SSHKeys:   []string{"ssh-rsa AAAAB3NzaEC2 ada", "ssh-ed25519 AAAAC3NzaEC2 spare"},
		Addresses: addresses("10.0.0.5", "203.0.113.25", "", "2001:db8:8:4::2")}, 0},
	platform.GCE: {cloudconfig.Metadata{Hostname: "boat.europe-west1-b.c.example-project.internal",
		SSHKeys: []string{"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIInstance ada@laptop", "ecdsa-sha2-nistp256 AAAAE2VjValid eve@example.com",
			"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIProject carol@desk"},
		Addresses: addresses("10.132.0.7", "203.0.113.10", "", "2600:1900:4010:95:0:1::")}, 0},
	platform.Azure: {cloudconfig.Metadata{Hostname: "boat", SSHKeys: []string{"ssh-rsa AAAAB3NzaAzure ada@laptop"},
		Addresses: addresses("10.144.133.132", "198.51.100.4", "fd00:1::4", "")}, 0},
	platform.DigitalOcean: {cloudconfig.Metadata{Hostname: "boat", SSHKeys: []string{"ssh-ed25519 AAAAC3NzaDO ada@laptop"},
		Addresses: addresses("10.132.255.113", "104.131.20.105", "", "2604:a880:800:10::17d:2001")}, 0},
	platform.OpenStack: {cloudconfig.Metadata{Hostname: "boat.novalocal", SSHKeys: []string{"ssh-ed25519 AAAAC3NzaOS ada@laptop"},
		Addresses: addresses("10.0.0.9", "203.0.113.30", "", "2001:db8::3257:9652")}, 1},
	platform.Hetzner: {cloudconfig.Metadata{Hostname: "boat", SSHKeys: []string{"ssh-ed25519 AAAAC3NzaHetzner ada@laptop"},
		Addresses: addresses("10.0.0.2", "203.0.113.77", "", "2001:db8:c17:5c::1")}, 0},
}

func TestAsk(t *testing.T) {
	for name, want := range platforms {
		t.Run(string(name), func(t *testing.T) {
			c := &cloud{t: t, userData: plainUserData}
			r, err := asker(start(t, c.handler(name))).Ask(t.Context(), name)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, said{r.Metadata, len(r.Notes)}); diff != "" {
				t.Errorf("(-want +got):\n%s\nnotes %q", diff, r.Notes)
			}
			if string(r.UserData) != plainUserData || len(r.Errors) > 0 {
				t.Errorf("user-data %q, errors %q", r.UserData, r.Errors)
			}
			for _, file := range r.Network {
				_, warnings := config.Parse(file.Name, []byte(file.Content))
				if strings.HasSuffix(file.Name, ".netdev") {
					_, _, warnings = config.ParseNetdev(file.Name, []byte(file.Content))
				}
				if len(warnings) > 0 {
					t.Errorf("%s is not a good network file: %v\n%s", file.Name, warnings, file.Content)
				}
			}
		})
	}
}

// TestUserDataForms hands user-data over as people do.
func TestUserDataForms(t *testing.T) {
	var zipped bytes.Buffer
	w := gzip.NewWriter(&zipped)
	io.WriteString(w, plainUserData)
	w.Close()
	for name := range platforms {
		t.Run(string(name), func(t *testing.T) {
			for form, tt := range map[string]struct {
				given, want string
				notes       int
			}{
				"none":        {"", "", 0},
				"base64":      {encode(plainUserData), plainUserData, 1},
				"gzip base64": {encode(zipped.String()), zipped.String(), 1},
				"not base64":  {"hello world, this is user-data", "hello world, this is user-data", 0},
			} {
				c := &cloud{t: t, userData: tt.given}
				r, err := asker(start(t, c.handler(name))).Ask(t.Context(), name)
				if err != nil || string(r.UserData) != tt.want || len(r.Notes) != platforms[name].Notes+tt.notes {
					t.Errorf("%s: user-data %q, notes %q, %v", form, r.UserData, r.Notes, err)
				}
			}
		})
	}
}

// TestBadServers asks servers that are not as they should be. The machine goes
// on in every case; here is what is said.
func TestBadServers(t *testing.T) {
	tests := []struct {
		name string
		bad  func(w http.ResponseWriter, r *http.Request, n int32, good http.Handler)
		err  string // "" when the result is to be whole
	}{
		{"500 then 200", func(w http.ResponseWriter, r *http.Request, n int32, good http.Handler) {
			if n%3 != 0 {
				http.Error(w, "", http.StatusInternalServerError)
				return
			}
			good.ServeHTTP(w, r)
		}, ""},
		{"429 then 200", func(w http.ResponseWriter, r *http.Request, n int32, good http.Handler) {
			if n%2 != 0 {
				http.Error(w, "", http.StatusTooManyRequests)
				return
			}
			good.ServeHTTP(w, r)
		}, ""},
		{"cut off, then whole", func(w http.ResponseWriter, r *http.Request, n int32, good http.Handler) {
			if n%2 != 0 {
				w.Header().Set("Content-Length", "1000")
				io.WriteString(w, "{")
				return
			}
			good.ServeHTTP(w, r)
		}, ""},
		{"500 always", func(w http.ResponseWriter, _ *http.Request, _ int32, _ http.Handler) {
			http.Error(w, "", http.StatusInternalServerError)
		}, "500 Internal Server Error"},
		{"2 MB", func(w http.ResponseWriter, _ *http.Request, _ int32, _ http.Handler) {
			w.Header().Set("Metadata-Flavor", "Google")
			w.Write(bytes.Repeat([]byte("x"), 2<<20))
		}, "larger than 1048576 bytes"},
		{"web page", func(w http.ResponseWriter, _ *http.Request, _ int32, _ http.Handler) {
			io.WriteString(w, "\n<!DOCTYPE html><title>Log in</title>")
		}, "a web page"},
		{"redirect elsewhere", func(w http.ResponseWriter, r *http.Request, _ int32, _ http.Handler) {
			http.Redirect(w, r, "http://192.0.2.1/latest", http.StatusTemporaryRedirect)
		}, "not the metadata service"},
		{"redirect in circles", func(w http.ResponseWriter, r *http.Request, _ int32, _ http.Handler) {
			http.Redirect(w, r, r.URL.RequestURI(), http.StatusTemporaryRedirect)
		}, "more than 3 times"},
	}
	for _, tt := range tests {
		for name := range platforms {
			t.Run(tt.name+"/"+string(name), func(t *testing.T) {
				t.Parallel()
				c := &cloud{t: t, userData: plainUserData}
				good := c.handler(name)
				var n atomic.Int32
				a := asker(start(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { tt.bad(w, r, n.Add(1), good) })))
				a.Client.Limit = 20 * time.Second
				if tt.name == "500 always" {
					a.Client.Limit = 100 * time.Millisecond
				}
				r, err := a.Ask(t.Context(), name)
				problems := strings.Join(r.Errors, "; ")
				if err != nil {
					problems += err.Error()
				}
				switch {
				case tt.err == "" && (problems != "" || string(r.UserData) != plainUserData || len(r.Metadata.SSHKeys) == 0):
					t.Errorf("%q, result %+v", problems, r)
				case !strings.Contains(problems, tt.err) || (tt.err == "") != (problems == ""):
					t.Errorf("%q is said, want %q", problems, tt.err)
				}
			})
		}
	}
}

// TestSilence asks a server that takes connections and never answers, and one
// that is not there: the wait is bounded and the reason is said at once.
func TestSilence(t *testing.T) {
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	for _, base := range []string{"http://" + silent.Addr().String(), "http://127.0.0.1:1"} {
		for name := range platforms {
			t.Run(string(name), func(t *testing.T) {
				t.Parallel()
				a := asker(base)
				a.Client.Timeout, a.Client.Limit = 20*time.Millisecond, 60*time.Millisecond
				var said atomic.Int32
				a.Client.Say = func(text string) {
					said.Add(1)
					if !strings.Contains(text, "trying again") {
						t.Errorf("says %q", text)
					}
				}
				ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
				defer cancel()
				r, err := a.Ask(ctx, name)
				if err == nil || ctx.Err() != nil || said.Load() == 0 {
					t.Errorf("result %+v, %v, %d messages", r, err, said.Load())
				}
			})
		}
	}
}

// TestTwoAnswers sends a second answer behind the first one.
func TestTwoAnswers(t *testing.T) {
	c := &cloud{t: t, userData: plainUserData}
	good := c.handler(platform.DigitalOcean)
	base := start(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		recorder := newRecorder()
		good.ServeHTTP(recorder, r)
		conn, _, err := w.(http.Hijacker).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		for _, body := range []string{recorder.body.String(), `{"hostname":"other"}`} {
			io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: "+itoa(len(body))+"\r\n\r\n"+body)
		}
	}))
	r, err := asker(base).Ask(t.Context(), platform.DigitalOcean)
	if err != nil || r.Metadata.Hostname != "boat" {
		t.Errorf("%+v, %v; want the first answer", r, err)
	}
}

// TestVersion1 asks a service that has no tokens.
func TestVersion1(t *testing.T) {
	c := &cloud{t: t, userData: plainUserData, noToken: true}
	r, err := asker(start(t, c.handler(platform.EC2))).Ask(t.Context(), platform.EC2)
	if err != nil || string(r.UserData) != plainUserData || len(r.Notes) != 1 || !strings.Contains(r.Notes[0], "version 1") {
		t.Errorf("%+v, %v", r, err)
	}
}

// TestGoogleIsToldByItsHeader takes nothing from a server without it.
func TestGoogleIsToldByItsHeader(t *testing.T) {
	base := start(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		io.WriteString(w, `{"attributes":{"user-data":"#!/bin/sh\n"}}`)
	}))
	if r, err := asker(base).Ask(t.Context(), platform.GCE); err == nil || r.UserData != nil {
		t.Errorf("%+v, %v", r, err)
	}
}

func TestAzureCDAndReport(t *testing.T) {
	c := &cloud{t: t, userData: ""}
	base := start(t, c.handler(platform.Azure))
	a := asker(base)
	environment, err := os.ReadFile("../azure/testdata/ovf-env.xml")
	if err != nil {
		t.Fatal(err)
	}
	a.ProvisioningCD = func(context.Context) ([]byte, error) { return environment, nil }
	r, err := a.Ask(t.Context(), platform.Azure)
	if err != nil || string(r.UserData) != "#!/bin/bash\necho custom\n" || len(r.Metadata.SSHKeys) != 2 || r.Metadata.Hostname != "boat" {
		t.Errorf("%+v, %v", r, err)
	}
	for _, args := range [][]string{{"-ready", "azure"}, {"-failed", "user data <broken>", "azure"}} {
		if err := run(t.Context(), a, args, io.Discard, io.Discard); err != nil {
			t.Fatal(err)
		}
	}
	const head = `<?xml version="1.0" encoding="UTF-8"?>` + "\n" + `<Health><GoalStateIncarnation>1</GoalStateIncarnation><Container><ContainerId>c3a1e7a0-2d2c-4b1f-9e5c-6c9f8a6e0a11</ContainerId>` +
		`<RoleInstanceList><Role><InstanceId>9ccf3a2e-6d0b-4b4f-8f4e-0f9f1c1a2b3c._boat-vm</InstanceId><Health>`
	const tail = `</Health></Role></RoleInstanceList></Container></Health>`
	want := []string{
		head + `<State>Ready</State>` + tail,
		head + `<State>NotReady</State><Details><SubStatus>ProvisioningFailed</SubStatus><Description>user data &lt;broken&gt;</Description></Details>` + tail,
	}
	if diff := cmp.Diff(want, c.reports); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestProgram(t *testing.T) {
	c := &cloud{t: t, userData: plainUserData}
	a := asker(start(t, c.handler(platform.Hetzner)))
	var out bytes.Buffer
	if err := run(t.Context(), a, []string{"hetzner"}, &out, io.Discard); err != nil {
		t.Fatal(err)
	}
	var r platform.Result
	if err := json.Unmarshal(out.Bytes(), &r); err != nil || string(r.UserData) != plainUserData || len(r.Network) != 1 {
		t.Errorf("%v: %s", err, &out)
	}
	for _, args := range [][]string{nil, {"mars"}, {"a", "b"}, {"-x"}} {
		if err := run(t.Context(), a, args, io.Discard, io.Discard); err == nil {
			t.Errorf("%q: no error", args)
		}
	}
}
