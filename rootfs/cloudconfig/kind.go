package cloudconfig

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"unicode"
)

// MaxSize is the size in bytes of the largest user-data, after decompression,
// that is read.
const MaxSize = 16 << 20

// Kind is what user-data is.
type Kind string

// The kinds of user-data.
const (
	KindCloudConfig Kind = "cloud-config"
	KindScript      Kind = "script"
	KindIgnition    Kind = "ignition"
	KindMultipart   Kind = "multipart"
	KindEmpty       Kind = "empty"
	KindUnknown     Kind = "none"
)

// Detect tells the kind of user-data that is already decompressed.
func Detect(data []byte) Kind {
	first, _, _ := bytes.Cut(data, []byte("\n"))
	switch {
	case len(data) == 0:
		return KindEmpty
	case string(bytes.TrimRightFunc(first, unicode.IsSpace)) == "#cloud-config":
		return KindCloudConfig
	case bytes.HasPrefix(data, []byte("#!")):
		return KindScript
	case isIgnition(data):
		return KindIgnition
	case isMultipart(data):
		return KindMultipart
	}
	return KindUnknown
}

// isMultipart tells whether data is a MIME multipart message (RFC 2045, RFC
// 2046): fields up to an empty line, one of them its type, and a part. A message
// without a part is none, as everything was to the original.
func isMultipart(data []byte) bool {
	const maxHeader = 16 << 10
	found, length := false, 0
	for line := range bytes.Lines(data[:min(len(data), maxHeader)]) {
		length += len(line)
		line = bytes.TrimRight(line, "\r\n")
		name, value, ok := bytes.Cut(line, []byte(":"))
		switch {
		case len(line) == 0:
			_, part, ok := bytes.Cut(data[length-1:], []byte("\n--"))
			_, part, _ = bytes.Cut(part, []byte("\n"))
			return found && ok && len(bytes.TrimSpace(part)) > 0
		case line[0] == ' ' || line[0] == '\t': // goes on with the field before
			continue
		case !ok || len(name) == 0 || bytes.ContainsAny(name, " \t#"):
			return false
		}
		found = found || (bytes.EqualFold(name, []byte("content-type")) &&
			bytes.HasPrefix(bytes.ToLower(bytes.TrimSpace(value)), []byte("multipart/")))
	}
	return false
}

func isIgnition(data []byte) bool {
	var config struct {
		Version1 *int `json:"ignitionVersion"`
		Ignition struct {
			Version *string `json:"version"`
		} `json:"ignition"`
	}
	if json.Unmarshal(data, &config) != nil {
		return false
	}
	return config.Version1 != nil || config.Ignition.Version != nil
}

// UnknownHint says what may be wrong with data that Detect does not know, as a
// sentence for the owner of the machine.
func UnknownHint(data []byte) string {
	text := string(data[:min(len(data), 512)])
	first, _, _ := strings.Cut(text, "\n")
	trimmed := strings.TrimSpace(strings.TrimPrefix(text, "\ufeff"))
	switch {
	case strings.HasPrefix(text, "\ufeff"):
		return "it begins with a byte-order mark; remove it"
	case strings.HasPrefix(first, "#cloud-config"):
		return fmt.Sprintf("the first line must be exactly \"#cloud-config\", it is %q", first)
	case strings.HasPrefix(trimmed, "#cloud-config"):
		return "there are blanks or empty lines before \"#cloud-config\"; remove them"
	case strings.HasPrefix(trimmed, "#!"):
		return "there are blanks or empty lines before \"#!\"; remove them"
	case strings.Contains(strings.ToLower(text), "content-type: multipart/"):
		return "a MIME multipart message must begin with its header and have an empty line after it"
	case strings.HasPrefix(trimmed, "#include"):
		return "#include is not read; use cloud-config-url= on the kernel command line"
	}
	return "put \"#cloud-config\" or \"#!/bin/bash\" on its first line"
}

// Gunzip returns data as it is, or decompressed when it is gzip (RFC 1952). The
// result is never larger than MaxSize.
func Gunzip(data []byte) ([]byte, error) {
	if !bytes.HasPrefix(data, []byte{0x1f, 0x8b}) {
		if len(data) > MaxSize {
			return nil, fmt.Errorf("read user-data: it has %d bytes, the limit is %d", len(data), MaxSize)
		}
		return data, nil
	}
	return gunzip(data, MaxSize)
}

func gunzip(data []byte, limit int) ([]byte, error) {
	r, err := gzip.NewReader(bytes.NewReader(data))
	if err != nil {
		return nil, fmt.Errorf("decompress gzip: %w", err)
	}
	out, err := io.ReadAll(io.LimitReader(r, int64(limit)+1))
	if err != nil {
		return nil, fmt.Errorf("decompress gzip: %w", err)
	}
	if len(out) > limit {
		return nil, fmt.Errorf("decompress gzip: the result is larger than %d bytes", limit)
	}
	return out, nil
}
