// Package password checks a password against a crypt(5) string of /etc/shadow,
// for the console login. The hash functions are those of go-crypt and
// golang.org/x/crypto; this package only chooses by prefix: yescrypt ($y$),
// SHA-512 ($6$), SHA-256 ($5$) and bcrypt ($2a$ $2b$ $2y$). Older ones (DES,
// MD5) are refused: a hash that can be broken in minutes is no lock.
package password

import (
	"crypto/subtle"
	"errors"
	"fmt"
	"strings"

	"github.com/go-crypt/crypt/algorithm"
	"github.com/go-crypt/crypt/algorithm/shacrypt"
	"github.com/go-crypt/x/yescrypt"
	"golang.org/x/crypto/bcrypt"
)

// MaxLength is the longest password that is looked at, in bytes.
const MaxLength = 512

// ErrUnsupported says that a hash is of a kind that this package refuses.
var ErrUnsupported = errors.New("unsupported password hash; set the password again with a $6$ or $y$ hash")

// Locked reports whether no password can match the hash: "", "*", "!...".
// An empty field in /etc/shadow would mean "no password needed"; on Coracle it
// never opens anything.
func Locked(hash string) bool {
	return hash == "" || hash[0] == '*' || hash[0] == '!'
}

// Check reports whether the password belongs to the hash. Empty passwords and
// locked hashes never match.
func Check(hash, password string) (bool, error) {
	if Locked(hash) || password == "" || len(password) > MaxLength {
		return false, nil
	}
	switch {
	case strings.HasPrefix(hash, "$y$"):
		got, err := yescrypt.Hash([]byte(password), []byte(hash))
		if err != nil {
			return false, fmt.Errorf("check password: %w", err)
		}
		return subtle.ConstantTimeCompare(got, []byte(hash)) == 1, nil
	case strings.HasPrefix(hash, "$6$"), strings.HasPrefix(hash, "$5$"):
		return checkSHA(hash, password)
	case strings.HasPrefix(hash, "$2a$"), strings.HasPrefix(hash, "$2b$"), strings.HasPrefix(hash, "$2y$"):
		err := bcrypt.CompareHashAndPassword([]byte(hash), []byte(password))
		if errors.Is(err, bcrypt.ErrMismatchedHashAndPassword) {
			return false, nil
		}
		return err == nil, err
	}
	return false, fmt.Errorf("check password: %w", ErrUnsupported)
}

func checkSHA(hash, password string) (bool, error) {
	var digest algorithm.Digest
	digest, err := shacrypt.Decode(hash)
	if err != nil {
		return false, fmt.Errorf("check password: %w", err)
	}
	match, err := digest.MatchAdvanced(password)
	if err != nil {
		return false, fmt.Errorf("check password: %w", err)
	}
	return match, nil
}
