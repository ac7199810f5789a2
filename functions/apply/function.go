package apply

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/tandem-dc/tandem/shared/ledger"
	"github.com/tandem-dc/tandem/shared/retry"
	"github.com/tandem-dc/tandem/shared/sqldb"
)

// sqlMode is what rows are written under: a value that does not fit is an error,
// dates pass as the source has them, zero and impossible ones included, and an
// explicit 0 in an AUTO_INCREMENT column stays 0.
const sqlMode = "STRICT_ALL_TABLES,NO_AUTO_VALUE_ON_ZERO,ALLOW_INVALID_DATES,NO_ENGINE_SUBSTITUTION"

// lenientMode is for the one value that no strict mode takes: index 0 of an ENUM.
const lenientMode = "NO_AUTO_VALUE_ON_ZERO,ALLOW_INVALID_DATES,NO_ENGINE_SUBSTITUTION"

// spare connections of the workers' pool, for parking; of the other pool.
const (
	sparePool = 2
	sidePool  = 8
)

// Deps are what Function needs besides its configuration.
type Deps struct {
	Log      *slog.Logger
	Registry prometheus.Registerer
	Letters  DeadLetters // nil: refused events stay in tandem.dead_letter only
	Settler  Settler     // nil: NewestWins
}

// Function applies events. Handle may be called as soon as New has returned, but
// only while Run runs do events get applied.
type Function struct {
	cfg     Config
	log     *slog.Logger
	metrics *metrics
	letters DeadLetters
	settler Settler

	rows *sql.DB // the workers': every value is raw bytes
	side *sql.DB // ordinary text: definitions, ledger reads, sweeps

	tables   *tables
	blocked  *blocked
	parked   chan struct{} // capacity 1: a dead letter waits to be published
	sweepNow chan struct{} // capacity 1

	mu      sync.Mutex
	work    sync.Cond // a job became ready, or the workers end
	ended   bool
	idle    int
	next    int // stream that is served next
	streams []*stream
	held    int   // events held in memory
	bytes   int64 // their payloads
}

// New checks the configuration and opens the pools; it does no I/O.
func New(cfg Config, d Deps) (*Function, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("apply: %w", err)
	}
	if d.Log == nil || d.Registry == nil {
		return nil, errors.New("apply: logger and registry are needed")
	}
	cfg = cfg.filled()
	f := &Function{
		cfg: cfg, log: d.Log, letters: d.Letters, settler: d.Settler, blocked: newBlocked(),
		parked: make(chan struct{}, 1), sweepNow: make(chan struct{}, 1),
	}
	f.work.L = &f.mu
	if f.settler == nil {
		f.settler = NewestWins{}
	}
	var err error
	if f.rows, err = sqldb.Open(cfg.MySQL, sqldb.Session{Charset: "binary", MaxOpen: cfg.Settings.Workers + sparePool, Vars: rowSession(cfg)}); err != nil {
		return nil, fmt.Errorf("apply: %w", err)
	}
	if f.side, err = sqldb.Open(cfg.MySQL, sqldb.Session{MaxOpen: sidePool}); err != nil {
		return nil, fmt.Errorf("apply: %w", errors.Join(err, f.rows.Close()))
	}
	f.tables = newTables(f.side)
	if f.metrics, err = newMetrics(d.Registry, f); err != nil {
		return nil, fmt.Errorf("apply: %w", errors.Join(err, f.rows.Close(), f.side.Close()))
	}
	return f, nil
}

func rowSession(cfg Config) map[string]string {
	return map[string]string{
		"sql_mode":                 sqlMode,
		"foreign_key_checks":       "0", // the source has proven them, in its own order
		"unique_checks":            "1",
		"autocommit":               "0",
		"innodb_lock_wait_timeout": strconv.Itoa(max(1, int(cfg.Settings.LockWait/time.Second))),
		"@tandem_apply":            "1", // triggers of the application look at it
	}
}

// Close closes the pools; call it after Run has returned, or when it is not
// called at all.
func (f *Function) Close() error { return errors.Join(f.rows.Close(), f.side.Close()) }

// Prepare brings the tandem schema into being, unless told not to. It waits for
// the server until ctx ends.
func (f *Function) Prepare(ctx context.Context) error {
	if !f.cfg.Settings.Migrate {
		return nil
	}
	return retry.Policy{}.Do(ctx, func(ctx context.Context) error {
		err := ledger.Migrate(ctx, f.side)
		if err != nil && !sqldb.IsTransient(err) {
			return retry.Permanent(err)
		}
		if err != nil {
			f.log.WarnContext(ctx, "the server is not ready for the tandem schema", "err", err)
		}
		return err
	})
}

// Run applies events until ctx ends, and returns when what was being applied is
// committed or rolled back. Let Handle's callers finish before ctx ends: what
// still waits then is answered 503.
func (f *Function) Run(ctx context.Context) error {
	if err := f.Prepare(ctx); err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return fmt.Errorf("apply: %w", err)
	}
	var wg sync.WaitGroup
	for range f.cfg.Settings.Workers {
		wg.Go(func() { f.worker(ctx) })
	}
	wg.Go(func() { f.sweeper(ctx) })
	wg.Go(func() { f.refresher(ctx) })
	wg.Go(func() { f.publisher(ctx) })
	<-ctx.Done()
	f.mu.Lock()
	f.ended = true
	f.work.Broadcast()
	f.mu.Unlock()
	wg.Wait()
	f.failAll(errStopped)
	return nil
}

var errStopped = errors.New("apply is stopping; the event comes again")

// failAll answers everything that is still waiting.
func (f *Function) failAll(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, s := range f.streams {
		if s.order == nil {
			continue
		}
		for _, e := range s.order.entries {
			f.endLocked(e, resultFailed, err)
		}
	}
}

// Ready reports whether the server answers and has the tandem schema.
func (f *Function) Ready(ctx context.Context) error {
	if _, err := ledger.Read(ctx, f.side, f.cfg.DC); err != nil {
		return fmt.Errorf("MySQL %s: %w", f.cfg.MySQL.Addr, err)
	}
	return nil
}
