package pipeline

import (
	"sync"
	"time"

	"github.com/tandem-dc/tandem/capture/binlog"
)

// point is a place in the stream: everything up to Position is behind it, and
// Sequence is the newest number given out by then.
type point struct {
	sequence uint64
	position binlog.Position
	through  time.Time // the source was read up to this time
}

// differs reports whether q would be another checkpoint.
func (p point) differs(q point) bool {
	return p.sequence != q.sequence || p.position != q.position
}

// progress follows events from the reader to the acknowledgement and knows how
// far the checkpoint may go.
type progress struct {
	mu      sync.Mutex
	sent    uint64 // index of the newest event handed to the producer
	read    point  // newest point read
	done    point  // everything up to here is acknowledged or needs no sending
	pending []pending
}

type pending struct {
	index uint64
	at    time.Time // when it was handed to the producer
	point
}

func newProgress(start point) *progress { return &progress{read: start, done: start} }

// sending books the next event before the producer gets it, so that no
// acknowledgement can come first. It returns the producer's index for it.
func (p *progress) sending(to point, now time.Time) uint64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.sent++
	p.read = to
	p.pending = append(p.pending, pending{p.sent, now, to})
	return p.sent
}

// passed books a position up to which nothing (more) has to be sent. It waits for the
// events before it.
func (p *progress) passed(position binlog.Position, through time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.read.position = position
	if through.After(p.read.through) {
		p.read.through = through
	}
	if n := len(p.pending); n > 0 {
		p.pending[n-1].point = p.read
		return
	}
	p.done = p.read
}

// acked takes the producer's word that every event up to index is in the log,
// and calls each with the times of those that are new.
func (p *progress) acked(index uint64, each func(handed time.Time)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := 0
	for n < len(p.pending) && p.pending[n].index <= index {
		p.done = p.pending[n].point
		each(p.pending[n].at)
		n++
	}
	if p.pending = p.pending[n:]; len(p.pending) == 0 {
		p.pending = nil
	}
}

func (p *progress) points() (read, done point) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.read, p.done
}
