package cloudconfig

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/coracle-os/coracle/rootfs/spelling"
)

// elsewhere are keys of other programs that read #cloud-config, and what does
// the same here.
var elsewhere = map[string]string{
	"runcmd":             `use a unit with "command: start", or a script`,
	"bootcmd":            `use a unit with "command: start", or a script`,
	"packages":           "the system has no packages; run a container",
	"package_update":     "the system is updated as a whole",
	"package_upgrade":    "the system is updated as a whole; see coreos.update",
	"apt":                "the system has no packages; run a container",
	"sudo":               `use "groups: [sudo]"`,
	"lock_passwd":        "a user without passwd has no password",
	"plain_text_passwd":  "use passwd with a crypt(5) hash",
	"hashed_passwd":      "use passwd",
	"ssh_import_id":      "use ssh_authorized_keys",
	"ssh_authorized_key": "use ssh_authorized_keys",
	"fqdn":               "use hostname",
	"preserve_hostname":  "a hostname is set when one is given",
	"mounts":             "use a .mount unit",
	"swap":               "use a .swap unit",
	"ntp":                "use NTP= in a .network unit",
	"timezone":           "clocks are in UTC",
	"locale":             "the locale is C.UTF-8",
	"power_state":        "use a unit",
	"final_message":      "see the journal of coreos-cloudinit.service",
	"growpart":           "the state partition grows by itself",
	"resize_rootfs":      "the state partition grows by itself",
	"network":            "use a unit whose name ends in .network",
	"append":             "write_files replaces whole files",
	"defer":              "files are written before units start",
	"uid":                "the next free number is taken",
	"expiredate":         "accounts do not expire",
	"inactive":           "accounts do not expire",
	"selinux_user":       "there is no SELinux here",
	"ssh_redirect_user":  "name the user in users",
	"homedir_mode":       "home directories have the mode that useradd gives",
	"disable_root":       "root has no password and no keys",
	"chpasswd":           "use passwd of a user, with a crypt(5) hash",
	"ssh_pwauth":         "the SSH server takes keys only",
	"ssh_keys":           "the SSH server makes its own host keys",
	"ca_certs":           "write the certificate to /etc/ssl/certs with write_files",
	"manage_resolv_conf": "use DNS= in a .network unit",
}

// unknownKeyHint says what may have been meant by a key that a section does not
// have.
func unknownKeyHint(key string, section reflect.Type) string {
	if best := spelling.Nearest(key, slices.Collect(maps.Keys(fieldsByKey(section)))); best != "" {
		return fmt.Sprintf("did you mean %q? it is ignored", best)
	}
	for _, other := range []struct {
		t    reflect.Type
		name string
	}{
		{reflect.TypeFor[Config](), "at the top level"},
		{reflect.TypeFor[CoreOS](), "below coreos"},
		{reflect.TypeFor[Unit](), "in an entry of coreos.units"},
		{reflect.TypeFor[User](), "in an entry of users"},
	} {
		if _, ok := fieldsByKey(other.t)[key]; ok && other.t != section {
			return fmt.Sprintf("it belongs %s; here it is ignored", other.name)
		}
	}
	if instead := elsewhere[key]; instead != "" {
		return "it is ignored; " + instead
	}
	return "it is ignored"
}

// invalidValueHint lists the values that a pattern of words takes.
func invalidValueHint(value, pattern string) string {
	words, ok := strings.CutPrefix(pattern, "^(")
	words, end := strings.CutSuffix(words, ")$")
	words = strings.ReplaceAll(words, `\`, "")
	if !ok || !end || strings.ContainsAny(words, "([?*") {
		return ""
	}
	all := strings.Split(words, "|")
	if best := spelling.Nearest(value, all); best != "" {
		return fmt.Sprintf("did you mean %q?", best)
	}
	return "it must be one of " + strings.Join(all, ", ")
}
