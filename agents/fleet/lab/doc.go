// Package lab tests the scheduler as a whole, on one computer: a machine is a
// network name space with our init as process 1 of name spaces of its own, and
// in it fleetd as a service that this init starts, watches and restarts; the members of the key-value store are processes in network
// name spaces too. There is nothing but tests here.
//
// Cables are pulled, processes killed and frozen, machines lose power. What the
// units did is told by the units themselves: each writes down when it begins,
// that it runs, and when it ends, by the boot clock that all machines here
// share. Left out: a jump of the wall clock, which no name space has; nothing of
// the agent reads that clock.
package lab
