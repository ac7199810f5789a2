package publish

import (
	"time"

	"github.com/segmentio/kafka-go"
)

// queue holds every record between Publish and the frontier. It is pure: the
// caller locks it and brings the time.
type queue struct {
	cfg Config

	waiting      []record // not yet in a batch, oldest first
	waitingBytes int
	retry        []*batch      // refused or lost, to be sent again before anything else
	sent         []*batch      // on the wire, oldest first
	answered     time.Time     // when the newest acknowledged batch had been sent
	roundTrip    time.Duration // from sending to the acknowledgement, smoothed

	last     uint64            // newest index given out
	frontier uint64            // every index up to here is acknowledged
	beyond   map[uint64]uint64 // acknowledged ranges above the frontier: first to last
	bytes    int64             // of records that are not acknowledged
}

type record struct {
	id     string
	msg    kafka.Message
	size   int
	queued time.Time
}

// batch is a run of consecutive records that share a produce request.
type batch struct {
	first, last uint64
	records     []record
	size        int
	sentAt      time.Time
	copies      int // requests on the wire
	hedged      bool
	acked       bool
	failures    int
}

// A record batch's own header, and the most that one record's and one header's
// lengths, deltas and attributes take beside the bytes they frame.
const (
	batchOverhead  = 61
	recordOverhead = 40
	headerOverhead = 10
)

// content counts the bytes that m cannot do without.
func content(m *kafka.Message) int {
	n := len(m.Key) + len(m.Value)
	for i := range m.Headers {
		n += len(m.Headers[i].Key) + len(m.Headers[i].Value)
	}
	return n
}

// frame counts what the record may take in a batch.
func frame(m *kafka.Message) int {
	return content(m) + recordOverhead + headerOverhead*len(m.Headers)
}

func newQueue(cfg Config) queue { return queue{cfg: cfg, beyond: map[uint64]uint64{}} }

// hasRoom reports whether a record of size bytes may enter. A single record may
// be larger than the bound.
func (q *queue) hasRoom(size int) bool {
	if q.last == q.frontier {
		return true
	}
	return q.last-q.frontier < uint64(q.cfg.MaxInFlight) && q.bytes+int64(size) <= q.cfg.MaxInFlightBytes
}

func (q *queue) push(r record) uint64 {
	q.last++
	q.waiting = append(q.waiting, r)
	q.waitingBytes += r.size
	q.bytes += int64(r.size)
	return q.last
}

// take returns what an idle connection shall send now: nil if nothing, with the
// time after which to ask again (0: only a push or an answer can change it).
func (q *queue) take(now time.Time) (*batch, time.Duration) {
	if len(q.retry) > 0 {
		b := q.retry[0]
		q.retry = q.retry[1:]
		return q.send(b, now), 0
	}
	hedge, again := q.overdue(now)
	if hedge != nil {
		hedge.copies++
		hedge.hedged = true
		return hedge, 0
	}
	if len(q.waiting) == 0 {
		return nil, again
	}
	if due := q.linger() - now.Sub(q.waiting[0].queued); len(q.sent) > 0 && due > 0 && q.waitingBytes < q.cfg.MaxBatchBytes {
		return nil, earlier(again, due)
	}
	return q.send(q.cut(), now), 0
}

// linger is how long a record waits for company. The scarcer free connections
// get, the longer: batches that leave as fast as they come would take all
// connections at once, and everything after would wait for most of a round trip, again and again.
// In balance seven of ten connections are busy.
func (q *queue) linger() time.Duration {
	n := time.Duration(q.cfg.Connections)
	gap := 2 * time.Duration(len(q.sent)) * q.roundTrip / (n * n)
	return max(q.cfg.Linger, min(gap, maxGap))
}

const maxGap = 50 * time.Millisecond

// measured takes a sample of the round trip.
func (q *queue) measured(d time.Duration) {
	if q.roundTrip == 0 {
		q.roundTrip = d
	}
	q.roundTrip += (d - q.roundTrip) / 8
}

// overdue returns the oldest batch whose answer is late while batches that were
// sent after it have theirs: its connection is to blame, not the broker.
func (q *queue) overdue(now time.Time) (*batch, time.Duration) {
	if q.cfg.Hedge == 0 {
		return nil, 0
	}
	for _, b := range q.sent {
		if b.hedged {
			continue
		}
		if !b.sentAt.Before(q.answered) {
			return nil, 0
		}
		due := q.cfg.Hedge - now.Sub(b.sentAt)
		if due <= 0 {
			return b, 0
		}
		return nil, due
	}
	return nil, 0
}

func earlier(a, b time.Duration) time.Duration {
	if a == 0 || b < a {
		return b
	}
	return a
}

func (q *queue) send(b *batch, now time.Time) *batch {
	b.sentAt = now
	b.copies++
	b.hedged = false
	q.sent = append(q.sent, b)
	return b
}

// cut makes a batch of the oldest waiting records.
func (q *queue) cut() *batch {
	b := &batch{first: q.last - uint64(len(q.waiting)) + 1, size: batchOverhead}
	n := 0
	for n < len(q.waiting) && (n == 0 || b.size+q.waiting[n].size <= q.cfg.MaxBatchBytes) {
		b.size += q.waiting[n].size
		n++
	}
	b.records = q.waiting[:n:n]
	b.last = b.first + uint64(n) - 1
	q.waitingBytes -= b.size - batchOverhead
	if q.waiting = q.waiting[n:]; len(q.waiting) == 0 {
		q.waiting = nil
	}
	return b
}

// ack takes the broker's word that b is in the log, and reports whether the
// frontier moved.
func (q *queue) ack(b *batch, now time.Time) bool {
	b.copies--
	if b.acked {
		return false
	}
	if !b.hedged {
		q.measured(now.Sub(b.sentAt))
	}
	b.acked = true
	if b.sentAt.After(q.answered) {
		q.answered = b.sentAt
	}
	q.remove(b)
	q.bytes -= int64(b.size - batchOverhead)
	b.records = nil
	q.beyond[b.first] = b.last
	moved := false
	for {
		last, ok := q.beyond[q.frontier+1]
		if !ok {
			return moved
		}
		delete(q.beyond, q.frontier+1)
		q.frontier, moved = last, true
	}
}

// fail puts b back unless a copy of it is still on the wire or arrived.
func (q *queue) fail(b *batch) {
	b.copies--
	b.failures++
	if b.acked || b.copies > 0 {
		return
	}
	q.remove(b)
	q.retry = append(q.retry, b)
}

// split puts b back as one batch per record: the broker took it for too large.
func (q *queue) split(b *batch) {
	b.copies--
	if b.acked || b.copies > 0 {
		return
	}
	q.remove(b)
	for i, r := range b.records {
		index := b.first + uint64(i)
		q.retry = append(q.retry, &batch{first: index, last: index, records: b.records[i : i+1 : i+1], size: batchOverhead + r.size})
	}
}

func (q *queue) remove(b *batch) {
	for i := range q.sent {
		if q.sent[i] == b {
			q.sent = append(q.sent[:i], q.sent[i+1:]...)
			return
		}
	}
}
