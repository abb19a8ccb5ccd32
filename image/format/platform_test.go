package format

import (
	"bytes"
	"encoding/binary"
	"encoding/xml"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// convert writes the test's disk in a form.
func convert(t *testing.T, name string) (path string) {
	t.Helper()
	f, err := Find(name)
	if err != nil {
		t.Fatal(err)
	}
	path = filepath.Join(t.TempDir(), "coracle"+f.File)
	if err := f.Write(t.Context(), disk(t), path); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestCheck asks qemu-img whether it finds the virtual disks whole, after the
// stamps were replaced.
func TestCheck(t *testing.T) {
	for name, kind := range map[string]string{"qcow2": "qcow2", "vdi": "vdi", "vmdk": "vmdk"} {
		if out := run(t, "qemu-img", "check", "-f", kind, convert(t, name)); !strings.Contains(out, "No errors") {
			t.Errorf("%s: %s", name, out)
		}
	}
}

// TestVHD reads the footer as Azure does: whole MiB, of fixed size, and the sum
// right.
func TestVHD(t *testing.T) {
	data := read(t, convert(t, "vhd"))
	footer := data[len(data)-512:]
	var f struct {
		Cookie                   [8]byte
		Features, Version        uint32
		DataOffset               uint64
		Time                     uint32
		Creator                  [12]byte
		Original, Current        uint64
		Geometry, Type, Checksum uint32
		UUID                     [16]byte
		Saved                    byte
	}
	if err := binary.Read(bytes.NewReader(footer), binary.BigEndian, &f); err != nil {
		t.Fatal(err)
	}
	sum := f.Checksum
	for _, b := range footer {
		sum += uint32(b)
	}
	for i := range 4 {
		sum -= f.Checksum >> (8 * i) & 0xff
	}
	if string(f.Cookie[:]) != "conectix" || f.Version != 0x10000 || f.DataOffset != 1<<64-1 || f.Type != 2 || f.Saved != 0 || sum != 1<<32-1 {
		t.Errorf("the footer is no fixed disk's, or its sum is wrong: %+v", f)
	}
	if f.Current != uint64(len(data)-512) || f.Current%(1<<20) != 0 || f.UUID == [16]byte{} {
		t.Errorf("current size %d of a file of %d bytes, UUID %x", f.Current, len(data), f.UUID)
	}
}

// TestVMDK reads the header and the descriptor of a stream-optimised disk.
func TestVMDK(t *testing.T) {
	data := read(t, convert(t, "vmdk"))
	var h struct {
		Magic, Version, Flags               uint32
		Capacity, Grain                     uint64
		DescriptorOffset, DescriptorSectors uint64
		TableEntries                        uint32
		RGDOffset, GDOffset                 uint64
	}
	if err := binary.Read(bytes.NewReader(data), binary.LittleEndian, &h); err != nil {
		t.Fatal(err)
	}
	const compressed, markers = 1 << 16, 1 << 17
	if h.Magic != 0x564d444b || h.Version != 3 || h.Flags&(compressed|markers) != compressed|markers || h.Capacity != diskSize/512 || h.Grain != 128 {
		t.Errorf("header %+v", h)
	}
	descriptor := string(bytes.TrimRight(data[h.DescriptorOffset*512:][:h.DescriptorSectors*512], "\x00"))
	for _, line := range []string{`createType="streamOptimized"`, "parentCID=ffffffff", `ddb.adapterType = "lsilogic"`} {
		if !strings.Contains(descriptor, "\n"+line+"\n") {
			t.Errorf("no line %s in\n%s", line, descriptor)
		}
	}
}

// checkOVF checks a description against what DSP0243 and its schema ask of the
// parts that it has.
func checkOVF(t *testing.T, text []byte, disk string, files map[string][]byte) {
	t.Helper()
	type item struct {
		Fields []struct {
			XMLName xml.Name
			Value   string `xml:",chardata"`
		} `xml:",any"`
	}
	var e struct {
		XMLName    xml.Name `xml:"http://schemas.dmtf.org/ovf/envelope/1 Envelope"`
		References struct {
			File []struct {
				ID   string `xml:"id,attr"`
				Href string `xml:"href,attr"`
				Size int    `xml:"size,attr"`
			}
		}
		DiskSection struct {
			Info string
			Disk []struct {
				ID       string `xml:"diskId,attr"`
				FileRef  string `xml:"fileRef,attr"`
				Capacity int64  `xml:"capacity,attr"`
				Format   string `xml:"format,attr"`
			}
		}
		NetworkSection struct {
			Info    string
			Network []struct {
				Name string `xml:"name,attr"`
			}
		}
		VirtualSystem struct {
			ID                     string `xml:"id,attr"`
			Info                   string
			Name                   string
			OperatingSystemSection struct {
				ID   int `xml:"id,attr"`
				Info string
			}
			VirtualHardwareSection struct {
				Info   string
				System item
				Item   []item
			}
		}
	}
	if err := xml.Unmarshal(text, &e); err != nil {
		t.Fatal(err)
	}
	if f := e.References.File; len(f) != 1 || f[0].Href != disk || f[0].Size != len(files[disk]) {
		t.Errorf("files %+v", f)
		return
	}
	if d := e.DiskSection.Disk; e.DiskSection.Info == "" || len(d) != 1 || d[0].FileRef != e.References.File[0].ID || d[0].Capacity != grownSize ||
		!strings.HasSuffix(d[0].Format, "vmdk.html#streamOptimized") {
		t.Errorf("disks %+v", d)
	}
	v := e.VirtualSystem
	if v.ID == "" || v.Info == "" || v.Name == "" || v.OperatingSystemSection.Info == "" || v.OperatingSystemSection.ID != 101 || v.VirtualHardwareSection.Info == "" {
		t.Errorf("system %+v", v)
	}
	ids := map[string]bool{}
	for _, i := range v.VirtualHardwareSection.Item {
		// The schema has the fields in the order of their names.
		var names []string
		fields := map[string]string{}
		for _, f := range i.Fields {
			names, fields[f.XMLName.Local] = append(names, f.XMLName.Local), f.Value
		}
		if !slices.IsSorted(names) {
			t.Errorf("fields out of order: %v", names)
		}
		if id := fields["InstanceID"]; id == "" || ids[id] || fields["ElementName"] == "" || fields["ResourceType"] == "" {
			t.Errorf("item %v", fields)
		}
		ids[fields["InstanceID"]] = true
		if p, has := fields["Parent"]; has && !ids[p] {
			t.Errorf("item %v has no parent before it", fields)
		}
		if r, has := fields["HostResource"]; has && r != "ovf:/disk/"+e.DiskSection.Disk[0].ID {
			t.Errorf("item %v is of no disk", fields)
		}
		if n, has := fields["Connection"]; has && (len(e.NetworkSection.Network) != 1 || n != e.NetworkSection.Network[0].Name) {
			t.Errorf("item %v is on no network", fields)
		}
	}
}
