package secureboot

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"time"
	"unicode/utf16"

	"github.com/google/uuid"

	"github.com/coracle-os/coracle/image/efisign"
)

// GUIDs of the UEFI specification.
var (
	globalVariable = uuid.MustParse("8be4df61-93ca-11d2-aa0d-00e098032b8c") // PK, KEK
	imageSecurity  = uuid.MustParse("d719b2cb-3d3a-4596-a3bc-dad00e67656f") // db, dbx
	certX509       = uuid.MustParse("a5c059a1-94e4-4aa7-87b5-ab155c2bf072")
	certSHA256     = uuid.MustParse("c1c41626-504c-4092-aca9-41f936934328")
	certPKCS7      = uuid.MustParse("4aafd29d-68df-49ee-8aa9-347d375665a7")
)

// Attributes of an authenticated variable: non-volatile, for boot services and
// the running system, time-based; and whether it is appended to.
const (
	attributes       = 0x27
	attributesAppend = 0x67
)

// namespace is the GUID that a variable's name belongs to.
func namespace(name string) uuid.UUID {
	if name == "PK" || name == "KEK" {
		return globalVariable
	}
	return imageSecurity
}

// efiGUID is a GUID with its first three fields in little endian.
func efiGUID(id uuid.UUID) []byte {
	b := bytes.Clone(id[:])
	b[0], b[1], b[2], b[3] = b[3], b[2], b[1], b[0]
	b[4], b[5], b[6], b[7] = b[5], b[4], b[7], b[6]
	return b
}

// signatureList is one EFI_SIGNATURE_LIST whose entries have the same size.
func signatureList(kind, owner uuid.UUID, entries ...[]byte) []byte {
	const header = 16 + 3*4
	size := 16 + len(entries[0])
	b := efiGUID(kind)
	b = binary.LittleEndian.AppendUint32(b, uint32(header+len(entries)*size))
	b = binary.LittleEndian.AppendUint32(b, 0)
	b = binary.LittleEndian.AppendUint32(b, uint32(size))
	for _, entry := range entries {
		b = append(b, efiGUID(owner)...)
		b = append(b, entry...)
	}
	return b
}

// efiTime is an EFI_TIME as variables are signed with it: seconds, in UTC.
func efiTime(at time.Time) []byte {
	at = at.UTC()
	b := binary.LittleEndian.AppendUint16(nil, uint16(at.Year()))
	b = append(b, byte(at.Month()), byte(at.Day()), byte(at.Hour()), byte(at.Minute()), byte(at.Second()))
	return append(b, make([]byte, 16-len(b))...)
}

// update is what SetVariable takes for an authenticated variable, and what is in
// a file named .auth: EFI_VARIABLE_AUTHENTICATION_2 and the new content.
func update(name string, attributes uint32, at time.Time, content []byte, by efisign.Signer) ([]byte, error) {
	var message []byte
	for _, unit := range utf16.Encode([]rune(name)) {
		message = binary.LittleEndian.AppendUint16(message, unit)
	}
	message = append(message, efiGUID(namespace(name))...)
	message = binary.LittleEndian.AppendUint32(message, attributes)
	message = append(message, efiTime(at)...)
	message = append(message, content...)
	signature, err := by.Detached(message)
	if err != nil {
		return nil, fmt.Errorf("sign variable %s: %w", name, err)
	}
	const header = 4 + 2 + 2 + 16
	b := efiTime(at)
	b = binary.LittleEndian.AppendUint32(b, uint32(header+len(signature)))
	b = binary.LittleEndian.AppendUint16(b, 0x0200) // WIN_CERTIFICATE, revision 2.0
	b = binary.LittleEndian.AppendUint16(b, 0x0ef1) // WIN_CERT_TYPE_EFI_GUID
	b = append(b, efiGUID(certPKCS7)...)
	b = append(b, signature...)
	return append(b, content...), nil
}
