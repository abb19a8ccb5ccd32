package fetch

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/arn"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
)

// Credentials are what the machine's platform gives it for its own account.
type Credentials interface {
	// AWS returns the keys of the instance's role and its region.
	AWS(ctx context.Context) (aws.Credentials, string, error)
	// Google returns an access token of the instance's service account.
	Google(ctx context.Context) (string, error)
}

// ErrNoCredentials says that the machine has none.
var ErrNoCredentials = errors.New("the machine has no credentials")

var domains = map[string]string{
	"aws": "amazonaws.com", "aws-us-gov": "amazonaws.com", "aws-cn": "amazonaws.com.cn",
}

// storage gets an object of S3 or of Google's storage.
func (f *Fetcher) storage(ctx context.Context, u *url.URL) ([]byte, error) {
	if u.Scheme == "gs" {
		return f.google(ctx, u)
	}
	partition, bucket, key, query := "aws", u.Host, u.Path, u.Query()
	if u.Scheme == "arn" {
		name, err := arn.Parse(strings.SplitN(u.String(), "?", 2)[0])
		if err != nil {
			return nil, fmt.Errorf("parse ARN: %w", err)
		}
		if name.Region != "" || strings.HasPrefix(name.Resource, "accesspoint/") {
			return nil, errors.New("S3 access points are not supported; name the bucket, as arn:aws:s3:::BUCKET/OBJECT")
		}
		var object string
		bucket, object, _ = strings.Cut(name.Resource, "/")
		partition, key = name.Partition, "/"+object
	}
	domain, ok := domains[partition]
	if !ok {
		return nil, fmt.Errorf("partition %q of AWS is not known", partition)
	}
	address := objectAddress(bucket, "s3."+domain, key)
	address.RawQuery = query.Encode()
	if f.Credentials == nil {
		return f.http(ctx, address, http.Header{}, nil)
	}
	keys, region, err := f.Credentials.AWS(ctx)
	switch {
	case errors.Is(err, ErrNoCredentials):
		return f.http(ctx, address, http.Header{}, nil)
	case err != nil:
		return nil, fmt.Errorf("get the credentials of the instance's role: %w", err)
	}
	if region != "" {
		address = objectAddress(bucket, "s3."+region+"."+domain, key)
		address.RawQuery = query.Encode()
	}
	empty := sha256.Sum256(nil)
	sum := hex.EncodeToString(empty[:])
	return f.http(ctx, address, http.Header{}, func(r *http.Request) error {
		r.Header.Set("X-Amz-Content-Sha256", sum)
		return v4.NewSigner().SignHTTP(ctx, keys, r, sum, "s3", region, time.Now(), func(o *v4.SignerOptions) {
			o.DisableURIPathEscaping = true // S3 wants the path as it is sent
		})
	})
}

// objectAddress is where an object is; the certificate is not for names with
// further dots.
func objectAddress(bucket, host, key string) *url.URL {
	if strings.Contains(bucket, ".") {
		return &url.URL{Scheme: "https", Host: host, Path: "/" + bucket + key}
	}
	return &url.URL{Scheme: "https", Host: bucket + "." + host, Path: key}
}

func (f *Fetcher) google(ctx context.Context, u *url.URL) ([]byte, error) {
	address := &url.URL{Scheme: "https", Host: "storage.googleapis.com", Path: "/" + u.Host + u.Path}
	header := http.Header{}
	if f.Credentials != nil {
		token, err := f.Credentials.Google(ctx)
		if err != nil && !errors.Is(err, ErrNoCredentials) {
			return nil, fmt.Errorf("get the token of the instance's account: %w", err)
		}
		if err == nil {
			header.Set("Authorization", "Bearer "+token)
		}
	}
	return f.http(ctx, address, header, nil)
}
