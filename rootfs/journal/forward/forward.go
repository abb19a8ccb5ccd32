package forward

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"time"

	"github.com/coracle-os/coracle/rootfs/journal"
)

// Config says what to forward, where to, and where to remember how far.
type Config struct {
	Target Target
	Dirs   []string      // of the journal
	State  string        // file with the cursor of the last record received
	Start  uint64        // number of the first record to send when nothing is remembered
	Last   uint64        // number of the last record in the journal now
	Pause  time.Duration // before the first new attempt; doubles up to 10 s. 0 = 1 s
	Log    *slog.Logger
}

const (
	maxBatch    = 256       // records sent between two looks at what was received
	maxBytes    = 256 << 10 // the same in bytes
	dialTimeout = 10 * time.Second
	// sendTimeout is how long a receiver may take nothing before the
	// connection counts as dead.
	sendTimeout = 30 * time.Second
	firstPause  = time.Second
	longPause   = 10 * time.Second
	saveEvery   = time.Second
	// rescan finds records that no wake told of.
	rescan = 10 * time.Second
)

// Forwarder sends records. Run is its one goroutine.
type Forwarder struct {
	config   Config
	wake     chan struct{}
	stop     chan struct{} // closed: send what is there, then end
	source   source
	received uint64 // number of the last record received
	saved    uint64
	marks    []mark
	cursor   string // of received
	buffer   []byte
	records  []journal.Record
	away     bool // the receiver is, and it was said
}

// mark is how far the receiver was at a time.
type mark struct {
	at  time.Time
	seq uint64
}

// New makes a forwarder that goes on where the remembered cursor says. A cursor
// behind the end of the journal is of records that a power cut took: the
// numbers begin anew there, and so does the forwarding.
func New(config Config) *Forwarder {
	f := &Forwarder{config: config, wake: make(chan struct{}, 1), stop: make(chan struct{}), source: source{dirs: config.Dirs}}
	f.received = config.Start - min(config.Start, 1)
	if seq, cursor, err := loadState(config.State); err == nil && seq <= config.Last {
		f.received, f.cursor = seq, cursor
	} else if err == nil {
		f.received = config.Last
	}
	f.saved = f.received
	return f
}

// Wake says that there may be new records. It never waits.
func (f *Forwarder) Wake() {
	select {
	case f.wake <- struct{}{}:
	default:
	}
}

// Stop makes Run send what is in the journal now and return, or return at once
// while the receiver is away.
func (f *Forwarder) Stop() { close(f.stop) }

var errStopped = errors.New("stopped")

// Run sends until ctx ends, over as many connections as it takes. Problems are
// logged once for each time that the receiver is away.
func (f *Forwarder) Run(ctx context.Context) {
	defer f.source.close()
	defer f.save(time.Time{})
	first := cmp.Or(f.config.Pause, firstPause)
	for pause := first; ctx.Err() == nil; {
		before := f.received
		err := f.connection(ctx)
		f.save(time.Time{})
		if ctx.Err() != nil || errors.Is(err, errStopped) {
			return
		}
		if f.received > before {
			pause = first
		}
		if !f.away {
			f.away = true
			f.config.Log.Warn("the receiver of the journal is away; what is logged is kept for it and sent later", "receiver", f.config.Target, "err", err)
		}
		select {
		case <-ctx.Done():
		case <-f.stop:
			return
		case <-time.After(pause):
		}
		pause = min(2*pause, longPause)
	}
}

// connection sends over one connection until it ends.
func (f *Forwarder) connection(ctx context.Context) error {
	dialer := net.Dialer{Timeout: dialTimeout, KeepAlive: 15 * time.Second}
	conn, err := dialer.DialContext(ctx, f.config.Target.Network, f.config.Target.Address)
	if err != nil {
		return err
	}
	l := newLink(conn, f.config.Target)
	defer l.close()
	stop := context.AfterFunc(ctx, l.close)
	defer stop()
	f.source.seek(f.received + 1)
	for ctx.Err() == nil {
		n, err := f.batch()
		if err != nil {
			return err
		}
		if n == 0 {
			err := f.idle(ctx, l)
			if err != nil && !errors.Is(err, errStopped) {
				f.lost(err)
			}
			if err != nil {
				return err
			}
			continue
		}
		if err := l.send(f.buffer, f.records, sendTimeout); err != nil {
			f.lost(err)
			return err
		}
		f.arrived(time.Now())
	}
	return ctx.Err()
}

// batch reads and encodes what comes next.
func (f *Forwarder) batch() (n int, err error) {
	clear(f.records) // or they would keep their texts
	f.buffer, f.records = f.buffer[:0], f.records[:0]
	if cap(f.buffer) > 4*maxBytes {
		f.buffer = nil
	}
	for size := 0; len(f.records) < maxBatch && size < maxBytes; {
		record, err := f.source.read()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return 0, fmt.Errorf("read journal: %w", err)
		}
		last := f.received
		if n := len(f.records); n > 0 {
			last = f.records[n-1].Seq
		}
		if missing := record.Seq - last - 1; missing > 0 && last > 0 {
			f.config.Log.Warn("records were deleted before the receiver got them", "records", missing, "receiver", f.config.Target)
		}
		if f.config.Target.Network == "tcp" {
			if f.buffer, err = f.config.Target.encode(f.buffer, &record); err != nil {
				return 0, err
			}
		}
		f.records = append(f.records, record)
		for _, field := range record.Fields {
			size += len(field.Name) + len(field.Value)
		}
	}
	return len(f.records), nil
}

// arrived notes that the batch was received.
func (f *Forwarder) arrived(now time.Time) {
	last := &f.records[len(f.records)-1]
	f.marks = append(f.marks, mark{now, f.received})
	for len(f.marks) > 1 && now.Sub(f.marks[1].at) > unsure {
		f.marks = f.marks[1:]
	}
	f.received, f.cursor = last.Seq, last.Cursor()
	if f.away {
		f.away = false
		f.config.Log.Info("the receiver of the journal takes records again", "receiver", f.config.Target)
	}
	f.save(now)
}

// unsure is how long before the loss of a connection the receiver may have had
// records that it did not read.
const unsure = 5 * time.Second

// lost goes back to what the receiver surely has.
func (f *Forwarder) lost(err error) {
	if !errors.Is(err, errClosed) {
		now := time.Now()
		for i := len(f.marks) - 1; i >= 0 && now.Sub(f.marks[i].at) <= unsure; i-- {
			f.received, f.cursor = min(f.received, f.marks[i].seq), ""
		}
	}
	f.marks = nil
}

// idle waits for new records, or for the end of the connection.
func (f *Forwarder) idle(ctx context.Context, l *link) error {
	f.save(time.Time{})
	timer := time.NewTimer(rescan)
	defer timer.Stop()
	select {
	case <-f.wake:
	case <-timer.C:
	case <-ctx.Done():
	case <-l.ended:
		return l.reason()
	case <-f.stop:
		return errStopped
	}
	return nil
}
