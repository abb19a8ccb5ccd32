package fetch

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/coreos/ignition/v2/config/v3_5/types"
)

func ptr[T any](v T) *T { return &v }

func resource(source string) types.Resource { return types.Resource{Source: &source} }

func packed(text string) []byte {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	w.Write([]byte(text))
	w.Close()
	return b.Bytes()
}

func TestFetch(t *testing.T) {
	tries := 0
	mux := http.NewServeMux()
	mux.HandleFunc("/file", func(w http.ResponseWriter, _ *http.Request) { w.Write([]byte("content")) })
	mux.HandleFunc("/packed", func(w http.ResponseWriter, _ *http.Request) { w.Write(packed("content")) })
	mux.HandleFunc("/header", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, r.Header.Get("Token"), r.Header.Get("Other"))
	})
	mux.HandleFunc("/redirect", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/header", http.StatusFound) })
	mux.HandleFunc("/large", func(w http.ResponseWriter, _ *http.Request) { w.Write(make([]byte, 2000)) })
	mux.HandleFunc("/bomb", func(w http.ResponseWriter, _ *http.Request) { w.Write(packed(strings.Repeat("x", 2000))) })
	mux.HandleFunc("/later", func(w http.ResponseWriter, _ *http.Request) {
		if tries++; tries < 3 {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		w.Write([]byte("content"))
	})
	mux.HandleFunc("/down", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadGateway) })
	server := httptest.NewServer(mux)
	defer server.Close()
	secure := httptest.NewTLSServer(mux)
	defer secure.Close()
	oem := t.TempDir()
	for name, content := range map[string]string{"config": "content"} {
		if err := os.WriteFile(filepath.Join(oem, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	sum := fmt.Sprintf("sha256-%x", sha256.Sum256([]byte("content")))
	header := types.Resource{Source: ptr(server.URL + "/header"), HTTPHeaders: types.HTTPHeaders{{Name: "Token", Value: ptr("secret")}, {Name: "Other"}}}
	redirected := header
	redirected.Source = ptr(server.URL + "/redirect")
	for _, tt := range []struct {
		name string
		r    types.Resource
		want string
		err  string
	}{
		{"nothing", types.Resource{}, "", ""},
		{"data", resource("data:,a%20b"), "a b", ""},
		{"data in base64", resource("data:text/plain;base64,aGVsbG8="), "hello", ""},
		{"http", resource(server.URL + "/file"), "content", ""},
		{"compressed", types.Resource{Source: ptr(server.URL + "/packed"), Compression: ptr("gzip"), Verification: types.Verification{Hash: &sum}}, "content", ""},
		{"not compressed", types.Resource{Source: ptr(server.URL + "/file"), Compression: ptr("gzip")}, "", "decompress: "},
		{"a lying hash", types.Resource{Source: ptr(server.URL + "/header"), Verification: types.Verification{Hash: &sum}}, "", "correct the hash or the document"},
		{"headers", header, "secret", ""},
		{"headers are not for others", redirected, "", ""},
		{"too large", resource(server.URL + "/large"), "", "larger than 1000 bytes"},
		{"too large inside", types.Resource{Source: ptr(server.URL + "/bomb"), Compression: ptr("gzip")}, "", "larger than 1000 bytes"},
		{"tried again", resource(server.URL + "/later"), "content", ""},
		{"down", resource(server.URL + "/down"), "", "502 Bad Gateway; no answer within 200ms, see that the server is up"},
		{"not there", resource(server.URL + "/none"), "", "404 Not Found"},
		{"nobody", resource("http://127.0.0.1:1/"), "", "no answer within"},
		{"an unknown authority", resource(secure.URL + "/file"), "", "name its authority in ignition.security.tls"},
		{"OEM", resource("oem:///config"), "content", ""},
		{"outside OEM", resource("oem:///../../etc/passwd"), "", "no such file"},
		{"tftp", resource("tftp://x/y"), "", "tftp is not supported"},
		{"access point", resource("arn:aws:s3:us-west-2:123456789012:accesspoint/x/object/y"), "", "access points are not supported"},
		{"scheme", resource("ftp://x/y"), "", `scheme "ftp" is not supported`},
	} {
		f := Fetcher{OEM: oem, Limit: time.Minute, Backoff: time.Millisecond, MaxSize: 1000}
		if tt.name == "down" || tt.name == "nobody" {
			f.Limit = 200 * time.Millisecond
		}
		got, err := f.Fetch(context.Background(), tt.r)
		if tt.err == "" && (err != nil || string(got) != tt.want) {
			t.Errorf("%s: %q, %v", tt.name, got, err)
		}
		if tt.err != "" && (err == nil || !strings.Contains(err.Error(), tt.err)) {
			t.Errorf("%s: error %v, want %q", tt.name, err, tt.err)
		}
	}
	f := Fetcher{Limit: time.Minute}
	ca := "data:," + strings.NewReplacer("\n", "%0A", " ", "%20", "+", "%2B").Replace(string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: secure.Certificate().Raw})))
	err := f.Configure(context.Background(), types.Ignition{Security: types.Security{TLS: types.TLS{CertificateAuthorities: []types.Resource{resource(ca)}}}})
	if err != nil {
		t.Fatal(err)
	}
	if got, err := f.Fetch(context.Background(), resource(secure.URL+"/file")); err != nil || string(got) != "content" {
		t.Errorf("with the authority: %q, %v", got, err)
	}
	err = f.Configure(context.Background(), types.Ignition{Security: types.Security{TLS: types.TLS{CertificateAuthorities: []types.Resource{resource("data:,x")}}}})
	if err == nil || !strings.Contains(err.Error(), "no PEM certificate") {
		t.Errorf("not a certificate: %v", err)
	}
}

