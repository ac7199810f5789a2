package shop

import (
	"errors"
	"sync"
	"testing"
	"time"
)

func TestIDsGrowAndCarryTheirHome(t *testing.T) {
	for _, dc := range []int{1, 2, MaxDC} {
		g, err := NewIDs(dc, 0)
		if err != nil {
			t.Fatal(err)
		}
		last := int64(0)
		for range 200000 { // more than one millisecond holds
			id, err := g.Next()
			if err != nil {
				t.Fatal(err)
			}
			if id <= last || Home(id) != dc {
				t.Fatalf("id %d of home %d after %d in datacenter %d", id, Home(id), last, dc)
			}
			last = id
		}
		if seeded(dc, 1<<20) >= last || Home(seeded(dc, 7)) != dc {
			t.Errorf("seeded ids of datacenter %d meet minted ones", dc)
		}
	}
}

func TestIDsOfConcurrentCallersDiffer(t *testing.T) {
	g, err := NewIDs(1, 0)
	if err != nil {
		t.Fatal(err)
	}
	const callers, each = 8, 2000
	ids := make([][]int64, callers)
	var wg sync.WaitGroup
	for i := range callers {
		wg.Go(func() {
			for range each {
				id, err := g.Next()
				if err != nil {
					t.Error(err)
				}
				ids[i] = append(ids[i], id)
			}
		})
	}
	wg.Wait()
	seen := map[int64]bool{}
	for _, list := range ids {
		for _, id := range list {
			if seen[id] {
				t.Fatalf("id %d was given out twice", id)
			}
			seen[id] = true
		}
	}
}

func TestIDsRefuseToRunBackward(t *testing.T) {
	g, err := NewIDs(1, 0)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Date(2026, 5, 1, 0, 0, 0, 0, time.UTC)
	g.now = func() time.Time { return now }
	first, err := g.Next()
	if err != nil {
		t.Fatal(err)
	}
	now = now.Add(-maxAhead / 2) // a small step is sat out, still forward
	second, err := g.Next()
	if err != nil || second <= first {
		t.Fatalf("%d after %d, %v", second, first, err)
	}
	now = now.Add(-maxAhead)
	if id, err := g.Next(); !errors.Is(err, ErrClockBackward) {
		t.Fatalf("id %d, error %v, with a clock that ran backward", id, err)
	}
	now = now.Add(2 * maxAhead)
	if third, err := g.Next(); err != nil || third <= second {
		t.Fatalf("%d after %d, %v: the clock is well again", third, second, err)
	}

	again, err := NewIDs(1, second)
	if err != nil {
		t.Fatal(err)
	}
	again.now = func() time.Time { return now.Add(-time.Hour) }
	if id, err := again.Next(); !errors.Is(err, ErrClockBackward) {
		t.Fatalf("id %d, error %v, after a restart with an older clock", id, err)
	}
	if _, err := NewIDs(2, second); err == nil {
		t.Error("a floor of another datacenter is taken")
	}
	for _, dc := range []int{0, -1, MaxDC + 1} {
		if _, err := NewIDs(dc, 0); err == nil {
			t.Errorf("datacenter %d is taken", dc)
		}
	}
}
