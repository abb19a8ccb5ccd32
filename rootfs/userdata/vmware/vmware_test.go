package vmware

import (
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"encoding/binary"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/coracle-os/coracle/rootfs/cloudconfig"
	"github.com/coracle-os/coracle/rootfs/userdata/platform"
)

// fakeHost is a host that keeps to the protocol of open-vm-tools and is strict
// about it: magic, channel, cookies, sizes, order.
type fakeHost struct {
	t           *testing.T
	variables   map[string]string
	oldHost     bool // knows no cookies
	interrupted int  // replies to break off, as a host does that is moved
	silent      bool

	open     bool
	request  []byte
	size     int
	reply    []byte
	received int
	closed   int
}

const (
	fakeChannel = 7
	cookie1     = 0x11111111
	cookie2     = 0x22222222
)

func (h *fakeHost) call(r *registers) {
	if h.silent || r.ax != magic || r.dx&0xffff != port {
		r.ax = ^uint32(0)
		return
	}
	if r.cx == cmdVersion {
		r.ax, r.bx = 6, magic
		return
	}
	kind := r.cx >> 16
	if r.cx&0xffff != cmdMessage {
		h.t.Errorf("command %#x", r.cx)
	}
	status := uint32(0)
	defer func() { r.cx = r.cx&0xffff | status<<16 }()
	if kind == typeOpen {
		if h.open || (h.oldHost && r.bx != protocol) || r.bx&^uint32(cookies) != protocol {
			return
		}
		h.open, h.request, h.received = true, nil, 0
		r.dx, r.si, r.di, status = fakeChannel<<16|port, cookie1, cookie2, statusSuccess
		return
	}
	if !h.open || r.dx>>16 != fakeChannel || r.si != cookie1 || r.di != cookie2 {
		h.t.Errorf("message %d on channel %d with cookies %#x %#x", kind, r.dx>>16, r.si, r.di)
		return
	}
	status = h.message(kind, r)
}

func (h *fakeHost) message(kind uint32, r *registers) (status uint32) {
	switch kind {
	case typeSendSize:
		h.size = int(r.bx)
	case typeSend:
		h.request = binary.LittleEndian.AppendUint32(h.request, r.bx)
	case typeReceiveSize:
		if len(h.request) < h.size || len(h.request) >= h.size+4 {
			h.t.Errorf("%d bytes sent, %d said", len(h.request), h.size)
			return 0
		}
		h.answer(string(h.request[:h.size]))
		r.bx, r.dx = uint32(len(h.reply)), typeSendSize<<16|port
		return statusSuccess | statusHasMessage
	case typeReceive:
		if h.interrupted > 0 {
			h.interrupted--
			return statusCheckpoint
		}
		var word [4]byte
		h.received += copy(word[:], h.reply[h.received:])
		r.bx, r.dx = binary.LittleEndian.Uint32(word[:]), typeSend<<16|port
	case typeReceiveStatus:
		if h.received != len(h.reply) {
			h.t.Errorf("%d bytes of %d read", h.received, len(h.reply))
		}
	case typeClose:
		h.open = false
		h.closed++
	}
	return statusSuccess
}

func (h *fakeHost) answer(request string) {
	key, ok := strings.CutPrefix(request, "info-get guestinfo.")
	value, found := h.variables[key]
	switch {
	case !ok:
		h.reply = []byte("0 Unknown command")
	case found:
		h.reply = []byte("1 " + value)
	default:
		h.reply = []byte("0 No value found")
	}
}

func gz64(text string) string {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	w.Write([]byte(text))
	w.Close()
	return base64.StdEncoding.EncodeToString(b.Bytes())
}

const document = "#cloud-config\nhostname: boat\n"

