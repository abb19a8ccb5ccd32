package updatectl

import (
	"encoding/json"
	"fmt"
	"net"
	"time"
)

// Socket is where update-engine listens.
const Socket = "/run/update-engine.sock"

// A Request is one line of JSON to the engine. Verbs that change something are
// for root; "status" and "history" are for everybody.
type Request struct {
	Verb    string `json:"verb"` // status, check, apply, rollback, history, channel
	File    string `json:"file,omitempty"`
	Channel string `json:"channel,omitempty"`
	Force   bool   `json:"force,omitempty"` // apply: a release in quarantine too
}

// A Response is one line of JSON from the engine. Those before the last one,
// which has Done, say what goes on.
type Response struct {
	Message string   `json:"message,omitempty"`
	Status  *Status  `json:"status,omitempty"`
	History []Record `json:"history,omitempty"`
	Error   string   `json:"error,omitempty"`
	Done    bool     `json:"done,omitempty"`
}

// Status is the engine as it is now.
type Status struct {
	Phase       string    `json:"phase"`
	Version     string    `json:"version"` // running
	RootHash    string    `json:"rootHash"`
	Slot        string    `json:"slot"`
	Channel     string    `json:"channel"`
	Servers     []string  `json:"servers"`
	Floor       string    `json:"floor,omitempty"`
	Target      string    `json:"target,omitempty"` // version on its way
	Percent     int       `json:"percent,omitempty"`
	Armed       string    `json:"armed,omitempty"` // version that the next boot tries
	Note        string    `json:"note,omitempty"`  // what the last check found
	Error       string    `json:"error,omitempty"` // why the last one failed
	LastCheck   time.Time `json:"lastCheck,omitzero"`
	LastContact time.Time `json:"lastContact,omitzero"` // with good metadata
	NextCheck   time.Time `json:"nextCheck,omitzero"`
	Quarantine  []string  `json:"quarantine,omitempty"` // "version roothash: reason"
}

// Record is one line of the history.
type Record struct {
	Time     time.Time `json:"time"`
	Kind     string    `json:"kind"`
	Version  string    `json:"version,omitempty"`
	RootHash string    `json:"rootHash,omitempty"`
	Channel  string    `json:"channel,omitempty"`
	Reason   string    `json:"reason,omitempty"`
	Evidence string    `json:"evidence,omitempty"`
	Bytes    int64     `json:"bytes,omitempty"`
}

// Call sends a request to the engine at socket and hands each response but the
// last to progress. The last one's error is returned as an error.
func Call(socket string, request Request, progress func(Response)) (Response, error) {
	conn, err := net.Dial("unix", socket)
	if err != nil {
		return Response{}, fmt.Errorf("ask update-engine: %w; is update-engine.service running?", err)
	}
	defer conn.Close()
	if err := json.NewEncoder(conn).Encode(request); err != nil {
		return Response{}, fmt.Errorf("ask update-engine: %w", err)
	}
	for d := json.NewDecoder(conn); ; {
		var r Response
		if err := d.Decode(&r); err != nil {
			return Response{}, fmt.Errorf("ask update-engine: it went away: %w", err)
		}
		if !r.Done {
			progress(r)
			continue
		}
		if r.Error != "" {
			return r, fmt.Errorf("%s", r.Error)
		}
		return r, nil
	}
}
