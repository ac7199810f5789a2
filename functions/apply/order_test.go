package apply

import (
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/tandem-dc/tandem/shared/ledger"
)

func applied(low uint64, done ...uint64) ledger.State {
	return ledger.State{Epoch: 1, Low: low, Done: done, Slots: ledger.RingSize}
}

func all(*entry) bool { return true }

func seqs(es []*entry) []uint64 {
	var out []uint64
	for _, e := range es {
		out = append(out, e.seq)
	}
	return out
}

func TestTheLowestSequenceNeverWaits(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		low := rapid.Uint64Range(0, 3*ledger.RingSize).Draw(t, "low")
		o := newOrder(applied(low))
		e, _ := o.offer(low+1, rapid.Uint64Range(0, low).Draw(t, "last"), nil)
		if e == nil || e.place != placeReady {
			t.Fatalf("sequence %d above low %d waits", low+1, low)
		}
	})
}

func TestNothingRunsFurtherAheadThanTheRing(t *testing.T) {
	o := newOrder(applied(0))
	e, _ := o.offer(ledger.RingSize+1, 0, nil)
	if e.place != placeWaiting {
		t.Error("it overtakes its slot's former sequence")
	}
	if e, _ := o.offer(ledger.RingSize, 0, nil); e.place != placeReady {
		t.Error("the last slot of the ring waits")
	}
	first, _ := o.offer(1, 0, nil)
	if got := seqs(o.take(1, 1, all)); !slices.Equal(got, []uint64{1}) {
		t.Fatalf("took %v", got)
	}
	if ready := o.finish(first); ready != 1 || e.place != placeReady {
		t.Error("it is not woken")
	}
}

// Only a sequence that something missing keeps from running is not complete.
func TestCompleteTellsPatienceFromAGap(t *testing.T) {
	o := newOrder(applied(10, 13))
	last, _ := o.offer(16, 15, nil)
	if o.complete(last) {
		t.Error("11 to 15 are missing")
	}
	for _, seq := range []uint64{15, 14, 11} {
		o.offer(seq, 10, nil)
	}
	if o.complete(last) {
		t.Error("12 is missing")
	}
	twelve, _ := o.offer(12, 11, nil)
	if !o.complete(last) {
		t.Error("all have come")
	}
	o.withdraw(twelve) // it failed and comes again
	if o.complete(last) {
		t.Error("12 is gone")
	}
	o.offer(12, 11, nil)
	for range 4 {
		for _, e := range o.take(1, 1, all) {
			o.finish(e)
		}
		if !o.complete(last) {
			t.Fatalf("with %d applied nothing is missing", o.low)
		}
	}
	if o.low != 15 || o.known != 16 {
		t.Errorf("low %d, known %d", o.low, o.known)
	}
}

// A chain on one row goes into one transaction, in its order.
func TestAChainIsTakenTogether(t *testing.T) {
	o := newOrder(applied(10, 12))
	for seq := uint64(16); seq > 10; seq-- {
		if seq != 12 {
			o.offer(seq, seq-1, nil)
		}
	}
	o.offer(20, 18, nil)
	got := o.take(1, 4, all)
	if !slices.Equal(seqs(got), []uint64{11, 13, 14, 15}) {
		t.Fatalf("took %v", seqs(got))
	}
	o.finish(got[0])
	o.withdraw(got[1]) // it failed
	o.giveBack(got[2])
	o.giveBack(got[3])
	if got := o.take(9, 9, all); got != nil {
		t.Errorf("took %v, though 13 is missing", seqs(got))
	}
	if o.low != 12 || o.running != 0 {
		t.Errorf("low %d, running %d", o.low, o.running)
	}
}

// model is the naive truth: what is applied, and what each sequence depends on.
type model struct {
	t       *rapid.T
	n       uint64
	last    map[uint64]uint64
	applied map[uint64]bool // the ledger
}

// apply is what a claim in the ledger does: it must happen once, and after
// everything that it depends on.
func (m *model) apply(seq uint64) {
	if m.applied[seq] {
		m.t.Fatalf("%d is applied twice", seq)
	}
	for s := uint64(1); s <= m.last[seq]; s++ {
		if !m.applied[s] {
			m.t.Fatalf("%d is applied before %d, lastcommitted is %d", seq, s, m.last[seq])
		}
	}
	if seq > ledger.RingSize && !m.applied[seq-ledger.RingSize] {
		m.t.Fatalf("%d is applied before %d, whose slot it takes", seq, seq-ledger.RingSize)
	}
	m.applied[seq] = true
}

func (m *model) state() ledger.State {
	s := ledger.State{Epoch: 1, Slots: ledger.RingSize}
	for m.applied[s.Low+1] {
		s.Low++
	}
	for seq := s.Low + 2; seq <= m.n; seq++ {
		if m.applied[seq] {
			s.Done = append(s.Done, seq)
		}
	}
	return s
}

