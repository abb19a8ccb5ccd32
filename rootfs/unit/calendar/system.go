package calendar

import (
	"os"
	"time"
)

// System returns the zones of this machine. Unlike time.Local it looks at
// /etc/localtime each time, for programs that run longer than a setting lasts;
// without that file it is UTC.
func System() Zones {
	z := Zones{Local: time.UTC, Load: time.LoadLocation}
	if data, err := os.ReadFile("/etc/localtime"); err == nil {
		if local, err := time.LoadLocationFromTZData("Local", data); err == nil {
			z.Local = local
		}
	}
	return z
}
