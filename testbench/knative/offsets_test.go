package knative

import (
	"math/rand/v2"
	"testing"
)

func TestOffsetsAreCommittedUpToTheFirstUnfinishedRecord(t *testing.T) {
	tr := newTracker(10)
	check := func(want int64, wantDue bool) {
		t.Helper()
		if got, due := tr.due(); got != want || due != wantDue {
			t.Fatalf("due %d, %v; want %d, %v", got, due, want, wantDue)
		}
	}
	check(10, false)
	for _, o := range []int64{10, 11, 14, 15} { // 12 and 13 are no records
		tr.receive(o)
	}
	check(10, false)
	tr.finish(11)
	tr.finish(15)
	check(10, false)
	tr.finish(10)
	check(14, true)
	tr.setCommitted(14)
	check(14, false)
	tr.finish(14)
	check(16, true)
}

func TestTrackerAgainstAPlainModel(t *testing.T) {
	for seed := range uint64(50) {
		r := rand.New(rand.NewPCG(seed, 1))
		tr := newTracker(0)
		open := map[int64]bool{}
		received := int64(0)
		for range 300 {
			if r.IntN(2) == 0 {
				tr.receive(received)
				open[received] = true
				received++
			} else {
				for o := range open {
					tr.finish(o)
					delete(open, o)
					break
				}
			}
			want := received
			for o := range open {
				want = min(want, o)
			}
			if got, _ := tr.due(); got != want {
				t.Fatalf("seed %d: %d, want %d", seed, got, want)
			}
		}
	}
}
