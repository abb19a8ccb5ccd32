package ignition

import (
	"slices"
	"strings"

	"github.com/coreos/ignition/v2/config/v3_5/types"
)

// luksValues are the options of `cryptsetup luksFormat` and `open` that have a
// value, by their long name; "" for those without.
var luksValues = map[string]string{
	"type": "luks2", "cipher": "aes-xts-plain64", "key-size": "512", "hash": "sha256", "pbkdf": "pbkdf2", "sector-size": "4096",
	"iter-time": "any", "pbkdf-memory": "any", "pbkdf-parallel": "any", "pbkdf-force-iterations": "any", "key-slot": "any",
	"timeout": "any", "tries": "any", "align-payload": "any", "offset": "any", "label": "any", "subsystem": "any", "uuid": "any",
	"luks2-metadata-size": "any", "luks2-keyslots-size": "any", "keyslot-cipher": "any", "keyslot-key-size": "any",
	"integrity": "any", "header": "any", "volume-key-file": "any", "master-key-file": "any", "key-file": "any", "keyfile-size": "any",
}

// luksShort are the short names of options.
var luksShort = map[string]string{"-c": "cipher", "-s": "key-size", "-h": "hash", "-i": "iter-time", "-S": "key-slot", "-M": "type",
	"-t": "timeout", "-T": "tries", "-o": "offset", "-d": "key-file", "-q": "batch-mode", "-v": "verbose"}

// luksRefused change what a volume is for, and are not there.
var luksRefused = []string{"integrity", "header", "volume-key-file", "master-key-file", "key-file"}

// luksNothing change nothing here.
var luksNothing = []string{"batch-mode", "verbose", "use-random", "use-urandom", "persistent"}

// luksFlags are options of `cryptsetup open` as dm-crypt names them.
var luksFlags = map[string]string{
	"allow-discards": "allow_discards", "perf-same_cpu_crypt": "same_cpu_crypt", "perf-submit_from_crypt_cpus": "submit_from_crypt_cpus",
	"perf-no_read_workqueue": "no_read_workqueue", "perf-no_write_workqueue": "no_write_workqueue",
}

// luksOption is an option of cryptsetup.
type luksOption struct{ name, value, text string }

func luksOptions[T ~string](words []T) (options []luksOption) {
	for i := 0; i < len(words); i++ {
		word := string(words[i])
		name, value, given := strings.Cut(word, "=")
		if long := luksShort[name]; long != "" {
			name = long
		} else {
			name = strings.TrimPrefix(name, "--")
		}
		o := luksOption{name, value, word}
		if luksValues[name] != "" && !given && i+1 < len(words) {
			i++
			o.value, o.text = string(words[i]), word+" "+string(words[i])
		}
		options = append(options, o)
	}
	return options
}

// LUKSFlags returns what dm-crypt is told when a volume is opened.
func LUKSFlags(l types.Luks) (flags []string) {
	if isTrue(l.Discard) {
		flags = append(flags, "allow_discards")
	}
	for _, o := range luksOptions(l.OpenOptions) {
		if flag := luksFlags[o.name]; flag != "" && !slices.Contains(flags, flag) {
			flags = append(flags, flag)
		}
	}
	return flags
}

// checkLUKS says what of a volume is not possible or not used.
func checkLUKS(l types.Luks) (refused, unused []string) {
	if l.Clevis.IsPresent() {
		refused = append(refused, "Clevis (TPM, Tang and custom pins) is not there")
	}
	if isTrue(l.Cex.Enabled) {
		refused = append(refused, "crypto cards (cex) are of another architecture")
	}
	for _, o := range slices.Concat(luksOptions(l.Options), luksOptions(l.OpenOptions)) {
		switch {
		case slices.Contains(luksRefused, o.name):
			refused = append(refused, o.text+" is not there")
		case slices.Contains(luksNothing, o.name), luksFlags[o.name] != "", o.value != "" && luksValues[o.name] == o.value:
		default:
			unused = append(unused, o.text)
		}
	}
	return refused, unused
}
