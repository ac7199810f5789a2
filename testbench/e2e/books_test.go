package e2e_test

import (
	"context"
	"database/sql"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/tandem-dc/tandem/shared/sqldb"
)

// books are counters that grow, and one line for each growth: a transaction
// that is lost, cut or applied twice shows in the sums. Each side writes counters
// of its own, so there is nothing to be in conflict about: an update that is
// applied out of order, or again, does not meet the row that it expects.
type books struct {
	w           *world
	counter, op string

	mu      sync.Mutex
	sums    map[int64]int64     // of what is committed, by counter
	lines   map[int64]int       // likewise
	unknown [2]map[int64]growth // the server did not tell whether it committed, by id
	failed  int
	last    error
}

type growth struct{ counter, amount int64 }

const countersPerSide = 8

func (w *world) books(t *testing.T) *books {
	t.Helper()
	b := &books{w: w, sums: map[int64]int64{}, lines: map[int64]int{}}
	b.counter = w.table(t, tables, "counter", "%s (id BIGINT PRIMARY KEY, n BIGINT NOT NULL, at TIMESTAMP(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6) ON UPDATE CURRENT_TIMESTAMP(6))")
	b.op = w.table(t, tables, "op", "%s (id BIGINT PRIMARY KEY, counter BIGINT NOT NULL, amount BIGINT NOT NULL, note VARCHAR(40))")
	for side := range w.Sides {
		b.unknown[side] = map[int64]growth{}
		for of := range w.Sides {
			for n := range countersPerSide {
				w.hush(t, side, fmt.Sprintf("INSERT INTO %s (id, n, at) VALUES (%d, 0, '2025-01-01')", b.counter, counterID(of, n)))
			}
		}
	}
	return b
}

func counterID(side, n int) int64 { return int64(1000*(side+1) + n) }

// run writes on both sides, rate transactions per second each, until stop.
func (b *books) run(t *testing.T, rate float64) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	var wg sync.WaitGroup
	const writers = 4
	for side, s := range b.w.Sides {
		// A pool of its own, so that a killed server's connections are nobody else's.
		db, err := sqldb.Open(s.SQL.Config("app"), sqldb.Session{Database: tables, MaxOpen: writers})
		if err != nil {
			cancel()
			t.Fatal(err)
		}
		for n := range writers {
			wg.Go(func() { b.write(ctx, db, side, n, time.Duration(float64(writers)/rate*float64(time.Second))) })
		}
		t.Cleanup(func() { _ = db.Close() })
	}
	var once sync.Once
	stop = func() {
		once.Do(func() {
			cancel()
			wg.Wait()
		})
	}
	t.Cleanup(stop)
	return stop
}

func (b *books) write(ctx context.Context, db *sql.DB, side, writer int, every time.Duration) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for i := int64(0); ; i++ {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		g := growth{counterID(side, int(i)%countersPerSide), 1 + i%7}
		id := time.Now().UnixNano()*16 + int64(8*side+writer)
		began, err := b.grow(context.WithoutCancel(ctx), db, id, g)
		b.mu.Lock()
		switch {
		case err == nil:
			b.book(g)
		case began:
			b.unknown[side][id] = g
			fallthrough
		default:
			b.failed, b.last = b.failed+1, err
		}
		b.mu.Unlock()
	}
}

func (b *books) book(g growth) {
	b.sums[g.counter] += g.amount
	b.lines[g.counter]++
}

// grow reports whether it had begun to commit.
func (b *books) grow(ctx context.Context, db *sql.DB, id int64, g growth) (committing bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return false, err
	}
	defer func() { _ = tx.Rollback() }() // no effect after Commit
	if _, err := tx.ExecContext(ctx, "UPDATE "+b.counter+" SET n=n+? WHERE id=?", g.amount, g.counter); err != nil {
		return false, err
	}
	if _, err := tx.ExecContext(ctx, "INSERT INTO "+b.op+" VALUES (?, ?, ?, ?)", id, g.counter, g.amount, fmt.Sprint("n ", id)); err != nil {
		return false, err
	}
	return true, tx.Commit()
}

// check holds both sides against what their writers know.
func (b *books) check(t *testing.T) {
	t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	for side, open := range b.unknown {
		for id, g := range open {
			n, err := b.w.ask(t.Context(), side, fmt.Sprintf("SELECT COUNT(*) FROM %s WHERE id=%d", b.op, id))
			if err != nil {
				t.Fatal(err)
			}
			if n == "1" {
				b.book(g)
			}
			delete(open, id)
		}
	}
	total := 0
	for _, n := range b.lines {
		total += n
	}
	for side, s := range b.w.Sides {
		for of := range b.w.Sides {
			for n := range countersPerSide {
				id := counterID(of, n)
				want := fmt.Sprintf("%d %d %d", b.sums[id], b.sums[id], b.lines[id])
				got, err := b.w.ask(t.Context(), side, fmt.Sprintf("SELECT CONCAT_WS(' ', (SELECT n FROM %s WHERE id=%d), COALESCE(SUM(amount),0), COUNT(*)) FROM %s WHERE counter=%d", b.counter, id, b.op, id))
				if err != nil {
					t.Fatal(err)
				}
				if got != want {
					t.Errorf("%s: counter %d, the sum of its lines and their number are %s; its writers committed %s", s.Name, id, got, want)
				}
			}
		}
	}
	if total == 0 {
		t.Error("nothing was written")
	}
	t.Logf("%d transactions, %d failed at their own server (%v)", total, b.failed, b.last)
}
