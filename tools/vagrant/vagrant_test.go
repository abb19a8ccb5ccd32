// Package vagrant checks the user-data of the cluster that the Vagrantfile in
// this folder brings up, and that of Vagrant's boxes. It has no code: Vagrant
// itself is in Ruby, with more packages than a test is worth.
package vagrant

import (
	"os"
	"strings"
	"testing"

	"github.com/coracle-os/coracle/rootfs/cloudconfig"
)

func TestUserData(t *testing.T) {
	for _, path := range []string{"user-data", "../../image/format/vagrant.yml"} {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, entry := range cloudconfig.Validate(data) {
			// Container Linux's validator said of its last releases what does not hold here.
			if !strings.Contains(entry.String(), "no longer shipped in Container Linux") {
				t.Errorf("%s: %s", path, entry)
			}
		}
	}
}
