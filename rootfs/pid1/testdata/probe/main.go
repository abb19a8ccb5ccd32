// Probe is the helper program of the contract's cases (cases.jsonl): it records
// how it was started and acts on simple words, so that the cases need no shell.
//
//	probe send PATH TEXT    connect to a Unix socket and send the text
//	probe argv ID args...   append {"argv":args,...} to /tmp/t/ID.json
//	probe do ID words...    run the words in order, log to /tmp/t/ID.log
//
// Words: TEXT (append the line TEXT), sleep:SEC, wait (for ever), exit:N,
// kill:SIG (itself), trap:SIG (log "got SIG", go on), ignore:SIG, notify:STR,
// ready, fork:SEC (background child, logs nothing), forkwait (child that waits),
// pidfile:PATH (pid of the last child), daemon:SEC (child leaves the session), out:TEXT, err:TEXT,
// mk:PATH, rm:PATH, has:PATH (exit 1 if missing), envfile:PATH:K=V, env:NAME (append
// "NAME=value" or "NAME unset"), fds (append LISTEN_* and the fd types),
// accept (accept one connection on fd 3, log what it sent, close), close.
package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"sort"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const dir = "/tmp/t"

func appendLine(name, line string) {
	f, err := os.OpenFile(filepath.Join(dir, name), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0666)
	if err != nil {
		fmt.Fprintln(os.Stderr, "probe:", err)
		os.Exit(99)
	}
	f.WriteString(line + "\n")
	f.Close()
}

func record(id string, args []string) {
	env := map[string]string{}
	for _, e := range os.Environ() {
		if i := strings.IndexByte(e, '='); i > 0 {
			env[e[:i]] = e[i+1:]
		}
	}
	var lim syscall.Rlimit
	syscall.Getrlimit(7, &lim) // RLIMIT_NOFILE
	cwd, _ := os.Getwd()
	oom, _ := os.ReadFile("/proc/self/oom_score_adj")
	nice, _ := syscall.Getpriority(syscall.PRIO_PROCESS, 0)
	um := syscall.Umask(0)
	groups, _ := os.Getgroups()
	sort.Ints(groups)
	raw, _ := os.ReadFile("/proc/self/cmdline")
	cg, _ := os.ReadFile("/proc/self/cgroup")
	lims, _ := os.ReadFile("/proc/self/limits")
	nofile := ""
	for _, l := range strings.Split(string(lims), "\n") {
		if strings.HasPrefix(l, "Max open files") {
			nofile = strings.Join(strings.Fields(l)[3:5], ":")
		}
	}
	b, _ := json.Marshal(map[string]interface{}{
		"argv": args, "argv0": strings.SplitN(string(raw), "\x00", 2)[0], "env": env, "cwd": cwd,
		"uid": os.Getuid(), "gid": os.Getgid(), "groups": groups, "nofile": nofile,
		"oom": strings.TrimSpace(string(oom)), "nice": 20 - nice, "umask": fmt.Sprintf("%04o", um),
		"cgroup": strings.TrimSpace(string(cg)),
	})
	appendLine(id+".json", string(b))
}

func sig(s string) syscall.Signal {
	m := map[string]syscall.Signal{"TERM": 15, "KILL": 9, "INT": 2, "HUP": 1, "USR1": 10, "USR2": 12, "PIPE": 13, "ABRT": 6, "SEGV": 11, "QUIT": 3, "CONT": 18}
	return m[s]
}

func notify(s string) {
	c, err := net.Dial("unixgram", os.Getenv("NOTIFY_SOCKET"))
	if err != nil {
		return
	}
	c.Write([]byte(s))
	c.Close()
}

func main() {
	if len(os.Args) < 3 {
		os.Exit(98)
	}
	if os.Args[1] == "send" {
		c, err := net.Dial("unix", os.Args[2])
		if err != nil {
			os.Exit(1)
		}
		io.WriteString(c, strings.Join(os.Args[3:], " "))
		c.Close()
		return
	}
	id := os.Args[2]
	if os.Args[1] == "argv" {
		record(id, append([]string{}, os.Args[3:]...))
		return
	}
	child := 0
	for _, w := range os.Args[3:] {
		k, v := w, ""
		if i := strings.IndexByte(w, ':'); i > 0 {
			k, v = w[:i], w[i+1:]
		}
		switch k {
		case "sleep":
			f, _ := strconv.ParseFloat(v, 64)
			time.Sleep(time.Duration(f * float64(time.Second)))
		case "wait":
			time.Sleep(time.Hour)
		case "exit":
			n, _ := strconv.Atoi(v)
			os.Exit(n)
		case "kill":
			signal.Reset(sig(v))
			syscall.Kill(os.Getpid(), sig(v))
			time.Sleep(5 * time.Second)
		case "trap":
			c := make(chan os.Signal, 8)
			signal.Notify(c, sig(v))
			go func(n string) {
				for range c {
					appendLine(id+".log", "got "+n)
				}
			}(v)
		case "trapexit":
			c := make(chan os.Signal, 8)
			signal.Notify(c, sig(v))
			go func(n string) {
				<-c
				appendLine(id+".log", "got "+n)
				os.Exit(0)
			}(v)
		case "ignore":
			signal.Ignore(sig(v))
		case "notify":
			notify(v)
		case "ready":
			notify("READY=1")
		case "fork", "forkwait", "daemon":
			args := []string{"do", id}
			switch k {
			case "fork":
				args = append(args, "sleep:"+v)
			case "daemon":
				args = append(args, "sleep:"+v)
			default:
				args = append(args, "trapexit:TERM", "wait")
			}
			c := exec.Command("/tmp/t/probe", args...)
			if k == "daemon" {
				c.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
			}
			if err := c.Start(); err != nil {
				os.Exit(97)
			}
			child = c.Process.Pid
		case "pidfile":
			os.WriteFile(v, []byte(strconv.Itoa(child)+"\n"), 0644)
		case "out":
			fmt.Println(v)
		case "err":
			fmt.Fprintln(os.Stderr, v)
		case "mk":
			os.WriteFile(v, []byte("x\n"), 0644)
		case "rm":
			os.Remove(v)
		case "has":
			if _, err := os.Stat(v); err != nil {
				os.Exit(1)
			}
		case "envfile":
			p := strings.SplitN(v, ":", 2)
			os.WriteFile(p[0], []byte(p[1]+"\n"), 0644)
		case "env":
			if s, ok := os.LookupEnv(v); ok {
				appendLine(id+".log", v+"="+s)
			} else {
				appendLine(id+".log", v+" unset")
			}
		case "fds":
			me := "other"
			if os.Getenv("LISTEN_PID") == strconv.Itoa(os.Getpid()) {
				me = "self"
			}
			appendLine(id+".log", "LISTEN_FDS="+os.Getenv("LISTEN_FDS")+" LISTEN_PID="+me+" LISTEN_FDNAMES="+os.Getenv("LISTEN_FDNAMES"))
		case "accept":
			l, err := net.FileListener(os.NewFile(3, "s"))
			if err != nil {
				appendLine(id+".log", "err "+err.Error())
				os.Exit(1)
			}
			c, err := l.Accept()
			if err != nil {
				os.Exit(1)
			}
			b, _ := io.ReadAll(c)
			appendLine(id+".log", "conn "+strings.TrimSpace(string(b)))
			c.Close()
		case "stdin":
			b, _ := io.ReadAll(os.Stdin)
			appendLine(id+".log", "stdin "+strings.TrimSpace(string(b)))
		default:
			appendLine(id+".log", w)
		}
	}
}
