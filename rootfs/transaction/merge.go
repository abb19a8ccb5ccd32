package transaction

// merged returns the one job that does what two jobs of the same unit want;
// false if they contradict each other.
func merged(a, b Type) (Type, bool) {
	if a == b {
		return a, true
	}
	if rank(a) < rank(b) {
		a, b = b, a
	}
	switch {
	case a == Stop || b == Stop:
		return "", false
	case b == Nop:
		return a, true
	case a == Restart:
		return Restart, true
	case a == ReloadOrStart:
		return ReloadOrStart, true
	case a == Reload && b == Start:
		return ReloadOrStart, true
	case a == Reload:
		return Reload, true
	}
	return Start, true
}

func rank(t Type) int {
	switch t {
	case Nop:
		return 0
	case VerifyActive:
		return 1
	case Start:
		return 2
	case Reload:
		return 3
	case ReloadOrStart:
		return 4
	case Restart:
		return 5
	}
	return 6
}

// conflicting tells if two jobs cannot be one.
func conflicting(a, b Type) bool {
	_, ok := merged(a, b)
	return !ok
}

// collapse turns a type that depends on the unit's state into a plain one.
func collapse(t Type, s State) Type {
	down := s == Inactive || s == Failed
	switch t {
	case TryRestart, TryReload:
		switch {
		case down || s == Deactivating:
			return Nop
		case t == TryReload:
			return Reload
		}
		return Restart
	case ReloadOrStart:
		if down {
			return Start
		}
		return Reload
	}
	return t
}

// redundant tells if a unit is already where a job wants it.
func redundant(t Type, s State) bool {
	switch t {
	case Start, VerifyActive:
		return s == Active || s == Reloading
	case Stop:
		return s == Inactive || s == Failed
	case Reload:
		return s == Reloading
	case Nop:
		return true
	}
	return false
}

// Precedes tells if job a must be over before job b begins, given that a's unit
// is ordered before b's (before) or after it. A stop goes first, and of two
// stops that of the later unit; a restart counts as a stop.
func Precedes(a, b Job, before bool) bool {
	if a.Type == Nop || b.Type == Nop || a.IgnoreOrder || b.IgnoreOrder {
		return false
	}
	if before {
		return !stops(b.Type)
	}
	return stops(a.Type)
}

func stops(t Type) bool { return t == Stop || t == Restart }
