package modprobe

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/coracle-os/coracle/rootfs/program"
)

const aliases = `# Aliases extracted from modules themselves.
alias nft-chain-1-nat nft_chain_nat
alias nft-expr-1-masq nft_masq
alias net-pf-17-proto-0 af_packet
alias fs-vfat vfat
alias pci:v00008086d0000100Esv*sd*bc*sc*i* e1000
alias pci:v*d*sv*sd*bc01sc06i01* ahci
alias acpi*:PNP0C0[C-E]:* button
alias char-major-10-200 tun
alias devname:net/tun tun
alias crypto-crc32c crc32c_intel
alias crypto-crc32c crc32c_generic
alias symbol:broken
`

func TestMatch(t *testing.T) {
	for name, want := range map[string][]string{
		"nft-chain-1-nat": {"nft_chain_nat"},
		"nft_expr_1_masq": {"nft_masq"},
		"fs-vfat":         {"vfat"},
		"fs-xfs":          nil,
		"pci:v00008086d0000100Esv00001AF4sd00001100bc02sc00i00": {"e1000"},
		"pci:v00008086d00002922sv00001AF4sd00001100bc01sc06i01": {"ahci"},
		"acpi:PNP0C0D:":   {"button"},
		"acpi:PNP0C0F:":   nil,
		"crypto-crc32c":   {"crc32c_intel", "crc32c_generic"},
		"devname:net/tun": {"tun"},
	} {
		got, err := match(strings.NewReader(aliases), name)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

func TestFindWithoutAliases(t *testing.T) {
	got, err := Find(filepath.Join(t.TempDir(), "modules.alias"), "loop")
	if err != nil || !slices.Equal(got, []string{"loop"}) {
		t.Errorf("Find = %v, %v", got, err)
	}
	file := filepath.Join(t.TempDir(), "modules.alias")
	if err := os.WriteFile(file, []byte(aliases), 0o644); err != nil {
		t.Fatal(err)
	}
	if got, err := Find(file, "loop"); err != nil || !slices.Equal(got, []string{"loop"}) {
		t.Errorf("Find = %v, %v", got, err)
	}
}

func TestParse(t *testing.T) {
	o, err := parse([]string{"-q", "--", "net-pf-10"})
	if err != nil || !o.quiet || !slices.Equal(o.names, []string{"net-pf-10"}) {
		t.Errorf("as the kernel calls it: %+v, %v", o, err)
	}
	o, err = parse([]string{"-va", "loop", "tun"})
	if err != nil || !o.verbose || !slices.Equal(o.names, []string{"loop", "tun"}) {
		t.Errorf("several: %+v, %v", o, err)
	}
	o, err = parse([]string{"loop", "max_loop=8", "max_part=2"})
	if err != nil || o.params != "max_loop=8 max_part=2" || len(o.names) != 1 {
		t.Errorf("parameters: %+v, %v", o, err)
	}
	for _, args := range [][]string{nil, {"-x", "loop"}, {"--what", "loop"}} {
		if _, err := parse(args); err == nil {
			t.Errorf("%v was accepted", args)
		}
	}
}

func TestQuietFailureSaysNothing(t *testing.T) {
	var out, errOut bytes.Buffer
	code := Main(t.Context(), []string{"modprobe", "-q", "no-such-module"}, program.Stdio{Out: &out, Err: &errOut})
	if code != 1 || out.Len()+errOut.Len() != 0 {
		t.Errorf("code %d, said %q", code, out.String()+errOut.String())
	}
}
