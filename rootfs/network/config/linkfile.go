package config

// LinkFile is one .link file: the name and the basics of a device when it
// appears.
type LinkFile struct {
	File     string
	Match    Match  // Name is OriginalName=
	Name     string // "" = as it is
	MAC      string
	MTU      int
	Alias    string
	AltNames []string
}

// ParseLink reads the text of a .link file.
func ParseLink(file string, text []byte) (LinkFile, []Warning) {
	return parseLink([]source{{file, text}})
}

func parseLink(sources []source) (LinkFile, []Warning) {
	l := LinkFile{File: sources[0].file}
	r := &reader{}
	r.each(sources, func(s section) {
		switch s.name {
		case "Match":
			fill(r, s, matchKeys(func(l *LinkFile) *Match { return &l.Match }, "OriginalName"), &l)
		case "Link":
			fill(r, s, deviceKeys, &l)
		default:
			r.unknown(s, "Match", "Link")
		}
	})
	if l.Match.Empty() {
		r.warn(0, "no [Match] section with a known key: the file is for no interface")
	}
	return l, r.warnings
}

var deviceKeys = table[LinkFile]{
	"Description":     ignored[LinkFile],
	"Name":            word(func(l *LinkFile) *string { return &l.Name }, linkName),
	"MACAddress":      word(func(l *LinkFile) *string { return &l.MAC }, macAddress),
	"MTUBytes":        mtu(func(l *LinkFile) *int { return &l.MTU }),
	"Alias":           word(func(l *LinkFile) *string { return &l.Alias }, nil),
	"WakeOnLan":       never[LinkFile]("it is left as the firmware has it"),
	"AlternativeName": list(func(l *LinkFile) *[]string { return &l.AltNames }, nil),
	// The kernel names devices here, and there is no database of names: what
	// remains of the policies is to leave things as they are.
	"NamePolicy":             policy("kernel", "keep", ""),
	"AlternativeNamesPolicy": policy(""),
	"MACAddressPolicy":       policy("persistent", "none", ""),
}

// policy takes the policies that mean what happens anyway.
func policy(known ...string) field[LinkFile] {
	return func(_ *LinkFile, value string) error {
		_, err := choice(value, known)
		return err
	}
}
