package journald

import (
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/coracle-os/coracle/rootfs/journal"
	"github.com/coracle-os/coracle/rootfs/journal/store"
)

const (
	maxWaiting      = 8192    // records
	maxWaitingBytes = 8 << 20 // of fields
	// patience is how long senders wait for a disk that does not keep up,
	// before records are dropped instead.
	patience   = 500 * time.Millisecond
	retryFlush = 30 * time.Second
)

// queue passes records from the receiver to the writer.
type queue struct {
	mutex    sync.Mutex
	filled   chan struct{} // something is waiting
	drained  chan struct{} // the writer took everything
	waiting  []journal.Record
	bytes    int
	stalled  bool // senders wait no more until the writer catches up
	lost     int
	closed   bool
	commands chan os.Signal
	interval time.Duration
	stored   func() // called after records were stored; nil = nobody listens
}

func newQueue(sync time.Duration) *queue {
	return &queue{filled: make(chan struct{}, 1), drained: make(chan struct{}, 1), commands: make(chan os.Signal, 4), interval: sync}
}

// push adds records. When too many wait it waits for the writer, but not for
// long; then it drops them and counts.
func (q *queue) push(records []journal.Record) {
	size := 0
	for i := range records {
		for _, f := range records[i].Fields {
			size += len(f.Value)
		}
	}
	if q.add(records, size) {
		return
	}
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-q.drained:
	case <-timer.C:
	}
	if !q.add(records, size) {
		q.mutex.Lock()
		q.stalled = true
		q.lost += len(records)
		q.mutex.Unlock()
	}
}

// add reports whether the records were taken or dropped for good.
func (q *queue) add(records []journal.Record, size int) bool {
	q.mutex.Lock()
	defer q.mutex.Unlock()
	if len(q.waiting) > 0 && (len(q.waiting)+len(records) > maxWaiting || q.bytes+size > maxWaitingBytes) {
		if q.stalled {
			q.lost += len(records)
			return true
		}
		select {
		case <-q.drained: // of an earlier time
		default:
		}
		return false
	}
	q.waiting, q.bytes = append(q.waiting, records...), q.bytes+size
	q.signal()
	return true
}

// own adds a record of the writer itself, which must not wait for itself.
func (q *queue) own(record journal.Record) {
	q.mutex.Lock()
	defer q.mutex.Unlock()
	q.waiting = append(q.waiting, record)
	q.signal()
}

func (q *queue) signal() {
	select {
	case q.filled <- struct{}{}:
	default:
	}
}

func (q *queue) command(s os.Signal) {
	select {
	case q.commands <- s:
	default:
	}
}

func (q *queue) close() {
	q.mutex.Lock()
	defer q.mutex.Unlock()
	q.closed = true
	q.signal()
}

// take returns what waits.
func (q *queue) take() (records []journal.Record, lost int, closed bool) {
	q.mutex.Lock()
	defer q.mutex.Unlock()
	records, lost, closed = q.waiting, q.lost, q.closed
	q.waiting, q.bytes, q.lost, q.stalled = nil, 0, 0, false
	select {
	case q.drained <- struct{}{}:
	default:
	}
	return records, lost, closed
}

// write stores records until the queue is closed. kept may be nil: then they
// are dropped.
func (q *queue) write(kept *store.Store, log *slog.Logger, retention time.Duration, dir string) {
	w := &writer{queue: q, store: kept, log: log, syncs: make(chan error, 1)}
	defer w.close()
	flush := time.NewTicker(retryFlush)
	defer flush.Stop()
	sync := time.NewTimer(time.Hour)
	sync.Stop()
	for {
		select {
		case <-q.filled:
			records, lost, closed := q.take()
			if w.put(records, lost) {
				sync.Reset(q.interval)
			}
			if closed && len(records) == 0 {
				return
			}
			if closed {
				q.signal()
			}
		case <-sync.C:
			w.sync()
		case <-flush.C:
			w.flush(false)
			if retention > 0 && kept != nil {
				store.VacuumTime(dir, time.Now().Add(-retention), kept.Path())
			}
		case command := <-q.commands:
			w.command(command)
		case <-w.syncs:
			w.syncing = false
		}
	}
}

// writer is the state of the writing goroutine.
type writer struct {
	queue   *queue
	store   *store.Store
	dirty   bool
	syncing bool
	syncs   chan error
	log     *slog.Logger
	failed  int // records that could not be stored, not yet told
}

// put stores a batch; it reports whether this is the first unsynced one.
func (w *writer) put(records []journal.Record, lost int) (first bool) {
	if w.store == nil || len(records) == 0 && lost == 0 {
		return false
	}
	if lost += w.failed; lost > 0 {
		records = append(records, missed(records, lost))
	}
	if err := w.store.Write(records); err != nil {
		w.failed = lost + len(records)
		return false
	}
	if w.failed = 0; w.queue.stored != nil {
		w.queue.stored()
	}
	first, w.dirty = !w.dirty, true
	for i := range records {
		if records[i].Priority() <= journal.Crit {
			w.sync()
			break
		}
	}
	return first
}

// missed is the record about records that are lost.
func missed(records []journal.Record, n int) journal.Record {
	var r journal.Record
	if len(records) > 0 {
		r = records[len(records)-1]
	}
	r.Fields = []journal.Field{{Name: "_TRANSPORT", Value: "driver"}, {Name: "SYSLOG_IDENTIFIER", Value: identifier}, {Name: "PRIORITY", Value: "4"},
		{Name: "MESSAGE", Value: fmt.Sprintf("Lost %d messages: the journal could not be written fast enough or at all", n)}}
	if r.Realtime == 0 {
		r.Realtime, r.Monotonic = clock()
	}
	return r
}

// sync starts a sync beside the writing.
func (w *writer) sync() {
	w.dirty = false
	if w.store == nil || w.syncing {
		return
	}
	if sync := w.store.Syncer(); sync != nil {
		w.syncing = true
		go func() { w.syncs <- sync() }()
	}
}

func (w *writer) flush(asked bool) {
	if w.store == nil || w.store.Persistent() {
		return
	}
	if err := w.store.Flush(); err != nil && asked {
		w.log.Warn("flush journal to the state partition", "err", err)
	}
}

func (w *writer) command(s os.Signal) {
	if w.store == nil {
		return
	}
	switch s {
	case signalFlush:
		w.flush(true)
	case signalRotate:
		w.store.Rotate()
	case signalSync:
		w.sync()
	}
}

func (w *writer) close() {
	if w.syncing {
		<-w.syncs
	}
	if w.store != nil {
		w.store.Close()
	}
}
