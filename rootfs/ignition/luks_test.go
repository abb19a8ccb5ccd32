package ignition

import (
	"testing"

	"github.com/coreos/ignition/v2/config/v3_5/types"
	"github.com/google/go-cmp/cmp"
)

func TestLUKSOptions(t *testing.T) {
	yes := true
	for _, tt := range []struct {
		name                   string
		luks                   types.Luks
		flags, refused, unused []string
	}{
		{"none", types.Luks{}, nil, nil, nil},
		{"as they are here", types.Luks{Options: []types.LuksOption{"--type=luks2", "-c", "aes-xts-plain64", "--key-size", "512", "-q", "--hash=sha256"}}, nil, nil, nil},
		{"others", types.Luks{Options: []types.LuksOption{"--cipher", "aes-cbc-essiv:sha256", "--pbkdf=argon2id", "--iter-time"}},
			nil, nil, []string{"--cipher aes-cbc-essiv:sha256", "--pbkdf=argon2id", "--iter-time"}},
		{"opened", types.Luks{Discard: &yes, OpenOptions: []types.OpenOption{"--allow-discards", "--persistent", "--perf-no_read_workqueue", "--readonly"}},
			[]string{"allow_discards", "no_read_workqueue"}, nil, []string{"--readonly"}},
		{"not there", types.Luks{Options: []types.LuksOption{"--integrity=aead", "--header", "/x"}, Clevis: types.Clevis{Tpm2: &yes}, Cex: types.Cex{Enabled: &yes}},
			nil, []string{"Clevis (TPM, Tang and custom pins) is not there", "crypto cards (cex) are of another architecture", "--integrity=aead is not there", "--header /x is not there"}, nil},
	} {
		refused, unused := checkLUKS(tt.luks)
		if diff := cmp.Diff([][]string{tt.flags, tt.refused, tt.unused}, [][]string{LUKSFlags(tt.luks), refused, unused}); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.name, diff)
		}
	}
}
