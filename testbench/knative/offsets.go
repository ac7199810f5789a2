package knative

import "sync"

// tracker knows how far the records of one partition are finished without a gap.
type tracker struct {
	mu        sync.Mutex
	next      int64 // offset to commit: everything received below is finished
	received  int64 // one past the newest received record
	finished  map[int64]bool
	pending   []int64 // received and not yet passed by next, ascending
	committed int64
}

func newTracker(start int64) *tracker {
	return &tracker{next: start, received: start, committed: start, finished: map[int64]bool{}}
}

// receive notes a record that is being delivered. Offsets rise, not always by one.
func (t *tracker) receive(offset int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.pending = append(t.pending, offset)
	t.received = offset + 1
}

// finish notes that a record needs no delivery any more, whatever became of it.
func (t *tracker) finish(offset int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.finished[offset] = true
	for len(t.pending) > 0 && t.finished[t.pending[0]] {
		delete(t.finished, t.pending[0])
		t.pending = t.pending[1:]
	}
	if len(t.pending) > 0 {
		t.next = t.pending[0]
	} else {
		t.next = t.received
	}
}

// due returns the offset to commit, if it is beyond the committed one.
func (t *tracker) due() (int64, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.next, t.next > t.committed
}

func (t *tracker) setCommitted(offset int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.committed = max(t.committed, offset)
}

// position returns the offsets for statistics.
func (t *tracker) position() (received, committed int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.received, t.committed
}
