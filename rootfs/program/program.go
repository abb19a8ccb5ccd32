// Package program is the shape that every program of a multi-call binary has,
// so that the binary's main is a table from names to values of type Main and
// each program can be called from a test with buffers for its streams.
package program

import (
	"context"
	"io"
)

// Stdio holds the three standard streams of a program.
type Stdio struct {
	In       io.Reader
	Out, Err io.Writer
}

// Main runs a program. args[0] is the name that it was called by; the result
// is its exit code. A Main never calls os.Exit.
type Main func(ctx context.Context, args []string, stdio Stdio) int
