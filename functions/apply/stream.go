package apply

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/tandem-dc/tandem/shared/event"
	"github.com/tandem-dc/tandem/shared/ledger"
)

// stream is one origin's events. Its fields are under Function.mu, but for opening.
type stream struct {
	origin string
	lag    *lagHistogram

	opening sync.Mutex // held while the ledger is read or moved to another epoch

	order    *order     // nil until opened
	newest   uint64     // largest sequence of the epoch that is known to exist
	heard    event.Meta // newest heartbeat
	recorded time.Time  // when a heartbeat was last written
	beyond   bool       // tandem.pending holds more than is in order
	reloadAt uint64     // low at which it is looked at again
	pending  int        // rows of tandem.pending, as last counted
}

// maxStreams bounds how many origins there may be: each lays out a ring.
const maxStreams = 64

// stream returns the stream of an origin, opened.
func (f *Function) stream(ctx context.Context, origin string) (*stream, error) {
	f.mu.Lock()
	i := slices.IndexFunc(f.streams, func(s *stream) bool { return s.origin == origin })
	if i < 0 {
		if len(f.streams) >= maxStreams {
			f.mu.Unlock()
			return nil, fmt.Errorf("origin %s: there are streams of %d datacenters already", origin, maxStreams)
		}
		f.streams = append(f.streams, &stream{origin: origin, lag: newLagHistogram()})
		i = len(f.streams) - 1
	}
	s := f.streams[i]
	open := s.order != nil
	f.mu.Unlock()
	if open {
		return s, nil
	}
	s.opening.Lock()
	defer s.opening.Unlock()
	f.mu.Lock()
	open = s.order != nil
	f.mu.Unlock()
	if open {
		return s, nil
	}
	state, err := f.openLedger(ctx, origin)
	if err != nil {
		return nil, err
	}
	if err := f.blocked.load(ctx, f.side); err != nil {
		return nil, err
	}
	f.mu.Lock()
	s.order = newOrder(state)
	s.newest = max(state.Low, last(state.Done))
	f.mu.Unlock()
	f.log.InfoContext(ctx, "stream opened", "origin", origin, "epoch", state.Epoch, "low", state.Low, "above", len(state.Done))
	f.kickSweep()
	return s, nil
}

func (f *Function) openLedger(ctx context.Context, origin string) (ledger.State, error) {
	state, err := ledger.Read(ctx, f.side, origin)
	if err != nil || state.Slots == ledger.RingSize {
		return state, err
	}
	if err := ledger.Fill(ctx, f.side, origin); err != nil {
		return state, err
	}
	return ledger.Read(ctx, f.side, origin)
}

func last(done []uint64) uint64 {
	if len(done) == 0 {
		return 0
	}
	return done[len(done)-1]
}

// advance moves a stream to a larger epoch, for all instances.
func (f *Function) advance(ctx context.Context, s *stream, epoch uint64) error {
	s.opening.Lock()
	defer s.opening.Unlock()
	f.mu.Lock()
	have := s.order.epoch
	f.mu.Unlock()
	if have >= epoch {
		return nil
	}
	if err := ledger.Advance(ctx, f.side, s.origin, epoch); err != nil {
		return err
	}
	state, err := ledger.Read(ctx, f.side, s.origin)
	if err != nil {
		return err
	}
	f.supersede(ctx, s, state)
	return nil
}

// supersede replaces a stream's order by that of a larger epoch. What waited in
// the old one is dropped; what runs finds its claim refused.
func (f *Function) supersede(ctx context.Context, s *stream, state ledger.State) {
	f.mu.Lock()
	defer f.mu.Unlock()
	old := s.order
	if old.epoch >= state.Epoch {
		return
	}
	s.order = newOrder(state)
	s.newest = max(state.Low, last(state.Done))
	s.beyond = true
	dropped := 0
	for _, e := range old.entries {
		if e.place != placeRunning {
			f.endLocked(e, resultStale, nil)
			dropped++
		}
	}
	level := f.log.InfoContext
	if dropped > 0 {
		level = f.log.WarnContext
	}
	level(ctx, "stream has a new epoch; events of older ones are dropped", "origin", s.origin,
		"epoch", state.Epoch, "before", old.epoch, "low_before", old.low, "dropped", dropped)
}

// refresh takes over what other instances have applied. It reports whether
// that was anything.
func (f *Function) refresh(ctx context.Context, s *stream) (bool, error) {
	state, err := ledger.Read(ctx, f.side, s.origin)
	if err != nil {
		return false, err
	}
	// The keys of what others have parked, before anything that waited for it may run.
	if err := f.blocked.load(ctx, f.side); err != nil {
		return false, err
	}
	f.mu.Lock()
	epoch := s.order.epoch
	if state.Epoch != epoch {
		f.mu.Unlock()
		if state.Epoch > epoch {
			f.supersede(ctx, s, state)
		}
		return true, nil
	}
	defer f.mu.Unlock()
	before := s.order.low + uint64(len(s.order.done))
	applied, _ := s.order.merge(state)
	for _, e := range applied {
		f.endLocked(e, resultDuplicate, nil)
	}
	s.newest = max(s.newest, state.Low, last(state.Done))
	f.wakeLocked(s.order)
	return s.order.low+uint64(len(s.order.done)) > before, nil
}

// endLocked ends an entry for good and answers all who wait for it.
func (f *Function) endLocked(e *entry, r result, err error) {
	j := e.job
	if e.place != placeGone {
		f.dropLocked(e)
		j.order.withdraw(e)
	}
	select {
	case <-j.done:
		return
	default:
	}
	j.result, j.err = r, err
	j.txn, j.data = nil, nil
	close(j.done)
	f.metrics.count(r)
}

// dropLocked takes an entry out of the count of those that are held in memory.
func (f *Function) dropLocked(e *entry) {
	if j := e.job; j.held {
		f.held--
		f.bytes -= j.size
		j.held = false
	}
}

// wakeLocked wakes workers for what is ready.
func (f *Function) wakeLocked(o *order) {
	switch n := len(o.ready); {
	case n == 1:
		f.work.Signal()
	case n > 1:
		f.work.Broadcast()
	}
}