// Events of several instances on one ledger, delivered in any order, any number
// of times, through failures and crashes: the order of dependencies holds, each is
// applied once, and nothing is left waiting that might run.
func TestOrderAgainstAModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := &model{t: t, n: rapid.Uint64Range(1, 40).Draw(t, "n"), last: map[uint64]uint64{}, applied: map[uint64]bool{}}
		for seq := uint64(1); seq <= m.n; seq++ {
			m.last[seq] = rapid.Uint64Range(seq-min(seq, 5), seq-1).Draw(t, "last")
		}
		instances := make([]*order, rapid.IntRange(1, 3).Draw(t, "instances"))
		running := make([][][]*entry, len(instances))
		for i := range instances {
			instances[i] = newOrder(m.state())
		}
		for range rapid.IntRange(0, 300).Draw(t, "steps") {
			i := rapid.IntRange(0, len(instances)-1).Draw(t, "instance")
			o := instances[i]
			switch rapid.SampledFrom([]string{"offer", "offer", "offer", "take", "end", "end", "merge", "withdraw", "crash"}).Draw(t, "step") {
			case "offer":
				seq := rapid.Uint64Range(1, m.n).Draw(t, "seq")
				if e, _ := o.offer(seq, m.last[seq], nil); e == nil && !m.applied[seq] {
					t.Fatalf("%d is taken for a repeat", seq)
				}
			case "take":
				limit := rapid.IntRange(1, 4).Draw(t, "limit")
				got := o.take(limit, limit+rapid.IntRange(0, 4).Draw(t, "chain"), all)
				if len(got) > 0 {
					running[i] = append(running[i], got)
				}
			case "end":
				if len(running[i]) > 0 {
					k := rapid.IntRange(0, len(running[i])-1).Draw(t, "group")
					group := running[i][k]
					running[i] = slices.Delete(running[i], k, k+1)
					end(m, o, group, rapid.IntRange(0, len(group)).Draw(t, "fails"))
				}
			case "merge":
				o.merge(m.state())
			case "withdraw":
				for _, e := range o.entries {
					if e.place == placeWaiting {
						o.withdraw(e)
						break
					}
				}
			case "crash":
				instances[i], running[i] = newOrder(m.state()), nil
			}
			check(t, o)
		}
		// Everything is delivered once more: it must come to an end by itself.
		o := instances[0]
		for _, group := range running[0] {
			end(m, o, group, len(group))
		}
		o.merge(m.state())
		for seq := m.n; seq > 0; seq-- {
			o.offer(seq, m.last[seq], nil)
		}
		for {
			got := o.take(3, 5, all)
			if got == nil {
				break
			}
			end(m, o, got, len(got))
			check(t, o)
		}
		if o.low != m.n || len(o.entries) != 0 || len(o.done) != 0 {
			t.Fatalf("low is %d of %d, %d entries, %d done: a wake-up was lost", o.low, m.n, len(o.entries), len(o.done))
		}
	})
}

// end applies the first ok entries of a group; the next fails, the others are given back.
func end(m *model, o *order, group []*entry, ok int) {
	for i, e := range group {
		switch {
		case i < ok:
			if !m.applied[e.seq] { // else the claim finds it taken
				m.apply(e.seq)
			}
			o.finish(e)
		case i == ok:
			o.withdraw(e)
		default:
			o.giveBack(e)
		}
	}
}

// check compares the order's parts with each other.
func check(t *rapid.T, o *order) {
	count := 0
	for seq, e := range o.entries {
		if seq != e.seq {
			t.Fatalf("entry %d stands at %d", e.seq, seq)
		}
		switch e.place {
		case placeWaiting:
			if e.need <= o.low || o.waiting[e.index] != e {
				t.Fatalf("%d waits for %d, low is %d", seq, e.need, o.low)
			}
		case placeReady:
			if e.need > o.low || o.ready[e.index] != e {
				t.Fatalf("%d is ready, needs %d, low is %d", seq, e.need, o.low)
			}
		case placeRunning:
			count++
		case placeGone:
			t.Fatalf("%d is gone", seq)
		}
	}
	if count != o.running || len(o.entries) != count+len(o.ready)+len(o.waiting) {
		t.Fatalf("%d run, counted %d; %d entries, %d ready, %d waiting", count, o.running, len(o.entries), len(o.ready), len(o.waiting))
	}
	known := o.low
	for o.entries[known+1] != nil || o.applied(known+1) {
		known++
	}
	if o.known != known {
		t.Fatalf("known is %d, with nothing missing up to %d", o.known, known)
	}
	for seq := range o.done {
		if seq <= o.low+1 {
			t.Fatalf("%d is done above low %d", seq, o.low)
		}
	}
}

func BenchmarkOrder(b *testing.B) {
	for _, window := range []uint64{1, 32, 1024} {
		b.Run(fmt.Sprint("window=", window), func(b *testing.B) {
			o := newOrder(applied(0))
			next := uint64(1)
			for b.Loop() {
				base := next
				for i := range window { // backwards: the worst order
					seq := base + window - 1 - i
					o.offer(seq, seq-1, nil)
				}
				next += window
				for {
					got := o.take(32, 32, all)
					if got == nil {
						break
					}
					for _, e := range got {
						o.finish(e)
					}
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(o.low), "ns/event")
		})
	}
}
