package shop

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
	"github.com/go-sql-driver/mysql"

	"github.com/tandem-dc/tandem/shared/retry"
)

// Config describes the load on one datacenter.
type Config struct {
	DC        int       // number of the datacenter that the customers live in
	Catalog   Catalog   // as given to Seed
	Seed      uint64    // same seed, same choices
	Rate      float64   // transactions per second, open loop; defaults to 100
	Workers   int       // connections that serve the schedule; defaults to 32
	Conflicts float64   // share of transactions, 0 to 1, that write a product row which every datacenter writes at that moment
	Start     time.Time // of the schedule; the same in every datacenter lets conflicts meet; defaults to when Run begins
}

// opTimeout bounds one transaction with its retries.
const opTimeout = 10 * time.Second

// Load drives one datacenter.
type Load struct {
	cfg   Config
	db    *sql.DB
	log   *slog.Logger
	ids   *IDs
	stmts statements
	slot  atomic.Uint64

	mu        sync.Mutex
	unpaid    []order
	unshipped []order
	stats     Stats
	latency   *hdrhistogram.Histogram
}

type order struct {
	id    int64
	cents int64
}

// Stats counts what a Load has done so far.
type Stats struct {
	Committed  uint64
	Failed     uint64 // gave up: LastError says why for the newest
	Retried    uint64 // deadlocks and lock waits that were tried again
	Conflicts  uint64 // of Committed: writes to a row that other datacenters write as well
	Statements uint64 // data statements of Committed
	LastError  error
	ByKind     [kindCount]uint64 // as Kinds names them
}

// New returns a load over db, whose default database holds the shop. If db allows
// fewer connections than there are workers, these wait for each other.
func New(cfg Config, db *sql.DB, log *slog.Logger) (*Load, error) {
	cfg.Catalog = cfg.Catalog.withDefaults()
	cfg.Rate = cmp.Or(cfg.Rate, 100)
	cfg.Workers = cmp.Or(cfg.Workers, 32)
	if err := cfg.Catalog.check(); err != nil {
		return nil, err
	}
	switch {
	case db == nil || log == nil:
		return nil, errors.New("shop: a database and a logger are needed")
	case cfg.Rate <= 0 || cfg.Rate > 1e6:
		return nil, fmt.Errorf("shop: rate %v is not within 0 to 1000000 per second", cfg.Rate)
	case cfg.Conflicts < 0 || cfg.Conflicts > 1:
		return nil, fmt.Errorf("shop: share of conflicts %v is not within 0 to 1", cfg.Conflicts)
	}
	ids, err := NewIDs(cfg.DC, 0)
	if err != nil {
		return nil, err
	}
	return &Load{cfg: cfg, db: db, log: log, ids: ids, stmts: statements{db: db},
		latency: hdrhistogram.New(1, opTimeout.Microseconds()*6, 3)}, nil
}

// Run writes until ctx ends, lets the transactions that are under way finish,
// and returns nil. Failed transactions are counted, never returned. It is run once.
func (l *Load) Run(ctx context.Context) error {
	defer l.stmts.close()
	if l.cfg.Start.IsZero() {
		l.cfg.Start = time.Now()
	}
	var wg sync.WaitGroup
	for range l.cfg.Workers {
		wg.Go(func() { l.work(ctx) })
	}
	wg.Wait()
	return nil
}

// work takes the next slot of the schedule, waits for its time and fills it. The
// latency counts from the slot's time, so a stall is charged to every
// transaction that it delayed.
func (l *Load) work(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		n := l.slot.Add(1) - 1
		due := l.cfg.Start.Add(time.Duration(float64(n) / l.cfg.Rate * float64(time.Second)))
		timer.Reset(time.Until(due))
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		if ctx.Err() != nil {
			return
		}
		l.fill(context.WithoutCancel(ctx), n, due)
	}
}

// fill runs the transaction of slot n. Its choices depend on nothing but the
// seed, the datacenter and n.
func (l *Load) fill(ctx context.Context, n uint64, due time.Time) {
	ctx, cancel := context.WithTimeout(ctx, opTimeout)
	defer cancel()
	r := rand.New(rand.NewPCG(l.cfg.Seed, uint64(l.cfg.DC)<<56|n))
	k := kindContest
	run, ok := l.contest(n, r)
	if !ok {
		k = l.choose(r)
		run = kinds[k].prepare(l, r)
	}
	var statements, tries int
	err := retry.Policy{Min: time.Millisecond, Max: 100 * time.Millisecond}.Do(ctx, func(ctx context.Context) error {
		tries++
		var err error
		statements, err = l.transact(ctx, run)
		if err != nil && !deadlock(err) {
			return retry.Permanent(err)
		}
		return err
	})
	l.mu.Lock()
	defer l.mu.Unlock()
	l.stats.Retried += uint64(tries - 1)
	if err != nil {
		l.stats.Failed++
		l.stats.LastError = fmt.Errorf("%s: %w", kinds[k].name, err)
		l.log.DebugContext(ctx, "transaction failed", "kind", kinds[k].name, "error", err)
		return
	}
	l.stats.Committed++
	l.stats.Statements += uint64(statements)
	l.stats.ByKind[k]++
	if k == kindContest {
		l.stats.Conflicts++
	}
	_ = l.latency.RecordValue(min(time.Since(due).Microseconds(), l.latency.HighestTrackableValue()))
}

func (l *Load) transact(ctx context.Context, run func(*txn) error) (statements int, err error) {
	if err := l.stmts.ready(ctx); err != nil {
		return 0, err
	}
	tx, err := l.db.BeginTx(ctx, nil)
	if err != nil {
		return 0, err
	}
	defer func() { _ = tx.Rollback() }() // no effect after Commit
	t := &txn{ctx: ctx, tx: tx, stmts: &l.stmts}
	if err := run(t); err != nil {
		return 0, err
	}
	if err := tx.Commit(); err != nil {
		return 0, err
	}
	for _, f := range t.committed {
		f()
	}
	return t.statements, nil
}

// deadlock reports whether the server rolled back so that others could go on.
func deadlock(err error) bool {
	var e *mysql.MySQLError
	if !errors.As(err, &e) {
		return false
	}
	switch e.Number {
	case 1213, 1205, 1020: // deadlock, lock wait timeout, MariaDB's snapshot conflict
		return true
	}
	return false
}

// Stats returns the counts so far.
func (l *Load) Stats() Stats {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.stats
}

// Latency returns a copy of the transactions' latencies so far, in microseconds,
// from the time they were due to their commit.
func (l *Load) Latency() *hdrhistogram.Histogram {
	l.mu.Lock()
	defer l.mu.Unlock()
	return hdrhistogram.Import(l.latency.Export())
}
