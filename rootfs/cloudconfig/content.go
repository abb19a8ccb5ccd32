package cloudconfig

import (
	"encoding/base64"
	"fmt"
	"strings"
)

// MaxFile is the size in bytes of the largest decoded file.
const MaxFile = 64 << 20

// DecodeContent returns the bytes of a file's content: as it is, from base64,
// from gzip, or from both.
func DecodeContent(content, encoding string) ([]byte, error) {
	switch encoding {
	case "":
		return []byte(content), nil
	case "b64", "base64":
		return decodeBase64(content)
	case "gz", "gzip":
		return gunzip([]byte(content), MaxFile)
	case "gz+base64", "gzip+base64", "gz+b64", "gzip+b64":
		compressed, err := decodeBase64(content)
		if err != nil {
			return nil, err
		}
		return gunzip(compressed, MaxFile)
	}
	return nil, fmt.Errorf("decode content: unknown encoding %q; use base64, gzip or gzip+base64", encoding)
}

func decodeBase64(content string) ([]byte, error) {
	data, err := base64.StdEncoding.DecodeString(strings.TrimSpace(content))
	if err != nil {
		return nil, fmt.Errorf("decode base64: %w", err)
	}
	return data, nil
}
