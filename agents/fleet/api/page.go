package api

import (
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"net/url"
)

// token names one page of a list: base64url of two 16-bit numbers, little
// endian, which is what clients hand back and tests of fleet know.
type token struct{ Limit, Page uint16 }

func (t token) String() string {
	b := binary.LittleEndian.AppendUint16(nil, t.Limit)
	return base64.URLEncoding.EncodeToString(binary.LittleEndian.AppendUint16(b, t.Page))
}

// parseToken takes the page from a query; without a token it is the first.
func parseToken(query url.Values, limit uint16) (token, error) {
	values := query["nextPageToken"]
	switch {
	case len(values) > 1:
		return token{}, errors.New("too many values for page token")
	case len(values) == 0 || values[0] == "":
		return token{limit, 1}, nil
	}
	b, err := base64.URLEncoding.DecodeString(values[0])
	if err != nil || len(b) != 4 {
		return token{}, fmt.Errorf("page token %q is none that this server gave", values[0])
	}
	t := token{binary.LittleEndian.Uint16(b), binary.LittleEndian.Uint16(b[2:])}
	switch {
	case t.Limit != limit:
		return token{}, fmt.Errorf("token limit must be %d", limit)
	case t.Page == 0:
		return token{}, errors.New("token page must be greater than zero")
	}
	return t, nil
}

// bounds are the items of the page among n, and the token of the next page: ""
// after the last one. A page that is full has a next one, be it empty: pages
// are of different moments, and fleet's clients expect it.
func (t token) bounds(n int) (from, to int, next string) {
	from = min((int(t.Page)-1)*int(t.Limit), n)
	to = min(from+int(t.Limit), n)
	if to-from == int(t.Limit) && t.Page < 1<<16-1 {
		next = token{t.Limit, t.Page + 1}.String()
	}
	return from, to, next
}