func TestFetch(t *testing.T) {
	for _, tt := range []struct {
		name      string
		variables map[string]string
		want      platform.Result
		userData  string
	}{
		{"coreos", map[string]string{
			"coreos.config.data": base64.StdEncoding.EncodeToString([]byte(document)), "coreos.config.data.encoding": "base64",
			"hostname": "boat", "interface.0.name": "ens192", "interface.0.role": "private", "interface.0.dhcp": "no",
			"interface.0.ip.0.address": "10.0.0.5/24", "interface.0.route.0.gateway": "10.0.0.1", "interface.0.route.0.destination": "0.0.0.0/0",
			"interface.1.mac": "00:50:56:00:00:01", "interface.1.role": "public", "interface.1.ip.0.address": "203.0.113.5/28",
			"dns.server.0": "9.9.9.9", "dns.domain.0": "example.com",
		}, platform.Result{
			Metadata: cloudconfig.Metadata{Hostname: "boat", Addresses: cloudconfig.Addresses{PrivateIPv4: "10.0.0.5", PublicIPv4: "203.0.113.5"}},
			Network: []platform.File{
				{Name: "10-cloud-0.network", Content: "[Match]\nName=ens192\n\n[Network]\nAddress=10.0.0.5/24\nDNS=9.9.9.9\nDomains=example.com\n\n[Route]\nDestination=0.0.0.0/0\nGateway=10.0.0.1\n"},
				{Name: "10-cloud-1.network", Content: "[Match]\nMACAddress=00:50:56:00:00:01\n\n[Network]\nAddress=203.0.113.5/28\nDNS=9.9.9.9\nDomains=example.com\n"},
			},
		}, document},
		{"cloud-init", map[string]string{
			"userdata": base64.StdEncoding.EncodeToString([]byte(document)), "userdata.encoding": "base64",
			"metadata": `{"local-hostname": "boat", "public-keys-data": "ssh-ed25519 A\nssh-ed25519 B\n"}`,
		}, platform.Result{Metadata: cloudconfig.Metadata{Hostname: "boat", SSHKeys: []string{"ssh-ed25519 A", "ssh-ed25519 B"}}}, document},
		{"address", map[string]string{"coreos.config.url": "https://example.com/x\n"}, platform.Result{URL: "https://example.com/x"}, ""},
		{"nothing", nil, platform.Result{}, ""},
		{"bad encoding", map[string]string{"userdata": "!", "userdata.encoding": "base64"},
			platform.Result{Errors: []string{"read guestinfo.userdata as base64: illegal base64 data at input byte 0"}}, ""},
		{"unknown encoding", map[string]string{"coreos.config.data": "x", "coreos.config.data.encoding": "rot13"},
			platform.Result{Errors: []string{`read guestinfo.coreos.config.data: encoding "rot13" is not known; use base64 or gzip+base64`}}, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h := &fakeHost{t: t, variables: tt.variables, oldHost: tt.name == "cloud-init", interrupted: 1}
			if h.oldHost {
				h.interrupted = 0
			}
			got, err := Fetch(h.call)
			if err != nil {
				t.Fatal(err)
			}
			if string(got.UserData) != tt.userData {
				t.Errorf("user-data %q", got.UserData)
			}
			got.UserData = nil
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if h.open || h.closed == 0 {
				t.Error("a channel stays open")
			}
		})
	}
}

func TestGzipStaysForProvisioning(t *testing.T) {
	h := &fakeHost{t: t, variables: map[string]string{"userdata": gz64(document), "userdata.encoding": "gzip+base64"}}
	got, err := Fetch(h.call)
	if err != nil {
		t.Fatal(err)
	}
	if data, err := cloudconfig.Gunzip(got.UserData); err != nil || string(data) != document {
		t.Errorf("%q, %v", data, err)
	}
}

func TestBadHosts(t *testing.T) {
	if _, err := Fetch((&fakeHost{t: t, silent: true}).call); err == nil || !strings.Contains(err.Error(), "does not answer") {
		t.Errorf("silent host: %v", err)
	}
	// QEMU has the port, and answers only the version.
	versionOnly := func(r *registers) {
		if r.cx == cmdVersion {
			r.ax, r.bx = 6, magic
		}
	}
	if _, err := Fetch(versionOnly); err == nil || !strings.Contains(err.Error(), "open a channel") {
		t.Errorf("host without messages: %v", err)
	}
	if _, err := Fetch((&fakeHost{t: t, interrupted: 1000}).call); err == nil || !strings.Contains(err.Error(), "interrupted") {
		t.Errorf("host that is always interrupted: %v", err)
	}
	huge := func(r *registers) {
		if r.cx == cmdVersion {
			r.bx = magic
			return
		}
		r.cx, r.bx, r.dx = (statusSuccess|statusHasMessage)<<16, maxReply+1, typeSendSize<<16
	}
	if _, err := Fetch(huge); err == nil || !strings.Contains(err.Error(), "at most") {
		t.Errorf("host with a huge reply: %v", err)
	}
}
