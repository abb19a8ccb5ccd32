package supervisor

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/coracle-os/coracle/rootfs/reap"
	"github.com/coracle-os/coracle/rootfs/service"
)

// commandRun is how the latest process of one command of a service went. A new
// copy of PID 1 starts without them.
type commandRun struct {
	pid        int
	begun, end time.Time
	exit       reap.Exit
}

// commandRuns are those of the commands of each phase, in their order.
type commandRuns map[service.Phase][]commandRun

func (r commandRuns) began(p service.Phase, pid int) {
	r[p] = append(r[p], commandRun{pid: pid, begun: time.Now()})
}

func (r commandRuns) ended(e reap.Exit) {
	for _, list := range r {
		for i := range list {
			if list[i].pid == e.PID && list[i].end.IsZero() {
				list[i].end, list[i].exit = time.Now(), e
			}
		}
	}
}

const notRun = "start_time=[n/a] ; stop_time=[n/a] ; pid=0 ; code=(null) ; status=0/0 }"

// describe fills in what systemctl show prints of the commands of a phase.
func (r commandRuns) describe(p service.Phase, property string) string {
	lines := strings.Split(property, "\n")
	for i, run := range r[p] {
		if i < len(lines) {
			lines[i] = strings.Replace(lines[i], notRun, run.String(), 1)
		}
	}
	return strings.Join(lines, "\n")
}

func (r commandRun) String() string {
	code, status := "(null)", "0/0"
	switch {
	case r.end.IsZero():
	case r.exit.Core:
		code, status = "dumped", strconv.Itoa(int(r.exit.Signal))
	case r.exit.Signal != 0:
		code, status = "killed", strconv.Itoa(int(r.exit.Signal))
	default:
		code, status = "exited", strconv.Itoa(r.exit.Status)
	}
	stop := "[n/a]"
	if !r.end.IsZero() {
		stop = "[" + stampText(r.end) + "]"
	}
	return fmt.Sprintf("start_time=[%s] ; stop_time=%s ; pid=%d ; code=%s ; status=%s }", stampText(r.begun), stop, shown(r.pid), code, status)
}
