package luks

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"strings"
)

// modhex are the digits of recovery keys: the same keys on most keyboards.
const modhex = "cbdefghijklnrtuv"

// NewRecoveryKey makes a key of 256 bits in systemd's form for people: eight
// groups of eight letters.
func NewRecoveryKey() (string, error) {
	b := make([]byte, 32)
	if _, err := rand.Read(b); err != nil {
		return "", fmt.Errorf("make recovery key: %w", err)
	}
	var s strings.Builder
	for i, digit := range hex.EncodeToString(b) {
		if i > 0 && i%8 == 0 {
			s.WriteByte('-')
		}
		s.WriteByte(modhex[strings.IndexRune("0123456789abcdef", digit)])
	}
	return s.String(), nil
}

// RecoveryKey is what a person typed, as NewRecoveryKey writes it: case, spaces
// and dashes do not matter.
func RecoveryKey(typed string) string {
	var s strings.Builder
	for _, r := range strings.ToLower(typed) {
		if strings.ContainsRune(modhex, r) {
			if s.Len()%9 == 8 {
				s.WriteByte('-')
			}
			s.WriteRune(r)
		}
	}
	return s.String()
}
