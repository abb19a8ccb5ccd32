package service

// StatusName returns the name of an exit status that PID 1 or the C library
// gives a meaning to, as in systemd.exec(5), or "".
func StatusName(status int) string {
	names := map[int]string{0: "SUCCESS", 1: "FAILURE", 2: "INVALIDARGUMENT", 3: "NOTIMPLEMENTED", 4: "NOPERMISSION",
		5: "NOTINSTALLED", 6: "NOTCONFIGURED", 7: "NOTRUNNING", 200: "CHDIR", 201: "NICE", 202: "FDS", 203: "EXEC",
		205: "LIMITS", 206: "OOM_ADJUST", 207: "SIGNAL_MASK", 208: "STDIN", 209: "STDOUT", 210: "CHROOT", 216: "GROUP",
		217: "USER", 218: "CAPABILITIES", 219: "CGROUP", 220: "SETSID", 222: "STDERR", 226: "NAMESPACE",
		227: "NO_NEW_PRIVILEGES", 233: "RUNTIME_DIRECTORY", 238: "STATE_DIRECTORY", 239: "CACHE_DIRECTORY",
		240: "LOGS_DIRECTORY", 241: "CONFIGURATION_DIRECTORY", 228: "SECCOMP", 243: "CREDENTIALS", 255: "EXCEPTION", 204: "MEMORY", 211: "STDERR",
		213: "RUNTIME_DIRECTORY", 214: "SETSCHEDULER", 215: "CPUAFFINITY"}
	return names[status]
}
