package shutdown

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParse(t *testing.T) {
	const info = `22 1 254:0 / / ro - erofs /dev/dm-0 ro
40 22 254:8 / /var rw,nosuid shared:1 - ext4 /dev/vda8 rw
41 22 0:30 / /etc rw - overlay overlay rw,lowerdir=/etc
50 40 0:31 / /var/lib/docker\040x rw - overlay overlay rw
23 22 0:5 / /dev rw - devtmpfs devtmpfs rw
broken line
`
	got := parse(info)
	var targets []string
	for _, m := range got {
		targets = append(targets, m.target+" "+m.fstype)
	}
	want := []string{"/var/lib/docker x overlay", "/etc overlay", "/var ext4", "/dev devtmpfs", "/ erofs"}
	if d := cmp.Diff(want, targets); d != "" {
		t.Error(d)
	}
}
