package apply

import (
	"container/heap"

	"github.com/tandem-dc/tandem/shared/ledger"
)

// order decides which sequences of one stream and epoch may be applied now. It
// is pure: no I/O, no clock, no locks; the caller has one.
//
// Applied are all sequences up to low, and those in done above it. A sequence may
// run once low has reached both its lastcommitted and its own slot's former
// sequence, RingSize before it. The lowest sequence that is not applied never
// waits, since both of these are below it.
type order struct {
	epoch   uint64
	low     uint64
	known   uint64 // every sequence up to it is applied or in entries; at least low
	done    map[uint64]struct{}
	entries map[uint64]*entry
	ready   seqHeap  // may run, smallest sequence first
	waiting needHeap // smallest need first
	running int
}

// entry is a sequence that has come and is not applied.
type entry struct {
	seq   uint64
	need  uint64 // low must have reached it
	place place
	index int // in its heap
	job   *job
}

type place uint8

const (
	placeWaiting place = iota
	placeReady
	placeRunning
	placeGone // applied or withdrawn
)

// newOrder starts from what the ledger says is applied.
func newOrder(s ledger.State) *order {
	o := &order{epoch: s.Epoch, low: s.Low, known: s.Low, done: make(map[uint64]struct{}, len(s.Done)), entries: map[uint64]*entry{}}
	for _, seq := range s.Done {
		o.done[seq] = struct{}{}
	}
	o.advance()
	return o
}

// applied reports whether seq is.
func (o *order) applied(seq uint64) bool {
	_, done := o.done[seq]
	return done || seq <= o.low
}

// offer enters a sequence that has come. It returns nil if it is applied, and the
// entry that is there if it came before; fresh tells a new one.
func (o *order) offer(seq, lastCommitted uint64, j *job) (e *entry, fresh bool) {
	if o.applied(seq) {
		return nil, false
	}
	if e := o.entries[seq]; e != nil {
		return e, false
	}
	e = &entry{seq: seq, need: lastCommitted, job: j}
	if seq > ledger.RingSize {
		e.need = max(e.need, seq-ledger.RingSize)
	}
	o.entries[seq] = e
	o.put(e)
	o.look()
	return e, true
}

// complete reports whether all that e waits for has come: then it needs only
// patience, and no event that would have to be delivered first.
func (o *order) complete(e *entry) bool { return e.need <= o.known }

// look moves known over what has come.
func (o *order) look() {
	o.known = max(o.known, o.low)
	for {
		next := o.known + 1
		if _, here := o.entries[next]; !here {
			if _, done := o.done[next]; !done {
				return
			}
		}
		o.known = next
	}
}

// put places an entry that is in no heap.
func (o *order) put(e *entry) {
	if e.need <= o.low {
		e.place = placeReady
		heap.Push(&o.ready, e)
		return
	}
	e.place = placeWaiting
	heap.Push(&o.waiting, e)
}

// take hands out up to limit ready entries, smallest sequence first, as long as
// fits agrees (the first is always taken), and after them, up to chain in all,
// those that depend on nothing but what is applied or handed out with them: the
// caller applies the entries in the order given, in one transaction or one after
// the other, stopping at the first that fails. Each goes to finish, giveBack or
// withdraw in the end.
func (o *order) take(limit, chain int, fits func(*entry) bool) []*entry {
	var out []*entry
	for len(out) < limit && len(o.ready) > 0 {
		e := o.ready[0]
		if len(out) > 0 && !fits(e) {
			return out
		}
		heap.Pop(&o.ready)
		out = append(out, o.run(e))
	}
	if len(out) == 0 || out[0].seq != o.low+1 {
		return out
	}
	taken := make(map[uint64]struct{}, chain)
	for _, e := range out {
		taken[e.seq] = struct{}{}
	}
	low := o.low
	for len(out) < chain {
		for {
			_, mine := taken[low+1]
			if !mine && !o.applied(low+1) {
				break
			}
			low++
		}
		if len(o.waiting) == 0 || o.waiting[0].need > low || !fits(o.waiting[0]) {
			break
		}
		e := heap.Pop(&o.waiting).(*entry)
		taken[e.seq] = struct{}{}
		out = append(out, o.run(e))
	}
	return out
}

