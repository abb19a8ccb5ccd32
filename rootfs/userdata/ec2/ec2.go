// Package ec2 reads the metadata service of Amazon EC2 and of clouds that
// imitate it, as AWS's "Instance metadata and user data" has it: version 2,
// which needs a token, and version 1 where there are no tokens.
//
// Left out on purpose: IAM credentials, the signed identity document and all
// further categories; programs that need those ask for themselves.
package ec2

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/coracle-os/coracle/rootfs/userdata/imds"
	"github.com/coracle-os/coracle/rootfs/userdata/platform"
)

// tokenTimeout bounds the request for a token, which services without tokens
// may leave unanswered; tokenLife is for how many seconds one is asked for.
const (
	tokenTimeout = 10 * time.Second
	tokenLife    = "300"
	tokenHeader  = "X-aws-ec2-metadata-token"
)

// Documents are what the service has, by their paths below /latest.
type Documents map[string]string

// The paths that are read; keys have paths of their own.
const (
	userData   = "user-data"
	hostname   = "meta-data/hostname"
	localIPv4  = "meta-data/local-ipv4"
	publicIPv4 = "meta-data/public-ipv4"
	ipv6       = "meta-data/ipv6"
	keyList    = "meta-data/public-keys/"
)

// maxKeys bounds how many keys are asked for.
const maxKeys = 100

// KeyPaths returns where the keys are that a list of lines "0=name" names.
func KeyPaths(list string) []string {
	var paths []string
	for line := range strings.Lines(list) {
		id, _, _ := strings.Cut(strings.TrimSpace(line), "=")
		if id != "" && strings.Trim(id, "0123456789") == "" && len(paths) < maxKeys {
			paths = append(paths, keyList+id+"/openssh-key")
		}
	}
	return paths
}

// Parse makes the result from the documents.
func Parse(documents Documents) platform.Result {
	var r platform.Result
	r.SetUserData([]byte(documents[userData]))
	r.SetHostname(documents[hostname])
	r.Private(documents[localIPv4])
	r.Public(documents[publicIPv4])
	r.Public(documents[ipv6]) // EC2's IPv6 addresses are global
	for _, path := range KeyPaths(documents[keyList]) {
		for line := range strings.Lines(documents[path]) {
			r.AddKey(line)
		}
	}
	return r
}

// Fetch asks the service. What a document costs that can not be read is said in
// the result; the error is that of a service that answers nothing.
func Fetch(ctx context.Context, c *imds.Client) (platform.Result, error) {
	header, note, err := token(ctx, c)
	if err != nil {
		return platform.Result{}, err
	}
	documents := Documents{}
	answered := 0
	var problems []error
	get := func(path string) {
		answer, err := c.Do(ctx, http.MethodGet, "/latest/"+path, header, nil)
		if isStatus(err, http.StatusUnauthorized) && header != nil {
			// The token ran out while something else was waited for.
			if header, _, err = token(ctx, c); err == nil {
				answer, err = c.Do(ctx, http.MethodGet, "/latest/"+path, header, nil)
			}
		}
		switch {
		case err == nil:
			documents[path] = string(answer.Body)
			answered++
		case errors.Is(err, imds.ErrNotFound):
			answered++
		default:
			problems = append(problems, err)
		}
	}
	get(keyList) // first of all, and then the keys: they let the owner in
	for _, path := range append(KeyPaths(documents[keyList]), hostname, localIPv4, publicIPv4, ipv6, userData) {
		if ctx.Err() != nil {
			break
		}
		get(path)
	}
	if answered == 0 {
		return platform.Result{}, errors.Join(problems...)
	}
	r := Parse(documents)
	if note != "" {
		r.Notes = append(r.Notes, note)
	}
	for _, problem := range problems {
		r.Fail(problem)
	}
	return r, nil
}

// token returns the header of version 2; it is nil, with a note, for a service
// that knows version 1 only.
func token(ctx context.Context, c *imds.Client) (header map[string]string, note string, err error) {
	bounded, cancel := context.WithTimeout(ctx, tokenTimeout)
	defer cancel()
	answer, err := c.Do(bounded, http.MethodPut, "/latest/api/token", map[string]string{"X-aws-ec2-metadata-token-ttl-seconds": tokenLife}, nil)
	var refused *imds.StatusError
	switch {
	case err == nil && validToken(answer.Body):
		return map[string]string{tokenHeader: string(answer.Body)}, "", nil
	case err == nil:
		return nil, "the metadata service gives a token that is not one; asking by version 1", nil
	case ctx.Err() != nil:
		return nil, "", fmt.Errorf("get a token: %w", err)
	case errors.As(err, &refused), bounded.Err() != nil:
		return nil, "the metadata service gives no token (" + err.Error() + "); asking by version 1", nil
	}
	return nil, "", fmt.Errorf("get a token: %w", err)
}

// validToken keeps out what can not be a header.
func validToken(token []byte) bool {
	for _, b := range token {
		if b <= ' ' || b > '~' {
			return false
		}
	}
	return len(token) > 0 && len(token) <= 4096
}

func isStatus(err error, status int) bool {
	var refused *imds.StatusError
	return errors.As(err, &refused) && refused.Status == status
}
