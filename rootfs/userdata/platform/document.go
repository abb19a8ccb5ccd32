package platform

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"net/netip"
	"strings"

	"github.com/coracle-os/coracle/rootfs/cloudconfig"
)

// SetUserData takes user-data as a platform delivered it. Base64 around what is
// user-data is taken off, with a note: tools encode once more what the platform's
// API encodes already. All else stays as it is, for provisioning to judge.
func (r *Result) SetUserData(data []byte) {
	if len(bytes.TrimSpace(data)) == 0 {
		return
	}
	r.UserData = data
	if isUserData(data) {
		return
	}
	text := bytes.Join(bytes.Fields(data), nil)
	decoded, err := base64.StdEncoding.DecodeString(string(text))
	if err == nil && isUserData(decoded) {
		r.UserData = decoded
		r.Notes = append(r.Notes, "the user-data is base64 within what the platform gives; it is decoded, but hand it over as it is")
	}
}

// isUserData tells whether data begins as user-data does.
func isUserData(data []byte) bool {
	if bytes.HasPrefix(data, []byte{0x1f, 0x8b}) {
		return true
	}
	kind := cloudconfig.Detect(data)
	return kind != cloudconfig.KindUnknown && kind != cloudconfig.KindEmpty
}

// AddKey adds an SSH public key, once; empty lines and comments are passed over.
func (r *Result) AddKey(line string) {
	line = strings.TrimSpace(line)
	if line == "" || strings.HasPrefix(line, "#") {
		return
	}
	if strings.ContainsAny(line, "\n\r\x00") || len(line) > maxKey {
		r.Notes = append(r.Notes, fmt.Sprintf("an SSH key of the platform is not one line of at most %d bytes: %.60q", maxKey, line))
		return
	}
	for _, known := range r.Metadata.SSHKeys {
		if known == line {
			return
		}
	}
	r.Metadata.SSHKeys = append(r.Metadata.SSHKeys, line)
}

// maxKey is the size of the longest key that is taken, in bytes.
const maxKey = 16 << 10

// SetHostname takes the first word of what the platform says, if it is a name.
func (r *Result) SetHostname(text string) {
	words := strings.Fields(text)
	if len(words) == 0 {
		return
	}
	name := strings.TrimSuffix(words[0], ".")
	if !isHostname(name) {
		r.Notes = append(r.Notes, fmt.Sprintf("the platform's host name %.80q is not one; it is not set", name))
		return
	}
	r.Metadata.Hostname = name
}

// isHostname follows RFC 1123 and the kernel's limit of 64 bytes; "_" is let in,
// as systemd does.
func isHostname(name string) bool {
	if name == "" || len(name) > 64 {
		return false
	}
	for label := range strings.SplitSeq(name, ".") {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' ||
			strings.Trim(strings.ToLower(label), "abcdefghijklmnopqrstuvwxyz0123456789-_") != "" {
			return false
		}
	}
	return true
}

// Public and Private take an address, with or without a prefix length; of each
// family the first one stays. What is not an address is a note.
func (r *Result) Public(text string) {
	r.address(text, &r.Metadata.PublicIPv4, &r.Metadata.PublicIPv6)
}

// Private is Public for addresses within the platform.
func (r *Result) Private(text string) {
	r.address(text, &r.Metadata.PrivateIPv4, &r.Metadata.PrivateIPv6)
}

func (r *Result) address(text string, v4, v6 *string) {
	text = strings.TrimSpace(text)
	if text == "" {
		return
	}
	bare, _, _ := strings.Cut(text, "/")
	ip, err := netip.ParseAddr(bare)
	if err != nil {
		r.Notes = append(r.Notes, fmt.Sprintf("the platform's address %.60q is not one", text))
		return
	}
	field := v6
	if ip = ip.Unmap(); ip.Is4() {
		field = v4
	}
	if *field == "" {
		*field = ip.String()
	}
}

// Sort takes an address as public or private by its range.
func (r *Result) Sort(text string) {
	bare, _, _ := strings.Cut(strings.TrimSpace(text), "/")
	ip, err := netip.ParseAddr(bare)
	switch {
	case err == nil && !ip.IsGlobalUnicast():
	case err == nil && !ip.IsPrivate():
		r.Public(text)
	default:
		r.Private(text)
	}
}

// Fail notes that something could not be read.
func (r *Result) Fail(err error) {
	if err != nil {
		r.Errors = append(r.Errors, err.Error())
	}
}
