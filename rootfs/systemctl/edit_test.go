package systemctl

import "testing"

func TestEdited(t *testing.T) {
	head := "### Editing /etc/x\n" + editAbove + "\n"
	for text, want := range map[string]string{
		head + "\n\n" + editBelow + "\n# [Service]\n":             "",
		head + "[Service]\nNice=1\n\n" + editBelow + "\nNice=2\n": "[Service]\nNice=1\n",
		"[Unit]\n": "[Unit]\n", // the comments were removed
	} {
		if have := edited(text); have != want {
			t.Errorf("%q gives %q, want %q", text, have, want)
		}
	}
}
