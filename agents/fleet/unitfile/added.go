package unitfile

import (
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/coracle-os/coracle/rootfs/unit/timespan"
)

// Bounds of the options that fleet did not have.
const (
	MaxReplicas = 10000
	maxCPU      = 1 << 20 // processors
)

// added reads the options that fleet did not have. The last value counts and
// an empty one is none, as in systemd.
func (r *reader) added() {
	r.option(optCPU, func(value string) (err error) {
		r.req.CPU, err = parseCPU(value)
		return err
	})
	r.option(optMemory, func(value string) error {
		bytes, err := timespan.ParseSize(value)
		if err == nil && bytes > math.MaxInt64 {
			err = fmt.Errorf("parse size %q: it is larger than 8 EiB", value)
		}
		if err == nil {
			r.req.Memory = int64(bytes)
		}
		return err
	})
	r.option(optReplicas, func(value string) (err error) {
		r.req.Replicas, err = parseCount(value)
		return err
	})
	r.option(optMaxPerMachine, func(value string) (err error) {
		r.req.MaxPerMachine, err = parseCount(value)
		return err
	})
	r.option(optSpreadOver, func(value string) error {
		if strings.ContainsAny(value, " \t\"=") {
			return fmt.Errorf("%q is not a key of machines' metadata: write one key, for example %q", value, "rack")
		}
		r.req.SpreadOver = value
		return nil
	})
	r.option(optFence, func(value string) error {
		switch strings.ToLower(value) {
		case "1", "yes", "y", "true", "t", "on":
		case "0", "no", "n", "false", "f", "off":
			r.req.NoFence = true
		default:
			return fmt.Errorf("%q is neither yes nor no", value)
		}
		return nil
	})
}

// option gives the value that counts to read and keeps its error.
func (r *reader) option(name string, read func(string) error) {
	value, ok := r.last(name)
	if !ok || value == "" {
		return
	}
	if err := read(value); err != nil && r.err == nil {
		r.err = fmt.Errorf("%s= in section [X-Fleet]: %w", name, err)
	}
}

// parseCPU reads a number of processors ("2", "0.5") or thousandths of one
// ("500m"), in thousandths.
func parseCPU(s string) (int64, error) {
	bad := fmt.Errorf("%q is not a number of processors: write for example %q, %q or %q", s, "2", "0.5", "500m")
	if thousandths, ok := strings.CutSuffix(s, "m"); ok {
		n, err := strconv.ParseUint(thousandths, 10, 31)
		if err != nil || n > maxCPU*1000 {
			return 0, bad
		}
		return int64(n), nil
	}
	whole, fraction, dotted := strings.Cut(s, ".")
	if dotted && (fraction == "" || len(fraction) > 3) {
		return 0, bad
	}
	n, err := strconv.ParseUint(whole, 10, 31)
	if err != nil || n > maxCPU {
		return 0, bad
	}
	part, err := strconv.ParseUint((fraction + "000")[:3], 10, 31)
	if err != nil {
		return 0, bad
	}
	return int64(n*1000 + part), nil
}

// parseCount reads a number of copies.
func parseCount(s string) (int, error) {
	n, err := strconv.ParseUint(s, 10, 31)
	if err != nil || n < 1 || n > MaxReplicas {
		return 0, fmt.Errorf("%q is not a number from 1 to %d (for no copy at all, stop the unit)", s, MaxReplicas)
	}
	return int(n), nil
}
