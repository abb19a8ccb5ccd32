// Package multipart takes user-data apart that is a MIME multipart message
// (RFC 2046), as cloud-init's write-mime-multipart makes it: several documents
// of different kinds in one. It serves package format and is pure.
//
// Of the types that cloud-init knows, text/cloud-config and text/x-shellscript
// are used; text/plain and the like are what their first line says. Upstart
// jobs, boot hooks, part handlers, includes and archives are not, and are
// reported. Parts may be base64 or quoted-printable, gzip, and multipart
// themselves.
package multipart

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"mime/quotedprintable"
	"net/mail"
	"strings"

	"github.com/coracle-os/coracle/rootfs/cloudconfig"
	"github.com/coracle-os/coracle/rootfs/provision/plan"
)

// Bounds on a message.
const (
	maxParts = 1000
	maxDepth = 4
)

// Part is one document.
type Part struct {
	// Name is "part 2" or "part 2 (name.sh)", for people.
	Name string
	Kind cloudconfig.Kind // KindCloudConfig or KindScript
	Data []byte
	// Line is the line of the message that the part begins on, 0 when the part
	// is encoded and has no lines there.
	Line int
}

// unused are the types that are known and not used, with what to do instead.
var unused = map[string]string{
	"text/upstart-job":          "there is no upstart; write a unit",
	"text/cloud-boothook":       `boot hooks are not run; write a unit with "command: start"`,
	"text/part-handler":         "part handlers are not run",
	"text/x-include-url":        "includes are not fetched; put the document itself in a part",
	"text/x-include-once-url":   "includes are not fetched; put the document itself in a part",
	"text/cloud-config-archive": "archives are not read; make each document a part",
	"text/cloud-config-jsonp":   "patches are not applied; write #cloud-config",
	"text/jinja2":               "templates are not filled in",
}

// reader collects the parts of a message.
type reader struct {
	message []byte
	from    int // where the next part is looked for
	count   int
	size    int
	parts   []Part
	report  plan.Report
}

// Parts returns the documents of a message in its order, and what is wrong with
// it and what of it is not used.
func Parts(message []byte) ([]Part, plan.Report) {
	r := &reader{message: message}
	m, err := mail.ReadMessage(bytes.NewReader(message))
	if err != nil {
		r.report.Add(plan.Position{Line: 1}, plan.Error, "read the multipart header: %v", err)
		return nil, r.report
	}
	r.multipart(m.Header.Get("Content-Type"), m.Body, 0)
	if len(r.parts) == 0 && len(r.report) == 0 {
		r.report.Add(plan.Position{Line: 1}, plan.Error, "the multipart message has no parts; see that its boundary is the one in its header")
	}
	return r.parts, r.report
}

func (r *reader) multipart(contentType string, body io.Reader, depth int) {
	_, parameters, err := mime.ParseMediaType(contentType)
	if err != nil || parameters["boundary"] == "" {
		r.report.Add(plan.Position{Line: 1}, plan.Error, "Content-Type: %q has no boundary", contentType)
		return
	}
	parts := multipart.NewReader(body, parameters["boundary"])
	for {
		part, err := parts.NextRawPart()
		if err == io.EOF {
			return
		}
		if err == nil {
			if r.count++; r.count > maxParts {
				err = fmt.Errorf("there are more than %d parts", maxParts)
			}
		}
		if err != nil {
			r.report.Add(plan.Position{Line: r.lineAt(r.from)}, plan.Error, "the multipart message is cut off or damaged after part %d: %v", r.count, err)
			return
		}
		if !r.part(part, depth) {
			return
		}
	}
}

// part adds one part and tells whether to go on.
func (r *reader) part(part *multipart.Part, depth int) bool {
	name := fmt.Sprintf("part %d", r.count)
	if file := part.FileName(); file != "" {
		name += " (" + file + ")"
	}
	raw, err := io.ReadAll(io.LimitReader(part, cloudconfig.MaxSize+1))
	if err != nil {
		r.report.Add(plan.Position{Line: r.lineAt(r.from)}, plan.Error, "%s: %v; it and what follows are not applied", name, err)
		return false
	}
	at := r.find(raw)
	encoding := strings.ToLower(strings.TrimSpace(part.Header.Get("Content-Transfer-Encoding")))
	data, err := decode(raw, encoding)
	if err == nil {
		if r.size += len(data); r.size > cloudconfig.MaxSize {
			err = fmt.Errorf("all parts together are larger than %d bytes", cloudconfig.MaxSize)
		}
	}
	if err != nil {
		r.report.Add(plan.Position{Line: at}, plan.Error, "%s: %v; it is not applied", name, err)
		return true
	}
	contentType := part.Header.Get("Content-Type")
	mediaType, _, _ := mime.ParseMediaType(contentType)
	if strings.HasPrefix(mediaType, "multipart/") {
		if depth+1 >= maxDepth {
			r.report.Add(plan.Position{Line: at}, plan.Error, "%s: multipart in multipart, more than %d deep; it is not applied", name, maxDepth)
			return true
		}
		r.multipart(contentType, bytes.NewReader(data), depth+1)
		return true
	}
	kind, problem := kindOf(mediaType, data)
	if problem != "" {
		r.report.Add(plan.Position{Line: at}, plan.Warning, "%s: %s; it is not applied", name, problem)
		return true
	}
	if !bytes.Equal(raw, data) {
		at = 0
	}
	r.parts = append(r.parts, Part{Name: name, Kind: kind, Data: data, Line: at})
	return true
}

// find returns the line that a part's text begins on.
func (r *reader) find(raw []byte) int {
	i := bytes.Index(r.message[r.from:], raw)
	if i < 0 || len(raw) == 0 {
		return r.lineAt(r.from)
	}
	line := r.lineAt(r.from + i)
	r.from += i + len(raw)
	return line
}

func (r *reader) lineAt(offset int) int { return 1 + bytes.Count(r.message[:offset], []byte("\n")) }

// decode undoes the transfer encoding of RFC 2045, and gzip.
func decode(raw []byte, encoding string) (data []byte, err error) {
	switch encoding {
	case "", "7bit", "8bit", "binary":
		data = raw
	case "base64":
		data, err = base64.StdEncoding.DecodeString(strings.Join(strings.Fields(string(raw)), ""))
	case "quoted-printable":
		data, err = io.ReadAll(quotedprintable.NewReader(bytes.NewReader(raw)))
	default:
		err = fmt.Errorf("unknown Content-Transfer-Encoding %q; use base64", encoding)
	}
	if err != nil {
		return nil, err
	}
	return cloudconfig.Gunzip(data)
}

// kindOf tells what a part is, by its type or else its first line. A problem is
// why it is not used.
func kindOf(mediaType string, data []byte) (kind cloudconfig.Kind, problem string) {
	switch mediaType {
	case "text/cloud-config":
		return cloudconfig.KindCloudConfig, ""
	case "text/x-shellscript", "text/x-shellscript-per-boot", "text/x-shellscript-per-instance", "text/x-shellscript-per-once":
		return cloudconfig.KindScript, ""
	}
	if instead, ok := unused[mediaType]; ok {
		return "", mediaType + ": " + instead
	}
	switch kind = cloudconfig.Detect(data); kind {
	case cloudconfig.KindCloudConfig, cloudconfig.KindScript:
		return kind, ""
	case cloudconfig.KindIgnition:
		return "", "an Ignition config must be the whole of the user-data"
	}
	return "", fmt.Sprintf("its type %q is not known, and it does not begin with \"#cloud-config\" or \"#!\"", mediaType)
}
