package property

import (
	"cmp"
	"strings"

	"github.com/coracle-os/coracle/rootfs/seccomp"
	"github.com/coracle-os/coracle/rootfs/unit"
)

func (p props) sandbox(e *unit.ExecContext) {
	s := e.Sandbox
	p.yes("DynamicUser", e.DynamicUser)
	p["ProtectSystem"], p["ProtectHome"] = cmp.Or(s.ProtectSystem, "no"), cmp.Or(s.ProtectHome, "no")
	for name, on := range map[string]bool{"PrivateTmp": s.PrivateTmp, "PrivateDevices": s.PrivateDevices, "PrivateNetwork": s.PrivateNetwork,
		"PrivateMounts": s.PrivateMounts, "ProtectKernelTunables": s.ProtectKernelTunables, "ProtectKernelModules": s.ProtectKernelModules,
		"ProtectKernelLogs": s.ProtectKernelLogs, "ProtectControlGroups": s.ProtectControlGroups, "ProtectHostname": s.ProtectHostname, "ProtectClock": s.ProtectClock} {
		p.yes(name, on)
	}
	p.calls(s.Calls)
	r := s.Calls
	if r == nil {
		r = &seccomp.Rules{}
	}
	for name, on := range map[string]bool{"MemoryDenyWriteExecute": r.WriteExecute, "RestrictRealtime": r.Realtime, "RestrictSUIDSGID": r.SetID || e.DynamicUser,
		"LockPersonality": r.Personality, "PrivateIPC": s.PrivateIPC} {
		p.yes(name, on)
	}
	p["ProtectProc"], p["ProcSubset"] = cmp.Or(s.ProtectProc, "default"), cmp.Or(s.ProcSubset, "all")
	p["ReadWritePaths"] = strings.Join(s.ReadWritePaths, " ")
	p["ReadOnlyPaths"] = strings.Join(s.ReadOnlyPaths, " ")
	p["InaccessiblePaths"] = strings.Join(s.InaccessiblePaths, " ")
	p["CapabilityBoundingSet"] = strings.Join(unit.CapabilityNames(unit.AllCapabilities&^s.Dropped()), " ")
	p["AmbientCapabilities"] = strings.Join(unit.CapabilityNames(s.AmbientCapabilities), " ")
}
