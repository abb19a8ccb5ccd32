// Package rosetta says whether programs run under Apple's Rosetta translator.
// The docker client asks it in order to show "(rosetta)" in `docker version`.
// A Coracle machine is never such a machine, so every answer is the constant
// one; the module that the client's authors name is no longer published.
package rosetta

// Available reports whether Rosetta is installed.
func Available() bool { return false }

// Enabled reports whether this process is being translated.
func Enabled() bool { return false }

// NativeArch returns the architecture of the processor, in uname's words.
func NativeArch() string { return "x86_64" }

// Enable would turn the translator on; there is none.
func Enable() error { return nil }
