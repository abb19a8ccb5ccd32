package v2

import (
	"context"
	"encoding/json"
	"net/http"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// selfStats is /v2/stats/self. The counts of messages between peers are not
// kept any more and stay 0; their rates are absent, as they are when zero.
type selfStats struct {
	Name       string    `json:"name"`
	ID         string    `json:"id"`
	State      string    `json:"state"`
	StartTime  time.Time `json:"startTime"`
	LeaderInfo struct {
		Leader    string    `json:"leader"`
		Uptime    string    `json:"uptime"`
		StartTime time.Time `json:"startTime"`
	} `json:"leaderInfo"`
	RecvAppendRequests uint64 `json:"recvAppendRequestCnt"`
	SendAppendRequests uint64 `json:"sendAppendRequestCnt"`
}

func (m *member) statsSelf(w http.ResponseWriter, r *http.Request) {
	if !allowed(w, r, http.MethodGet) {
		return
	}
	s := selfStats{Name: m.server.Cfg.Name, ID: m.server.MemberID().String(), StartTime: m.began}
	leader := m.server.Leader()
	switch leader {
	case m.server.MemberID():
		s.State = "StateLeader"
	case 0:
		s.State = "StateCandidate"
	default:
		s.State = "StateFollower"
	}
	if leader != 0 {
		s.LeaderInfo.Leader = leader.String()
	}
	s.LeaderInfo.StartTime = m.began
	s.LeaderInfo.Uptime = time.Since(m.began).String()
	writeJSON(w, http.StatusOK, s)
}

func (m *member) statsStore(w http.ResponseWriter, r *http.Request) {
	if allowed(w, r, http.MethodGet) {
		writeJSON(w, http.StatusOK, m.store.Counts())
	}
}

// followerStats is one follower in /v2/stats/leader. Times of messages are not
// kept any more and stay 0.
type followerStats struct {
	Latency struct {
		Current           float64 `json:"current"`
		Average           float64 `json:"average"`
		StandardDeviation float64 `json:"standardDeviation"`
		Minimum           float64 `json:"minimum"`
		Maximum           float64 `json:"maximum"`
	} `json:"latency"`
	Counts struct {
		Fail    uint64 `json:"fail"`
		Success uint64 `json:"success"`
	} `json:"counts"`
}

func (m *member) statsLeader(w http.ResponseWriter, r *http.Request) {
	if !allowed(w, r, http.MethodGet) {
		return
	}
	self := m.server.MemberID()
	if m.server.Leader() != self {
		writeMessage(w, http.StatusForbidden, "not current leader")
		return
	}
	followers := map[string]followerStats{}
	for _, member := range m.server.Cluster().Members() {
		if member.ID != self {
			followers[member.ID.String()] = followerStats{}
		}
	}
	writeJSON(w, http.StatusOK, map[string]any{"leader": self.String(), "followers": followers})
}

// healthStatus is /health. Clients of version 2 look for the string "true";
// the reason is etcd 3's and only there when there is one.
type healthStatus struct {
	Health string `json:"health"`
	Reason string `json:"reason,omitempty"`
}

// health says whether the member has a leader, no alarm and, unless the
// request says serializable=true, the cluster's agreement.
func (m *member) health(w http.ResponseWriter, r *http.Request) {
	if !allowed(w, r, http.MethodGet) {
		return
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	status := healthStatus{Health: "true"}
	if reason := m.ill(r); reason != "" {
		status = healthStatus{Health: "false", Reason: reason}
	}
	code := http.StatusOK
	if status.Reason != "" {
		code = http.StatusServiceUnavailable
	}
	writeHealth(w, code, status)
}

// ill says why the member cannot serve, or "".
func (m *member) ill(r *http.Request) string {
	query := r.URL.Query()
	for _, alarm := range m.server.Alarms() {
		excluded := false
		for _, name := range query["exclude"] {
			excluded = excluded || name == alarm.Alarm.String()
		}
		if !excluded {
			return "ALARM " + alarm.Alarm.String()
		}
	}
	local := query.Get("serializable") == "true"
	if !local && m.server.Leader() == 0 {
		return "RAFT NO LEADER"
	}
	ctx, cancel := m.timeout(r.Context())
	defer cancel()
	err := m.engine.AsRoot(ctx, func(ctx context.Context) error {
		_, err := m.server.Range(ctx, &pb.RangeRequest{Key: []byte{0}, KeysOnly: true, Limit: 1, Serializable: local})
		return err
	})
	if err != nil {
		return "RANGE ERROR:" + err.Error()
	}
	return ""
}

func writeHealth(w http.ResponseWriter, code int, status healthStatus) {
	b, _ := json.Marshal(status) // two strings
	w.WriteHeader(code)
	_, _ = w.Write(b)
}
