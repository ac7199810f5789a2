package publish

import (
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func newTestQueue(c Config) queue { return newQueue(c.withDefaults()) }

func push(q *queue, now time.Time, size int) uint64 {
	return q.push(record{id: fmt.Sprint(q.last + 1), size: size, queued: now})
}

func TestQueueSendsAtOnceWhenIdleAndGathersWhenBusy(t *testing.T) {
	q := newTestQueue(Config{Linger: 2 * time.Millisecond})
	now := time.Unix(100, 0)
	push(&q, now, 10)
	first, _ := q.take(now)
	if first == nil || first.first != 1 || first.last != 1 {
		t.Fatalf("an idle producer made %+v of one record", first)
	}
	push(&q, now, 10)
	if b, again := q.take(now.Add(500 * time.Microsecond)); b != nil || again != 1500*time.Microsecond {
		t.Fatalf("a busy producer got %+v, again in %v; it should linger another 1.5ms", b, again)
	}
	push(&q, now.Add(time.Millisecond), 10)
	b, _ := q.take(now.Add(2 * time.Millisecond))
	if b == nil || b.first != 2 || b.last != 3 {
		t.Fatalf("after the linger time the batch is %+v, want records 2 and 3", b)
	}
}

func TestQueueBoundsBatches(t *testing.T) {
	q := newTestQueue(Config{MaxBatchBytes: 200})
	now := time.Unix(100, 0)
	for _, size := range []int{100, 500, 60, 60, 60} {
		push(&q, now, size)
	}
	var got []string
	for {
		b, _ := q.take(now)
		if b == nil {
			break
		}
		got = append(got, fmt.Sprintf("%d-%d", b.first, b.last))
	}
	if want := "[1-1 2-2 3-4 5-5]"; fmt.Sprint(got) != want {
		t.Errorf("batches %v, want %v", got, want)
	}
}

func TestQueueHedgesOnlyWhatLaterBatchesOvertook(t *testing.T) {
	q := newTestQueue(Config{Hedge: 400 * time.Millisecond})
	now := time.Unix(100, 0)
	push(&q, now, 10)
	stuck, _ := q.take(now)
	if b, again := q.take(now.Add(time.Hour)); b != nil || again != 0 {
		t.Fatalf("the only batch on the wire was sent again: %+v %v", b, again)
	}
	later := now.Add(10 * time.Millisecond)
	push(&q, later, 10)
	b, _ := q.take(later)
	q.ack(b, now)
	if b, again := q.take(later); b != nil || again != 390*time.Millisecond {
		t.Fatalf("got %+v, again in %v; the hedge is due in 390ms", b, again)
	}
	hedge, _ := q.take(now.Add(400 * time.Millisecond))
	if hedge != stuck {
		t.Fatalf("got %+v, want the batch that is stuck", hedge)
	}
	q.ack(hedge, later)
	if q.frontier != 2 {
		t.Fatalf("frontier %d, want 2", q.frontier)
	}
	q.fail(stuck)
	if b, _ := q.take(now.Add(time.Hour)); b != nil {
		t.Errorf("a batch that a copy of it brought home was sent again: %+v", b)
	}
}

// Whatever order answers come in and whatever fails, the frontier never
// passes a record that is not acknowledged, and every record gets there.
func TestQueueProperty(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		q := newTestQueue(Config{MaxBatchBytes: 300, MaxInFlight: 20, MaxInFlightBytes: 1000, Linger: time.Millisecond, Hedge: 5 * time.Millisecond})
		now := time.Unix(100, 0)
		acked := map[uint64]bool{}
		var wire []*batch
		pick := func() *batch {
			i := rapid.IntRange(0, len(wire)-1).Draw(t, "which")
			b := wire[i]
			wire = append(wire[:i:i], wire[i+1:]...)
			return b
		}
		ack := func(b *batch) {
			for i := b.first; i <= b.last; i++ {
				acked[i] = true
			}
			q.ack(b, now)
		}
		check := func() {
			for i := uint64(1); i <= q.frontier; i++ {
				if !acked[i] {
					t.Fatalf("frontier %d passes %d", q.frontier, i)
				}
			}
			if q.last-q.frontier > 20 {
				t.Fatalf("%d records beyond the frontier", q.last-q.frontier)
			}
		}
		for range rapid.IntRange(1, 120).Draw(t, "steps") {
			switch rapid.IntRange(0, 6).Draw(t, "op") {
			case 0, 1:
				if size := rapid.IntRange(1, 400).Draw(t, "size"); q.hasRoom(size) {
					push(&q, now, size)
				}
			case 2, 3:
				if b, _ := q.take(now); b != nil {
					wire = append(wire, b)
				}
			case 4:
				if len(wire) > 0 {
					ack(pick())
				}
			case 5:
				if len(wire) > 0 {
					if b := pick(); rapid.Bool().Draw(t, "split") && b.first != b.last {
						q.split(b)
					} else {
						q.fail(b)
					}
				}
			case 6:
				now = now.Add(time.Duration(rapid.IntRange(0, 6).Draw(t, "ms")) * time.Millisecond)
			}
			check()
		}
		for range 1000 {
			if len(wire) > 0 {
				ack(pick())
			} else if b, _ := q.take(now); b != nil {
				wire = append(wire, b)
			} else if q.frontier == q.last {
				break
			}
			now = now.Add(10 * time.Millisecond)
			check()
		}
		if q.frontier != q.last || q.bytes != 0 || q.waitingBytes != 0 || len(q.sent)+len(q.retry)+len(q.beyond)+len(q.waiting) != 0 {
			t.Fatalf("left over: %+v", q)
		}
	})
}
