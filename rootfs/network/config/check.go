package config

import "path"

// Check says what is wrong with a file of this name before a machine has it.
// dropIn: it is a part of such a file. Files of other kinds are not looked at.
func Check(name string, text []byte, dropIn bool) []Warning {
	var warnings []Warning
	source := []source{{path.Base(name), text}}
	switch path.Ext(name) {
	case ".network":
		_, warnings = parseNetwork(source)
	case ".netdev":
		_, _, warnings = parseNetdev(source)
	case ".link":
		_, warnings = parseLink(source)
	}
	if !dropIn {
		return warnings
	}
	kept := warnings[:0:0]
	for _, w := range warnings {
		if w.Line > 0 { // about the whole, which is elsewhere
			kept = append(kept, w)
		}
	}
	return kept
}
