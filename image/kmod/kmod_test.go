package kmod

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"

	"github.com/coracle-os/coracle/image/tree"
)

// module returns a relocatable ELF file that has nothing but a .modinfo section.
func module(t *testing.T, info ...string) []byte {
	t.Helper()
	data := []byte(strings.Join(info, "\x00") + "\x00")
	names := []byte("\x00.modinfo\x00.shstrtab\x00")
	var b bytes.Buffer
	write := func(value any) {
		if err := binary.Write(&b, binary.LittleEndian, value); err != nil {
			t.Fatal(err)
		}
	}
	header := elf.Header64{
		Type: uint16(elf.ET_REL), Machine: uint16(elf.EM_X86_64), Version: 1, Ehsize: 64, Shentsize: 64, Shnum: 3, Shstrndx: 2,
		Shoff: uint64(64 + len(data) + len(names)),
	}
	copy(header.Ident[:], "\x7fELF\x02\x01\x01")
	write(header)
	b.Write(data)
	b.Write(names)
	write(elf.Section64{})
	write(elf.Section64{Name: 1, Type: uint32(elf.SHT_PROGBITS), Off: 64, Size: uint64(len(data))})
	write(elf.Section64{Name: 10, Type: uint32(elf.SHT_STRTAB), Off: uint64(64 + len(data)), Size: uint64(len(names))})
	return b.Bytes()
}

func packXZ(t *testing.T, content []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	w, err := xz.NewWriter(&b)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(content); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func packZstd(t *testing.T, content []byte) []byte {
	t.Helper()
	w, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	return w.EncodeAll(content, nil)
}

const release = "6.12.1+deb13-cloud-amd64"

func kernel(t *testing.T) *Kernel {
	t.Helper()
	at := func(name string, content []byte) tree.Entry {
		return tree.File(Root+"/"+release+"/"+name, 0o644, content)
	}
	files, err := tree.New(
		at("kernel/net/bridge/bridge.ko.xz", packXZ(t, module(t, "name=bridge", "depends=stp,llc"))),
		at("kernel/net/802/stp.ko.xz", packXZ(t, module(t, "name=stp", "depends=llc"))),
		at("kernel/net/llc/llc.ko.zst", packZstd(t, module(t, "name=llc", "depends="))),
		at("kernel/net/br-netfilter.ko", module(t, "name=br_netfilter", "depends=bridge")),
		at("kernel/fs/soft.ko", module(t, "name=soft", "depends=", "softdep=pre: llc crypto-crc32c post: nothing")),
		at("kernel/fs/broken.ko.xz", []byte("not xz")),
		at("kernel/fs/orphan.ko", module(t, "name=orphan", "depends=gone")),
		at("modules.builtin", []byte("kernel/fs/ext4/ext4.ko\nkernel/drivers/virtio/virtio_pci.ko\n")),
		at("modules.order", []byte("kernel/net/llc/llc.ko\n")),
	)
	if err != nil {
		t.Fatal(err)
	}
	k, err := Open(files)
	if err != nil {
		t.Fatal(err)
	}
	if k.Release != release {
		t.Fatalf("release %q", k.Release)
	}
	return k
}

func names(entries []tree.Entry) []string {
	var result []string
	for _, entry := range entries {
		result = append(result, strings.TrimPrefix(entry.Path, Root+"/"+release+"/"))
	}
	return result
}

func TestClosure(t *testing.T) {
	bridge := []string{"kernel/net/bridge/bridge.ko", "kernel/net/llc/llc.ko", "kernel/net/802/stp.ko"}
	for _, test := range []struct {
		name           string
		patterns, want []string
	}{
		{"dependencies of dependencies", []string{"bridge"}, bridge},
		{"hyphen or underscore", []string{"br-netfilter"}, slices.Insert(slices.Clone(bridge), 0, "kernel/net/br-netfilter.ko")},
		{"pattern", []string{"st*"}, []string{"kernel/net/llc/llc.ko", "kernel/net/802/stp.ko"}},
		{"built in", []string{"ext4", "virtio-*"}, nil},
		{"optional", []string{"?e1000"}, nil},
		{"soft dependencies that are modules", []string{"soft"}, []string{"kernel/net/llc/llc.ko", "kernel/fs/soft.ko"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, err := kernel(t).Closure(test.patterns)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, names(got)); diff != "" {
				t.Errorf("modules (-want +got):\n%s", diff)
			}
		})
	}
}

func TestClosureReportsAllThatIsWrong(t *testing.T) {
	_, err := kernel(t).Closure([]string{"e1000", "broken", "orphan", "["})
	if err == nil {
		t.Fatal("no error")
	}
	for _, want := range []string{`no module "e1000"`, "unpack", `no module "gone", which another one depends on`, `module pattern "["`} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("the error does not say %q:\n%v", want, err)
		}
	}
}

func TestPacked(t *testing.T) {
	k := kernel(t)
	all, err := k.Closure([]string{"bridge", "br_netfilter"})
	if err != nil {
		t.Fatal(err)
	}
	plain, err := k.Closure([]string{"stp"})
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"kernel/net/br-netfilter.ko", "kernel/net/bridge/bridge.ko.xz", "kernel/net/llc/llc.ko", "kernel/net/802/stp.ko"}
	if diff := cmp.Diff(want, names(k.Packed(all, plain))); diff != "" {
		t.Errorf("modules (-want +got):\n%s", diff)
	}
}

func TestIndex(t *testing.T) {
	k := kernel(t)
	modules, err := k.Closure([]string{"bridge"})
	if err != nil {
		t.Fatal(err)
	}
	files, err := k.Index(t.Context(), modules, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"modules.dep", "modules.alias", "modules.softdep", "modules.builtin"} {
		if !files.Has(Root + "/" + release + "/" + name) {
			t.Errorf("the index has no %s", name)
		}
	}
	entry, _ := files.Lookup(Root + "/" + release + "/modules.dep")
	text, err := entry.ReadFile()
	if err != nil || !strings.Contains(string(text), "kernel/net/802/stp.ko:") {
		t.Errorf("modules.dep = %q, %v", text, err)
	}
}

func TestOpenRefusesWhatIsNoKernel(t *testing.T) {
	if _, err := Open(tree.Tree{}); err == nil {
		t.Error("a package without modules was accepted")
	}
	two, err := tree.New(tree.File(Root+"/1/modules.order", 0o644, nil), tree.File(Root+"/2/modules.order", 0o644, nil))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Open(two); err == nil || !strings.Contains(err.Error(), "two kernels") {
		t.Errorf("two kernels: error = %v", err)
	}
}
