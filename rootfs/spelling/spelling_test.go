package spelling

import "testing"

func TestNearest(t *testing.T) {
	words := []string{"name", "hostname", "Address", "Gateway"}
	for text, want := range map[string]string{
		"nmae": "name", "Adress": "Address", "Gatewayy": "Gateway", "hostnmae": "hostname",
		"name": "", "nm": "", "colour": "", "": "", "adress": "Address",
	} {
		if got := Nearest(text, words); got != want {
			t.Errorf("Nearest(%q) = %q, want %q", text, got, want)
		}
	}
}
