package care

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/concurrency"
	"go.uber.org/zap"
	"golang.org/x/sys/unix"
)

// Every is the time between two looks, and again the time until the first has
// succeeded: a member that has just started may have no leader yet.
const (
	Every = time.Minute
	again = 2 * time.Second
)

// lockKey is what members defragment under. The v2 API hides it.
const lockKey = "/_coracle/kv/defragment"

// lockWait bounds the wait for the lock: another member's turn may take long,
// and there is another look.
const lockWait = 10 * time.Second

// Keeper looks after one member.
type Keeper struct {
	Config
	Client *clientv3.Client // of this member alone
	// Authorize lets what is done with a context do everything, also while the
	// store has users.
	Authorize func(context.Context) context.Context
	Quota     int64 // bytes
	// Shrink gives the empty part of the member's file back.
	Shrink func() error
	Tell   func(string) // Words, when they have changed
	Now    func() time.Time
	Log    *zap.Logger // the member's own

	lastDefragment time.Time
	told           string
}

// Run looks after the member until ctx ends.
func (k *Keeper) Run(ctx context.Context) {
	for {
		if err := k.Look(ctx); err != nil && ctx.Err() == nil {
			k.Log.Warn("cannot look after the member", zap.Error(err))
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(k.pause()):
		}
	}
}

// pause is the time until the next look. A task that fails, such as a snapshot
// on a full disk, waits its turn.
func (k *Keeper) pause() time.Duration {
	if k.told == "" {
		return again
	}
	return Every
}

// Look looks once and does what is to be done.
func (k *Keeper) Look(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(k.Authorize(ctx), 10*time.Minute)
	defer cancel()
	s, err := k.state(ctx)
	if err != nil {
		return fmt.Errorf("look at the member: %w", err)
	}
	if words := Words(k.Config, s); words != k.told {
		k.told = words
		k.Tell(words)
	}
	for _, t := range Decide(k.Config, s) {
		k.Log.Info(string(t.Kind), zap.String("reason", t.Reason))
		if err := k.do(ctx, t, s); err != nil {
			return fmt.Errorf("%s: %w", t.Kind, err)
		}
	}
	return nil
}

func (k *Keeper) do(ctx context.Context, t Task, s State) error {
	switch t.Kind {
	case Snapshot:
		return k.snapshot(ctx, s)
	case HandOver:
		return k.handOver(ctx)
	case Defragment:
		return k.defragment(ctx)
	}
	return fmt.Errorf("no such task")
}

func (k *Keeper) state(ctx context.Context) (State, error) {
	status, err := k.Client.Status(ctx, "")
	if err != nil {
		return State{}, err
	}
	members, err := k.Client.MemberList(ctx)
	if err != nil {
		return State{}, err
	}
	names := map[uint64]string{}
	for _, m := range members.Members {
		names[m.ID] = m.Name
	}
	alarms, err := k.Client.AlarmList(ctx)
	if err != nil {
		return State{}, err
	}
	s := State{
		Now: k.Now(), Members: len(members.Members), Leader: status.Leader == status.Header.MemberId,
		Revision: status.Header.Revision, Size: status.DbSize, InUse: status.DbSizeInUse, Quota: k.Quota,
		LastDefragment: k.lastDefragment,
	}
	for _, a := range alarms.Alarms {
		name := names[a.MemberID]
		if name == "" {
			name = fmt.Sprintf("%x", a.MemberID)
		}
		s.Alarms = append(s.Alarms, Alarm{Kind: a.Alarm.String(), Member: name})
	}
	if k.Interval <= 0 {
		return s, nil
	}
	if err := os.MkdirAll(k.Dir, 0o700); err != nil {
		return s, err
	}
	var fs unix.Statfs_t
	if err := unix.Statfs(k.Dir, &fs); err != nil {
		return s, fmt.Errorf("look at the space in %q: %w", k.Dir, err)
	}
	s.Free = int64(fs.Bavail) * fs.Bsize
	if all := snapshots(k.Dir); len(all) > 0 {
		s.LastSnapshot, s.SnapshotRevision = all[len(all)-1].time, all[len(all)-1].revision
	}
	return s, nil
}

// kept is a snapshot by its name.
type kept struct {
	file     string
	time     time.Time
	revision int64
}

const stampLayout = "20060102T150405Z"

// snapshotName says when it was made, and of which revision.
func snapshotName(t time.Time, revision int64) string {
	return fmt.Sprintf("snapshot-%s-%d.db", t.UTC().Format(stampLayout), revision)
}

// snapshots lists those in dir, the oldest first; other files are not looked at.
func snapshots(dir string) []kept {
	files, _ := filepath.Glob(filepath.Join(dir, "snapshot-*.db"))
	var all []kept
	for _, f := range files {
		parts := strings.Split(strings.TrimSuffix(filepath.Base(f), ".db"), "-")
		if len(parts) != 3 {
			continue
		}
		at, err1 := time.Parse(stampLayout, parts[1])
		revision, err2 := strconv.ParseInt(parts[2], 10, 64)
		if err1 == nil && err2 == nil {
			all = append(all, kept{f, at, revision})
		}
	}
	slices.SortFunc(all, func(a, b kept) int { return a.time.Compare(b.time) })
	return all
}

// snapshot writes one under a temporary name, as `etcdctl snapshot save` does,
// and removes those that are too many.
func (k *Keeper) snapshot(ctx context.Context, s State) (err error) {
	left, _ := filepath.Glob(filepath.Join(k.Dir, ".new-*"))
	for _, f := range left { // of a process that was killed
		_ = os.Remove(f)
	}
	from, err := k.Client.Snapshot(ctx)
	if err != nil {
		return err
	}
	defer from.Close()
	f, err := os.CreateTemp(k.Dir, ".new-*")
	if err != nil {
		return err
	}
	_, err = io.Copy(f, from)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	if err := os.Rename(f.Name(), filepath.Join(k.Dir, snapshotName(s.Now, s.Revision))); err != nil {
		return err
	}
	all := snapshots(k.Dir)
	for _, old := range all[:max(0, len(all)-max(1, k.Keep))] {
		if err := os.Remove(old.file); err != nil {
			return err
		}
	}
	return nil
}

// handOver gives the leadership to another voting member that answers.
func (k *Keeper) handOver(ctx context.Context) error {
	status, err := k.Client.Status(ctx, "")
	if err != nil {
		return err
	}
	members, err := k.Client.MemberList(ctx)
	if err != nil {
		return err
	}
	err = errors.New("there is no other voting member")
	for _, m := range members.Members {
		if m.ID == status.Header.MemberId || m.IsLearner {
			continue
		}
		if _, err = k.Client.MoveLeader(ctx, m.ID); err == nil {
			return nil
		}
	}
	return err
}

// defragment waits for its turn among the members, and gives the empty part of
// the file back.
func (k *Keeper) defragment(ctx context.Context) error {
	session, err := concurrency.NewSession(k.Client, concurrency.WithTTL(60), concurrency.WithContext(ctx))
	if err != nil {
		return err
	}
	defer session.Close()
	mutex := concurrency.NewMutex(session, lockKey)
	wait, cancel := context.WithTimeout(ctx, lockWait)
	defer cancel()
	if err := mutex.Lock(wait); err != nil {
		return fmt.Errorf("another member has its turn: %w", err)
	}
	defer mutex.Unlock(context.WithoutCancel(ctx))
	if err := k.Shrink(); err != nil {
		return err
	}
	k.lastDefragment = k.Now()
	return nil
}
