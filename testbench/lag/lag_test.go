package lag_test

import (
	"context"
	"database/sql"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tandem-dc/tandem/shared/sqldb"
	"github.com/tandem-dc/tandem/testbench/lag"
	"github.com/tandem-dc/tandem/testbench/servers"
)

func TestMain(m *testing.M) { os.Exit(servers.Main(m)) }

// sides are two databases of one server, with nothing between them yet.
func sides(t *testing.T) (here, there *sql.DB) {
	t.Helper()
	m := servers.MySQLForTest(t, sqldb.MariaDB)
	var pools [2]*sql.DB
	for i := range pools {
		pools[i] = m.Admin(m.NewDatabase(t))
		if _, err := pools[i].ExecContext(t.Context(), "CREATE TABLE probe (id BIGINT PRIMARY KEY, written_at DATETIME(6) NOT NULL)"); err != nil {
			t.Fatal(err)
		}
	}
	return pools[0], pools[1]
}

func counter() func() (int64, error) {
	var n atomic.Int64
	return func() (int64, error) { return n.Add(1), nil }
}

// carry copies each row once it is as old as delay, those that hold drops never.
func carry(ctx context.Context, t *testing.T, here, there *sql.DB, delay time.Duration, drop func(id int64) bool) {
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	born := map[int64]time.Time{}
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		rows, err := here.QueryContext(ctx, "SELECT id FROM probe")
		if err != nil {
			return // the test has ended
		}
		var ids []int64
		for rows.Next() {
			var id int64
			if err := rows.Scan(&id); err == nil {
				ids = append(ids, id)
			}
		}
		rows.Close()
		for _, id := range ids {
			at, known := born[id]
			switch {
			case !known:
				born[id] = time.Now()
			case !at.IsZero() && time.Since(at) >= delay && !drop(id):
				if _, err := there.ExecContext(ctx, "INSERT INTO probe VALUES (?, NOW(6))", id); err != nil && ctx.Err() == nil {
					t.Error(err)
				}
				born[id] = time.Time{}
			}
		}
	}
}

func TestLagIsWhatTheWayTakes(t *testing.T) {
	here, there := sides(t)
	const delay = 60 * time.Millisecond
	p, err := lag.New(lag.Config{Writer: here, Reader: there, NewID: counter(), Rate: 40})
	if err != nil {
		t.Fatal(err)
	}
	carrying, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { carry(carrying, t, here, there, delay, func(int64) bool { return false }) })
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	if err := p.Run(ctx); err != nil {
		t.Error(err)
	}
	stop()
	wg.Wait()
	s, h := p.Stats(), p.Histogram()
	if s.Written < 60 || s.Written > 90 || s.Seen != s.Written || s.Out != 0 || s.Failed != 0 || h.TotalCount() != int64(s.Seen) {
		t.Errorf("%+v, %d lags", s, h.TotalCount())
	}
	low, middle := time.Duration(h.Min())*time.Microsecond, time.Duration(h.ValueAtQuantile(50))*time.Microsecond
	if low < delay-10*time.Millisecond || middle > 2*delay {
		t.Errorf("lags from %v, median %v, of a way that takes %v", low, middle, delay)
	}
}

func TestWarmupIsNotCounted(t *testing.T) {
	here, _ := sides(t)
	p, err := lag.New(lag.Config{Writer: here, Reader: here, NewID: counter(), Rate: 50, Warmup: 500 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if err := p.Run(ctx); err != nil {
		t.Error(err)
	}
	seen, counted, recent := p.Stats().Seen, uint64(p.Histogram().TotalCount()), uint64(p.Recent().TotalCount())
	if seen != recent || counted < seen/4 || counted > seen*3/4 {
		t.Errorf("%d seen, %d recent, %d counted", seen, recent, counted)
	}
	if p.Recent().TotalCount() != 0 {
		t.Error("what was recent before is recent again")
	}
}

func TestLostRowIsAnError(t *testing.T) {
	here, there := sides(t)
	p, err := lag.New(lag.Config{Writer: here, Reader: there, NewID: counter(), Rate: 50, Settle: 300 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	carrying, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { carry(carrying, t, here, there, 0, func(id int64) bool { return id == 7 }) })
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if err := p.Run(ctx); err == nil || p.Stats().Out != 1 {
		t.Errorf("%v, %+v: one row was lost on the way", err, p.Stats())
	}
	stop()
	wg.Wait()
}
