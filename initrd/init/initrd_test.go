package main

import (
	"errors"
	"testing"
)

func TestUnpackProblem(t *testing.T) {
	for log, want := range map[string]string{
		"": "",
		"<6>[    0.7] Trying to unpack rootfs image as initramfs...\n<6>[    1.2] Freeing initrd memory: 9000K\n":          "",
		"<6>[    0.7] a\n<0>[    3.1] Initramfs unpacking failed: ZSTD-compressed data is corrupt\n<6>[    3.2] Freeing\n": "ZSTD-compressed data is corrupt",
		"<0>[    3.1] Initramfs unpacking failed: write error":                                                             "write error",
	} {
		if got := unpackProblem([]byte(log)); got != want {
			t.Errorf("%q: %q, want %q", log, got, want)
		}
	}
}

func TestBecause(t *testing.T) {
	missing := errors.New("modules: no such file")
	if got := because(missing, ""); got != missing {
		t.Errorf("an initrd that is whole: %v", got)
	}
	damaged := because(missing, "corrupt")
	if want := "modules: no such file; the initrd is damaged, on the disk or in memory: corrupt"; damaged.Error() != want || !errors.Is(damaged, missing) {
		t.Errorf("%v, want %s", damaged, want)
	}
	if got := because(damaged, "corrupt"); got != damaged {
		t.Errorf("said twice: %v", got)
	}
}
