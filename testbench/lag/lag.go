// Package lag answers how long after its commit a row is visible to a reader in
// the other datacenter.
//
// A writer inserts single rows by a fixed schedule. A reader asks the peer's
// database for those that are out, every Poll, and only while there are any. The
// lag of a row is the time from the return of its commit to the return of the
// first query that shows it: at most one poll too long, never too short.
package lag

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// Config describes one direction.
type Config struct {
	Writer, Reader *sql.DB // default database: the one that holds Table
	Table          string  // with columns id BIGINT and written_at DATETIME(6); default "probe"
	NewID          func() (int64, error)
	Rate           float64       // rows per second; default 50
	Poll           time.Duration // default 2 ms
	Warmup         time.Duration // lags of rows written so soon after the start are not counted: caches are cold, connections are made
	Settle         time.Duration // how long Run waits for the rows that are out when ctx ends; default 30 s
}

// maxLag is the largest lag that is told apart from larger ones.
const maxLag = 10 * time.Minute

// maxAsked bounds the rows that one query asks for.
const maxAsked = 200

// callLimit bounds one statement.
const callLimit = 5 * time.Second

// Probe measures one direction. It is run once.
type Probe struct {
	cfg  Config
	wake chan struct{} // a row is out
	from time.Time     // of the first row whose lag counts

	mu     sync.Mutex
	out    []row // by commit
	all    *hdrhistogram.Histogram
	recent *hdrhistogram.Histogram
	stats  Stats
}

type row struct {
	id        int64
	committed time.Time
}

// Stats counts rows.
type Stats struct {
	Written uint64
	Seen    uint64
	Out     int    // written and not yet seen
	Failed  uint64 // inserts that failed; LastError says why for the newest failure of either side
	LastErr error
}

// New checks cfg and fills in its defaults.
func New(cfg Config) (*Probe, error) {
	cfg.Table = cmp.Or(cfg.Table, "probe")
	cfg.Rate = cmp.Or(cfg.Rate, 50)
	cfg.Poll = cmp.Or(cfg.Poll, 2*time.Millisecond)
	cfg.Settle = cmp.Or(cfg.Settle, 30*time.Second)
	if cfg.Writer == nil || cfg.Reader == nil || cfg.NewID == nil {
		return nil, errors.New("lag: a writer, a reader and a source of ids are needed")
	}
	if cfg.Rate < 0 || cfg.Poll < 0 || cfg.Settle < 0 || cfg.Warmup < 0 {
		return nil, errors.New("lag: rate, poll, settle and warm-up must not be negative")
	}
	return &Probe{cfg: cfg, wake: make(chan struct{}, 1), all: newHistogram(), recent: newHistogram()}, nil
}

// Run writes until ctx ends and then waits for the rows that are out. It
// returns an error if some did not arrive within Settle.
func (p *Probe) Run(ctx context.Context) error {
	reading, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	p.from = time.Now().Add(p.cfg.Warmup)
	var wg sync.WaitGroup
	wg.Go(func() { p.read(reading) })
	p.write(ctx)
	deadline := time.NewTimer(p.cfg.Settle)
	defer deadline.Stop()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for waiting := true; waiting && p.Stats().Out > 0; {
		select {
		case <-tick.C:
		case <-deadline.C:
			waiting = false
		}
	}
	stop()
	wg.Wait()
	if s := p.Stats(); s.Out > 0 {
		return fmt.Errorf("lag: %d of %d rows were not visible after another %v (%v)", s.Out, s.Written, p.cfg.Settle, s.LastErr)
	}
	return nil
}

func (p *Probe) write(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for start, n := time.Now(), 0; ; n++ {
		timer.Reset(time.Until(start.Add(time.Duration(float64(n) / p.cfg.Rate * float64(time.Second)))))
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		err := p.insert(context.WithoutCancel(ctx))
		if err != nil {
			p.mu.Lock()
			p.stats.Failed++
			p.stats.LastErr = err
			p.mu.Unlock()
		}
	}
}

func (p *Probe) insert(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, callLimit)
	defer cancel()
	id, err := p.cfg.NewID()
	if err != nil {
		return err
	}
	if _, err := p.cfg.Writer.ExecContext(ctx, "INSERT INTO "+p.cfg.Table+" (id,written_at) VALUES ("+strconv.FormatInt(id, 10)+",UTC_TIMESTAMP(6))"); err != nil {
		return fmt.Errorf("write: %w", err)
	}
	now := time.Now()
	p.mu.Lock()
	p.stats.Written++
	p.out = append(p.out, row{id, now})
	p.mu.Unlock()
	select {
	case p.wake <- struct{}{}:
	default:
	}
	return nil
}

func (p *Probe) read(ctx context.Context) {
	tick := time.NewTicker(p.cfg.Poll)
	defer tick.Stop()
	for {
		next := (<-chan time.Time)(tick.C)
		if p.Stats().Out == 0 {
			next = nil
		}
		select {
		case <-ctx.Done():
			return
		case <-next:
		case <-p.wake:
		}
		if err := p.look(ctx); err != nil && ctx.Err() == nil {
			p.mu.Lock()
			p.stats.LastErr = err
			p.mu.Unlock()
		}
	}
}

// look asks for the oldest rows that are out.
func (p *Probe) look(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, callLimit)
	defer cancel()
	p.mu.Lock()
	query := []byte("SELECT id FROM " + p.cfg.Table + " WHERE id IN (")
	asked := p.out[:min(len(p.out), maxAsked)]
	for i, r := range asked {
		if i > 0 {
			query = append(query, ',')
		}
		query = strconv.AppendInt(query, r.id, 10)
	}
	p.mu.Unlock()
	if len(asked) == 0 {
		return nil
	}
	rows, err := p.cfg.Reader.QueryContext(ctx, string(append(query, ')')))
	if err != nil {
		return fmt.Errorf("read: %w", err)
	}
	defer rows.Close()
	seen := map[int64]bool{}
	for rows.Next() {
		var id int64
		if err := rows.Scan(&id); err != nil {
			return fmt.Errorf("read: %w", err)
		}
		seen[id] = true
	}
	if err := rows.Err(); err != nil {
		return fmt.Errorf("read: %w", err)
	}
	if len(seen) > 0 {
		p.arrived(seen, time.Now())
	}
	return nil
}

func (p *Probe) arrived(seen map[int64]bool, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.out = slices.DeleteFunc(p.out, func(r row) bool {
		if seen[r.id] {
			p.stats.Seen++
			lag := max(min(now.Sub(r.committed), maxLag).Microseconds(), 1)
			if !r.committed.Before(p.from) {
				_ = p.all.RecordValue(lag)
			}
			_ = p.recent.RecordValue(lag)
		}
		return seen[r.id]
	})
}

// Stats returns the counts so far.
func (p *Probe) Stats() Stats {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.stats
	s.Out = len(p.out)
	return s
}

// Histogram returns a copy of the lags so far, in microseconds, without those of
// the warm-up.
func (p *Probe) Histogram() *hdrhistogram.Histogram {
	p.mu.Lock()
	defer p.mu.Unlock()
	return hdrhistogram.Import(p.all.Export())
}

// Recent returns the lags since the call before, in microseconds, those of the
// warm-up included.
func (p *Probe) Recent() *hdrhistogram.Histogram {
	p.mu.Lock()
	defer p.mu.Unlock()
	recent := p.recent
	p.recent = newHistogram()
	return recent
}

func newHistogram() *hdrhistogram.Histogram { return hdrhistogram.New(1, maxLag.Microseconds(), 3) }
