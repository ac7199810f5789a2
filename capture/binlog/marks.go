package binlog

import (
	"slices"
	"strings"

	"github.com/tandem-dc/tandem/shared/event"
	"github.com/tandem-dc/tandem/shared/ledger"
)

// ledgerRing is the number of slots in a ledger. apply never runs further ahead of its
// low-water mark than that.
const ledgerRing = ledger.RingSize

// marks follows from the ledger rows in the binlog what this server has applied
// from every origin: the newest epoch, and the largest sequence up to
// which nothing is missing.
type marks struct {
	origins map[string]*progress
	shared  []event.Mark // handed out; replaced, never changed
}

type progress struct {
	epoch, low uint64
	above      map[uint64]struct{} // applied, but something below is missing
}

// add books that a transaction was applied.
func (m *marks) add(origin string, epoch, seq uint64) {
	if epoch == 0 || seq == 0 || event.CheckName(origin) != nil {
		return // an empty slot
	}
	if m.origins == nil {
		m.origins = map[string]*progress{}
	}
	p := m.origins[origin]
	if p == nil || epoch > p.epoch {
		p = &progress{epoch: epoch, above: map[uint64]struct{}{}}
		m.origins[origin] = p
	}
	if epoch < p.epoch || seq <= p.low {
		return
	}
	before := p.low
	p.above[seq] = struct{}{}
	if seq > ledgerRing && seq-ledgerRing > p.low {
		p.low = seq - ledgerRing
		for s := range p.above {
			if s <= p.low {
				delete(p.above, s)
			}
		}
	}
	for {
		if _, ok := p.above[p.low+1]; !ok {
			break
		}
		p.low++
		delete(p.above, p.low)
	}
	if p.low != before {
		m.publish()
	}
}

// raise books that everything up to seq is applied.
func (m *marks) raise(origin string, epoch, seq uint64) {
	if seq == 0 {
		return
	}
	m.add(origin, epoch, seq)
	if p := m.origins[origin]; p != nil && p.epoch == epoch && p.low < seq {
		p.low = seq
		for s := range p.above {
			if s <= seq {
				delete(p.above, s)
			}
		}
		m.publish()
	}
}

func (m *marks) publish() {
	shared := make([]event.Mark, 0, len(m.origins))
	for origin, p := range m.origins {
		if p.low > 0 {
			shared = append(shared, event.Mark{Origin: origin, Epoch: p.epoch, Sequence: p.low})
		}
	}
	slices.SortFunc(shared, func(a, b event.Mark) int { return strings.Compare(a.Origin, b.Origin) })
	m.shared = shared
}

// read adds the state of an origin as the ledger itself tells it.
func (m *marks) read(origin string, s ledger.State) {
	if s.Epoch == 0 {
		return
	}
	m.raise(origin, s.Epoch, s.Low)
	for _, seq := range s.Done {
		m.add(origin, s.Epoch, seq)
	}
}
