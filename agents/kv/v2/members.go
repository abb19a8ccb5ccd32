package v2

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"

	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.etcd.io/etcd/server/v3/etcdserver/api/membership"
)

// memberInfo is a member as version 2 shows it.
type memberInfo struct {
	ID         string   `json:"id"`
	Name       string   `json:"name"`
	PeerURLs   []string `json:"peerURLs"`
	ClientURLs []string `json:"clientURLs"`
}

func info(m *membership.Member) memberInfo {
	list := func(s []string) []string { return append([]string{}, s...) }
	return memberInfo{ID: m.ID.String(), Name: m.Name, PeerURLs: list(m.PeerURLs), ClientURLs: list(m.ClientURLs)}
}

// members serves /v2/members.
func (m *member) members(w http.ResponseWriter, r *http.Request) {
	if !allowed(w, r, http.MethodGet, http.MethodPost, http.MethodDelete, http.MethodPut) {
		return
	}
	if r.Method != http.MethodGet && !m.administrator(w, r) {
		return
	}
	m.clusterHeader(w)
	sub := strings.TrimPrefix(strings.TrimPrefix(r.URL.Path, "/v2/members"), "/")
	switch r.Method {
	case http.MethodGet:
		m.listMembers(w, sub)
	case http.MethodPost:
		m.addMember(w, r)
	default:
		m.changeMember(w, r, sub)
	}
}

func (m *member) listMembers(w http.ResponseWriter, sub string) {
	switch sub {
	case "":
		list := []memberInfo{}
		for _, member := range m.server.Cluster().Members() {
			list = append(list, info(member))
		}
		writeJSON(w, http.StatusOK, map[string]any{"members": list})
	case "leader":
		leader := m.server.Cluster().Member(m.server.Leader())
		if leader == nil {
			writeMessage(w, http.StatusServiceUnavailable, "During election")
			return
		}
		writeJSON(w, http.StatusOK, info(leader))
	default:
		writeMessage(w, http.StatusNotFound, "Not found")
	}
}

// peerURLs reads the body of a request that changes members.
func peerURLs(w http.ResponseWriter, r *http.Request) (types.URLs, bool) {
	if kind := r.Header.Get("Content-Type"); kind != "application/json" {
		writeMessage(w, http.StatusUnsupportedMediaType, fmt.Sprintf("Bad Content-Type %s, accept application/json", kind))
		return nil, false
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 1<<20))
	var req struct {
		PeerURLs []string `json:"peerURLs"`
	}
	if err == nil {
		err = json.Unmarshal(body, &req)
	}
	var urls types.URLs
	if err == nil {
		urls, err = types.NewURLs(req.PeerURLs)
	}
	if err != nil {
		writeMessage(w, http.StatusBadRequest, err.Error())
		return nil, false
	}
	return urls, true
}

func (m *member) addMember(w http.ResponseWriter, r *http.Request) {
	urls, ok := peerURLs(w, r)
	if !ok {
		return
	}
	now := time.Now()
	added := membership.NewMember("", urls, "", &now)
	ctx, cancel := m.timeout(r.Context())
	defer cancel()
	err := m.engine.AsRoot(ctx, func(ctx context.Context) error {
		_, err := m.server.AddMember(ctx, *added)
		return err
	})
	if err != nil {
		memberError(w, added.ID.String(), err)
		return
	}
	writeJSON(w, http.StatusCreated, info(added))
}

func (m *member) changeMember(w http.ResponseWriter, r *http.Request, sub string) {
	if sub == "" {
		http.Error(w, "Method Not Allowed", http.StatusMethodNotAllowed)
		return
	}
	id, err := types.IDFromString(sub)
	if err != nil {
		writeMessage(w, http.StatusNotFound, fmt.Sprintf("No such member: %s", sub))
		return
	}
	change := func(ctx context.Context) error {
		_, err := m.server.RemoveMember(ctx, uint64(id))
		return err
	}
	if r.Method == http.MethodPut {
		urls, ok := peerURLs(w, r)
		if !ok {
			return
		}
		change = func(ctx context.Context) error {
			_, err := m.server.UpdateMember(ctx, membership.Member{ID: id,
				RaftAttributes: membership.RaftAttributes{PeerURLs: urls.StringSlice()}})
			return err
		}
	}
	ctx, cancel := m.timeout(r.Context())
	defer cancel()
	err = m.engine.AsRoot(ctx, change)
	if err != nil {
		memberError(w, id.String(), err)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

func memberError(w http.ResponseWriter, id string, err error) {
	switch {
	case errors.Is(err, membership.ErrIDExists), errors.Is(err, membership.ErrPeerURLexists):
		writeMessage(w, http.StatusConflict, err.Error())
	case errors.Is(err, membership.ErrIDRemoved):
		writeMessage(w, http.StatusGone, "Member permanently removed: "+id)
	case errors.Is(err, membership.ErrIDNotFound):
		writeMessage(w, http.StatusNotFound, "No such member: "+id)
	default:
		writeMessage(w, http.StatusInternalServerError, err.Error())
	}
}

// machines serves /v2/machines, from which older clients learn the members.
func (m *member) machines(w http.ResponseWriter, r *http.Request) {
	if !allowed(w, r, http.MethodGet, http.MethodHead) {
		return
	}
	var urls []string
	for _, member := range m.server.Cluster().Members() {
		urls = append(urls, member.ClientURLs...)
	}
	slices.Sort(urls)
	_, _ = io.WriteString(w, strings.Join(urls, ", "))
}
