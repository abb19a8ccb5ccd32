package metadata

import (
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/coracle-os/coracle/rootfs/userdata/platform"
)

// cloud is the metadata service of a platform, which keeps to what the
// platform's documentation says of it: paths, headers, methods.
type cloud struct {
	t *testing.T
	// userData is what the machine's owner handed over; "" is none.
	userData string
	// NoToken makes EC2's service one of version 1.
	noToken bool

	mu      sync.Mutex
	asked   []string
	reports []string // to Azure
}

const plainUserData = "#cloud-config\nhostname: boat\n"

func (c *cloud) log(r *http.Request) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.asked = append(c.asked, r.Method+" "+r.URL.RequestURI())
}

func (c *cloud) recorded(path string) string {
	data, err := os.ReadFile("../" + path)
	if err != nil {
		c.t.Error(err)
	}
	return string(data)
}

func (c *cloud) handler(name platform.Name) http.Handler {
	serve := map[platform.Name]http.HandlerFunc{
		platform.EC2: c.ec2, platform.GCE: c.gce, platform.Azure: c.azure, platform.DigitalOcean: c.digitalOcean,
		platform.OpenStack: c.openStack, platform.Hetzner: c.hetzner,
	}[name]
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c.log(r)
		serve(w, r)
	})
}

func start(t *testing.T, h http.Handler) string {
	server := httptest.NewServer(h)
	t.Cleanup(server.Close)
	return server.URL
}

func documents(w http.ResponseWriter, r *http.Request, all map[string]string) {
	text, ok := all[r.URL.Path]
	if r.Method != http.MethodGet || !ok {
		http.NotFound(w, r)
		return
	}
	io.WriteString(w, text)
}

const ec2Token = "AQAEAF4mMmM4Yz=="

func (c *cloud) ec2(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/latest/api/token" && !c.noToken {
		switch {
		case r.Method != http.MethodPut:
			http.Error(w, "", http.StatusMethodNotAllowed)
		case r.Header.Get("X-Forwarded-For") != "":
			http.Error(w, "", http.StatusForbidden)
		case r.Header.Get("X-aws-ec2-metadata-token-ttl-seconds") == "":
			http.Error(w, "", http.StatusBadRequest)
		default:
			w.Header().Set("X-Aws-Ec2-Metadata-Token-Ttl-Seconds", r.Header.Get("X-aws-ec2-metadata-token-ttl-seconds"))
			io.WriteString(w, ec2Token)
		}
		return
	}
	if !c.noToken && r.Header.Get("X-aws-ec2-metadata-token") != ec2Token {
		http.Error(w, "", http.StatusUnauthorized)
		return
	}
	all := map[string]string{
		"/latest/meta-data/hostname":                    "ip-10-0-0-5.eu-west-1.compute.internal",
		"/latest/meta-data/local-ipv4":                  "10.0.0.5",
		"/latest/meta-data/public-ipv4":                 "203.0.113.25",
		"/latest/meta-data/ipv6":                        "2001:db8:8:4::2",
		"/latest/meta-data/public-keys/":                "0=ada\n1=spare",
		"/latest/meta-data/public-keys/0/openssh-key":   "ssh-rsa AAAAB3NzaEC2 ada\n",
		"/latest/meta-data/public-keys/1/openssh-key":   "ssh-ed25519 AAAAC3NzaEC2 spare\n",
		"/latest/meta-data/instance-id":                 "i-1234567890abcdef0",
		"/latest/dynamic/instance-identity/document":    `{"region":"eu-west-1"}`,
		"/latest/meta-data/placement/availability-zone": "eu-west-1a",
	}
	if c.userData != "" {
		all["/latest/user-data"] = c.userData
	}
	documents(w, r, all)
}

func (c *cloud) gce(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Metadata-Flavor", "Google")
	if r.Header.Get("Metadata-Flavor") != "Google" || r.URL.Query().Get("recursive") != "true" {
		http.Error(w, "Missing Metadata-Flavor:Google header.", http.StatusForbidden)
		return
	}
	instance := c.recorded("gce/testdata/instance.json")
	if c.userData != plainUserData {
		instance = strings.Replace(instance, `"#cloud-config\nhostname: boat\n"`, quote(c.userData), 1)
	}
	documents(w, r, map[string]string{
		"/computeMetadata/v1/instance/":           instance,
		"/computeMetadata/v1/project/attributes/": c.recorded("gce/testdata/project.json"),
	})
}

func (c *cloud) azure(w http.ResponseWriter, r *http.Request) {
	if r.Header.Get("x-ms-version") != "" { // the WireServer has another address
		c.wireServer(w, r)
		return
	}
	if r.Header.Get("Metadata") != "true" || r.Header.Get("X-Forwarded-For") != "" || r.URL.Query().Get("api-version") == "" {
		http.Error(w, `{"error":"Bad request. Required metadata header not specified"}`, http.StatusBadRequest)
		return
	}
	documents(w, r, map[string]string{
		"/metadata/instance":     strings.Replace(c.recorded("azure/testdata/instance.json"), encode(plainUserData), encode(c.userData), 1),
		"/metadata/loadbalancer": c.recorded("azure/testdata/loadbalancer.json"),
	})
}

func (c *cloud) wireServer(w http.ResponseWriter, r *http.Request) {
	if r.Header.Get("x-ms-version") != "2012-11-30" {
		http.Error(w, "", http.StatusBadRequest)
		return
	}
	switch {
	case r.Method == http.MethodGet && r.URL.RawQuery == "comp=goalstate":
		io.WriteString(w, c.recorded("azure/testdata/goalstate.xml"))
	case r.Method == http.MethodPost && r.URL.RawQuery == "comp=health" && strings.HasPrefix(r.Header.Get("Content-Type"), "text/xml"):
		data, _ := io.ReadAll(r.Body)
		c.mu.Lock()
		c.reports = append(c.reports, string(data))
		c.mu.Unlock()
	default:
		http.NotFound(w, r)
	}
}

func (c *cloud) digitalOcean(w http.ResponseWriter, r *http.Request) {
	text := c.recorded("digitalocean/testdata/v1.json")
	documents(w, r, map[string]string{"/metadata/v1.json": strings.Replace(text, `"#cloud-config\nhostname: boat\n"`, quote(c.userData), 1)})
}

func (c *cloud) openStack(w http.ResponseWriter, r *http.Request) {
	all := map[string]string{
		"/openstack/latest/meta_data.json":    c.recorded("openstack/testdata/meta_data.json"),
		"/openstack/latest/network_data.json": c.recorded("openstack/testdata/network_data.json"),
		"/latest/meta-data/local-ipv4":        "10.0.0.9",
		"/latest/meta-data/public-ipv4":       "203.0.113.30",
	}
	if c.userData != "" {
		all["/openstack/latest/user_data"] = c.userData
	}
	documents(w, r, all)
}

func (c *cloud) hetzner(w http.ResponseWriter, r *http.Request) {
	all := map[string]string{
		"/hetzner/v1/metadata":                  c.recorded("hetzner/testdata/metadata.yaml"),
		"/hetzner/v1/metadata/private-networks": c.recorded("hetzner/testdata/private-networks.yaml"),
	}
	if c.userData != "" {
		all["/hetzner/v1/userdata"] = c.userData
	}
	documents(w, r, all)
}
