package kv

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/coracle-os/coracle/agents/kv/admission"
	"github.com/coracle-os/coracle/agents/kv/care"
	"github.com/coracle-os/coracle/agents/kv/datadir"
	"github.com/coracle-os/coracle/agents/kv/heal"
	"github.com/coracle-os/coracle/agents/kv/keeper"
	"github.com/coracle-os/coracle/agents/kv/peers"
	"github.com/coracle-os/coracle/agents/kv/v2"
	"github.com/coreos/go-systemd/v22/daemon"
	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.etcd.io/etcd/server/v3/embed"
	"go.etcd.io/etcd/server/v3/etcdserver/api/v3client"
	"go.etcd.io/etcd/server/v3/storage"
	"go.uber.org/zap"
)

// standbySize is the wanted number of members of a cluster that began with one
// and admits more: the smallest that survives a loss.
const standbySize = 3

// member runs this machine's member until ctx ends or it fails; errRemoved
// means that it is none any more and that its data is out of the way.
func (m *machine) member(ctx context.Context, cfg embed.Config) error {
	state, err := m.dir.Load()
	if err != nil {
		return err
	}
	k := keeper.New(keeper.Config{
		Settings: heal.Settings{On: m.forming.Heal, Delay: m.forming.RemoveDelay, Size: m.size(cfg, state)},
		Peers:    m.peers, Log: m.log, Remember: m.remember,
	})
	handlers := maps.Clone(cfg.UserHandlers)
	if handlers == nil {
		handlers = map[string]http.Handler{}
	}
	handlers[admission.Path] = admission.Handler(m.token(), k.Answer)
	api := v2.New()
	maps.Copy(handlers, api.Paths())
	cfg.UserHandlers = handlers
	e, err := embed.StartEtcd(&cfg)
	if err != nil {
		return fmt.Errorf("start etcd: %w", err)
	}
	stop := api.Start(e.Server)
	err = m.serve(ctx, e, k)
	stop()
	gone := err != nil && m.removed(ctx, e, state)
	e.Close()
	if !gone {
		return err
	}
	return m.setAside(e, k.Undisturbed(time.Now()))
}

// serve waits for the member's end and tells the service manager when it
// answers.
func (m *machine) serve(ctx context.Context, e *embed.Etcd, k *keeper.Keeper) error {
	select {
	case <-e.Server.ReadyNotify():
	case <-e.Server.StopNotify():
		return errors.New("run etcd: the member stopped before it was ready")
	case err := <-e.Err():
		return fmt.Errorf("run etcd: %w", err)
	case <-ctx.Done():
		return nil
	}
	m.sayReady("STATUS=etcd " + e.Server.MemberID().String() + " is a member of the cluster " + e.Server.Cluster().ID().String())
	releaseMemory()
	keeping, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	wg.Go(func() { k.Run(keeping, e.Server) })
	wg.Go(func() { lookAfter(e, m.cfg, m.backup, m.log).Run(keeping) })
	defer wg.Wait()
	defer cancel()
	select {
	case <-ctx.Done():
		notify(m.log, daemon.SdNotifyStopping)
		return nil
	case err := <-e.Err():
		return fmt.Errorf("run etcd: %w", err)
	case <-e.Server.StopNotify():
		return errors.New("run etcd: the member stopped")
	}
}

// size is the number of members that the cluster is kept at.
func (m *machine) size(cfg embed.Config, state datadir.State) int {
	switch {
	case m.forming.Size > 0:
		return m.forming.Size
	case state.Cluster != nil && state.Cluster.Size > 0:
		return state.Cluster.Size
	}
	n := 1
	list := cfg.InitialCluster
	if cfg.DNSCluster != "" {
		list = m.resolve()
	}
	if urls, err := types.NewURLsMap(list); err == nil && list != "" {
		n = len(urls)
	}
	if n <= 1 && m.token() != "" {
		return standbySize
	}
	return n
}

// removed asks the other members whether this one, which has stopped by
// itself, is still one of them.
func (m *machine) removed(ctx context.Context, e *embed.Etcd, state datadir.State) bool {
	if ctx.Err() != nil {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	self, cluster := e.Server.MemberID(), e.Server.Cluster()
	var others []string
	for _, one := range cluster.Members() {
		if one.ID != self && len(one.PeerURLs) > 0 {
			others = append(others, one.PeerURLs[0])
		}
	}
	answers := peers.AskAll(ctx, m.peers, others)
	if len(answers) > 0 { // the members of today may be others
		others = nil
		for _, one := range answers[0].Members {
			if one.ID != uint64(self) && len(one.PeerURLs) > 0 {
				others = append(others, one.PeerURLs[0])
			}
		}
		answers = peers.AskAll(ctx, m.peers, others)
	}
	return peers.Removed(answers, uint64(cluster.ID()), uint64(self))
}

// setAside makes room for a new beginning: first it is noted that the member
// was removed, then its data is moved, so that after a power cut in between
// the same is found again.
func (m *machine) setAside(e *embed.Etcd, lived bool) error {
	state, err := m.dir.Load()
	if err != nil {
		return err
	}
	c := datadir.Cluster{}
	if state.Cluster != nil {
		c = *state.Cluster
	}
	self := e.Server.MemberID()
	c.ID, c.Member, c.Removed = e.Server.Cluster().ID().String(), self.String(), true
	c.Dismissed = lived && e.Server.IsIDRemoved(uint64(self)) // it took part in its own removal
	for _, one := range e.Server.Cluster().Members() {
		if one.ID != self {
			c.Peers = append(c.Peers, one.PeerURLs...)
		}
	}
	if err := m.dir.Save(datadir.State{Cluster: &c}); err != nil {
		return err
	}
	moved, err := m.dir.SetAside(m.cfg.WalDir, time.Now())
	if err != nil {
		return err
	}
	m.log.Warn(fmt.Sprintf("forming: the member %s of this data directory was removed from the cluster %s: its data is stale and was moved to %s, delete it when nobody needs it",
		c.Member, c.ID, strings.Join(moved, ", ")))
	return errRemoved
}

// remember keeps what a restart of this machine must know of its cluster.
func (m *machine) remember(c datadir.Cluster) {
	if err := m.dir.Save(datadir.State{Cluster: &c}); err != nil {
		m.log.Warn("the cluster's members cannot be remembered", zap.Error(err))
	}
}

// lookAfter is the keeper of a member that runs.
func lookAfter(e *embed.Etcd, cfg *embed.Config, c care.Config, log *zap.Logger) *care.Keeper {
	quota := cfg.QuotaBackendBytes
	if quota == 0 {
		quota = storage.DefaultQuotaBytes
	}
	return &care.Keeper{
		Config: c, Client: v3client.New(e.Server), Authorize: e.Server.AuthStore().WithRoot, Quota: quota, Shrink: e.Server.Backend().Defrag, Now: time.Now,
		Tell: func(words string) { notify(log, "STATUS="+words) },
		Log:  log,
	}
}
