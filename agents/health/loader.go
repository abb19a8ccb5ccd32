package health

import (
	"encoding/binary"
	"os"
	"strings"
	"unicode/utf16"
)

// countVariable is the variable in which systemd-boot names the entry that it
// booted and counts; systemd-boot(7). Entries that do not count have none.
const countVariable = "/sys/firmware/efi/efivars/LoaderBootCountPath-4a67b082-0a4c-41cf-b6c7-440b29bb8c4f"

// loaderCount returns the file name in the variable, such as
// "coracle-2+2-1.efi"; "" when there is none.
func loaderCount(path string) string {
	data, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	return countedName(data)
}

// countedName reads the variable: four bytes of attributes, then a path in
// UTF-16.
func countedName(data []byte) string {
	if len(data) < 4 {
		return ""
	}
	var units []uint16
	for data = data[4:]; len(data) >= 2; data = data[2:] {
		u := binary.LittleEndian.Uint16(data)
		if u == 0 {
			break
		}
		units = append(units, u)
	}
	text := string(utf16.Decode(units))
	return text[strings.LastIndexAny(text, `\/`)+1:]
}