func (o *order) run(e *entry) *entry {
	e.place = placeRunning
	o.running++
	return e
}

// finish records that a running entry is applied. It returns how many entries
// became ready.
func (o *order) finish(e *entry) int {
	o.remove(e)
	if e.seq > o.low {
		o.done[e.seq] = struct{}{}
	}
	return o.advance()
}

// giveBack returns a running entry that was not applied; it runs again when it
// may.
func (o *order) giveBack(e *entry) {
	if e.place == placeRunning {
		o.running--
		o.put(e)
	}
}

// withdraw forgets an entry that is not applied; the sequence may be offered again.
func (o *order) withdraw(e *entry) {
	if e.place != placeGone && e.seq > o.low {
		o.known = min(o.known, e.seq-1)
	}
	o.remove(e)
}

func (o *order) remove(e *entry) {
	switch e.place {
	case placeWaiting:
		heap.Remove(&o.waiting, e.index)
	case placeReady:
		heap.Remove(&o.ready, e.index)
	case placeRunning:
		o.running--
	case placeGone:
		return
	}
	e.place = placeGone
	delete(o.entries, e.seq)
}

// merge adds what the ledger says others have applied, of the same epoch. It
// returns the entries that are no longer needed and how many became ready;
// running ones stay, their claim will tell.
func (o *order) merge(s ledger.State) (applied []*entry, ready int) {
	for _, seq := range s.Done {
		if seq > o.low {
			o.done[seq] = struct{}{}
		}
	}
	if s.Low > o.low {
		o.low = s.Low
		for seq := range o.done {
			if seq <= o.low {
				delete(o.done, seq)
			}
		}
	}
	ready = o.advance()
	for _, e := range o.entries {
		if e.place != placeRunning && o.applied(e.seq) {
			o.remove(e)
			applied = append(applied, e)
		}
	}
	return applied, ready
}

// advance moves low over what is done and wakes what waited for it.
func (o *order) advance() (ready int) {
	for {
		if _, ok := o.done[o.low+1]; !ok {
			break
		}
		o.low++
		delete(o.done, o.low)
	}
	for len(o.waiting) > 0 && o.waiting[0].need <= o.low {
		o.put(heap.Pop(&o.waiting).(*entry))
		ready++
	}
	o.look()
	return ready
}

type seqHeap []*entry

func (h seqHeap) Len() int           { return len(h) }
func (h seqHeap) Less(i, j int) bool { return h[i].seq < h[j].seq }
func (h seqHeap) Swap(i, j int)      { h[i], h[j] = h[j], h[i]; h[i].index, h[j].index = i, j }
func (h *seqHeap) Push(x any) {
	e := x.(*entry)
	e.index = len(*h)
	*h = append(*h, e)
}
func (h *seqHeap) Pop() any { return pop((*[]*entry)(h)) }

type needHeap []*entry

func (h needHeap) Len() int { return len(h) }
func (h needHeap) Less(i, j int) bool {
	return h[i].need < h[j].need || h[i].need == h[j].need && h[i].seq < h[j].seq
}
func (h needHeap) Swap(i, j int) { h[i], h[j] = h[j], h[i]; h[i].index, h[j].index = i, j }
func (h *needHeap) Push(x any) {
	e := x.(*entry)
	e.index = len(*h)
	*h = append(*h, e)
}
func (h *needHeap) Pop() any { return pop((*[]*entry)(h)) }

func pop(h *[]*entry) *entry {
	last := len(*h) - 1
	e := (*h)[last]
	(*h)[last] = nil
	*h = (*h)[:last]
	return e
}