// transport answers in place of the storage services.
type transport func(*http.Request) *http.Response

func (f transport) RoundTrip(r *http.Request) (*http.Response, error) { return f(r), nil }

type account struct{ none bool }

func (a account) AWS(context.Context) (aws.Credentials, string, error) {
	if a.none {
		return aws.Credentials{}, "", ErrNoCredentials
	}
	return aws.Credentials{AccessKeyID: "ID", SecretAccessKey: "SECRET", SessionToken: "TOKEN"}, "eu-west-1", nil
}

func (a account) Google(context.Context) (string, error) {
	if a.none {
		return "", ErrNoCredentials
	}
	return "TOKEN", nil
}

func TestStorage(t *testing.T) {
	for _, tt := range []struct {
		source  string
		none    bool
		address string
		signed  string // part of the header
	}{
		{"s3://bucket/a/b%20c", true, "https://bucket.s3.amazonaws.com/a/b%20c", ""},
		{"s3://bucket/a?versionId=7", false, "https://bucket.s3.eu-west-1.amazonaws.com/a?versionId=7", "Credential=ID/"},
		{"s3://with.dots/a", true, "https://s3.amazonaws.com/with.dots/a", ""},
		{"arn:aws-cn:s3:::bucket/a/b", true, "https://bucket.s3.amazonaws.com.cn/a/b", ""},
		{"gs://bucket/a/b", true, "https://storage.googleapis.com/bucket/a/b", ""},
		{"gs://bucket/a/b", false, "https://storage.googleapis.com/bucket/a/b", "Bearer TOKEN"},
	} {
		var asked *http.Request
		f := Fetcher{Credentials: account{tt.none}, client: &http.Client{Transport: transport(func(r *http.Request) *http.Response {
			asked = r
			w := httptest.NewRecorder()
			w.WriteString("content")
			return w.Result()
		})}}
		got, err := f.Fetch(context.Background(), resource(tt.source))
		if err != nil || string(got) != "content" {
			t.Errorf("%s: %q, %v", tt.source, got, err)
			continue
		}
		if asked.URL.String() != tt.address || !strings.Contains(asked.Header.Get("Authorization"), tt.signed) || (tt.signed == "") != (asked.Header.Get("Authorization") == "") {
			t.Errorf("%s: asked %s with %q", tt.source, asked.URL, asked.Header)
		}
	}
}
