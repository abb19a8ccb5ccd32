package admission

import (
	"context"
	"crypto/hpke"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
)

// AuthorityPath is where machines that have the cluster's authority hand it on.
// They listen on a port of its own, without TLS: who asks has no certificate.
const AuthorityPath = "/coracle/v1/authority"

// The authority is sealed with HPKE (RFC 9180, from crypto/hpke) to the key in
// the request, which was made for it alone: who records the traffic and learns
// the token later cannot open it. Both texts carry the proofs of the token, so
// that neither the key nor what is sealed can be replaced; and the token is part
// of the key schedule.
func suite() (hpke.KEM, hpke.KDF, hpke.AEAD) {
	return hpke.MLKEM768X25519(), hpke.HKDFSHA256(), hpke.AES256GCM()
}

func info(token, nonce string) []byte {
	return []byte("coracle authority\n" + nonce + "\n" + token)
}

// authorityRequest is what a machine asks with.
type authorityRequest struct {
	Nonce string `json:"nonce"`
	Key   []byte `json:"key"` // public, new for each request
}

type authorityAnswer struct {
	Sealed []byte `json:"sealed"`
}

// Fetch asks a machine at the base URL of its port for the cluster's authority.
func Fetch(ctx context.Context, client *http.Client, baseURL, token string) ([]byte, error) {
	kem, kdf, aead := suite()
	key, err := kem.GenerateKey()
	if err != nil {
		return nil, fmt.Errorf("ask %s for the authority: %w", baseURL, err)
	}
	r := authorityRequest{Nonce: rand.Text(), Key: key.PublicKey().Bytes()}
	body, err := json.Marshal(r)
	if err != nil {
		return nil, fmt.Errorf("ask %s for the authority: %w", baseURL, err)
	}
	text, err := post(ctx, client, strings.TrimRight(baseURL, "/")+AuthorityPath, token, r.Nonce, body)
	if err != nil {
		return nil, fmt.Errorf("ask %s for the authority: %w", baseURL, err)
	}
	var a authorityAnswer
	if err := json.Unmarshal(text, &a); err != nil {
		return nil, fmt.Errorf("read the answer of %s: %w", baseURL, err)
	}
	authority, err := hpke.Open(key, kdf, aead, info(token, r.Nonce), a.Sealed)
	if err != nil {
		return nil, fmt.Errorf("open the authority from %s: %w", baseURL, err)
	}
	return authority, nil
}

// AuthorityHandler hands the authority to machines that know the token; read
// gives it.
func AuthorityHandler(token string, read func() ([]byte, error)) http.Handler {
	return handler(token, func(_ context.Context, body []byte) (string, any, error) {
		var r authorityRequest
		if err := json.Unmarshal(body, &r); err != nil {
			return "", nil, fmt.Errorf("read the request: %w", err)
		}
		if len(r.Nonce) < 16 {
			return "", nil, fmt.Errorf("read the request: the nonce %q is too short", r.Nonce)
		}
		kem, kdf, aead := suite()
		key, err := kem.NewPublicKey(r.Key)
		if err != nil {
			return "", nil, fmt.Errorf("read the request's key: %w", err)
		}
		authority, err := read()
		if err != nil {
			return "", nil, err
		}
		sealed, err := hpke.Seal(key, kdf, aead, info(token, r.Nonce), authority)
		if err != nil {
			return "", nil, fmt.Errorf("seal the authority: %w", err)
		}
		return r.Nonce, authorityAnswer{Sealed: sealed}, nil
	})
}
