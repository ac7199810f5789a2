package apply

import (
	"context"
	"fmt"
	"time"

	"github.com/tandem-dc/tandem/shared/ledger"
	"github.com/tandem-dc/tandem/shared/retry"
	"github.com/tandem-dc/tandem/shared/sqldb"
)

// groupBytes bounds the payloads that join one MySQL transaction; one larger
// event goes alone.
const groupBytes = 1 << 20

// retryPolicy spaces attempts after deadlocks and lost connections.
var retryPolicy = retry.Policy{Min: 5 * time.Millisecond, Max: time.Second}

// worker applies what is ready until ctx ends.
func (f *Function) worker(ctx context.Context) {
	s := newSession(f.rows)
	defer s.close()
	for {
		jobs := f.take()
		if jobs == nil {
			return
		}
		f.apply(ctx, s, jobs)
	}
}

// take waits for ready jobs of one stream and hands out some of them: as many as
// leave each idle worker its share, so that a few run side by side and many run in groups. nil:
// the workers end.
func (f *Function) take() []*job {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.idle++
	defer func() { f.idle-- }()
	for {
		if f.ended {
			return nil
		}
		for range f.streams {
			f.next = (f.next + 1) % len(f.streams)
			s := f.streams[f.next]
			if s.order == nil || len(s.order.ready) == 0 {
				continue
			}
			limit := min((len(s.order.ready)+f.idle-1)/f.idle, f.cfg.Settings.Group)
			size := int64(0)
			entries := s.order.take(limit, f.cfg.Settings.Group, func(e *entry) bool {
				size += e.job.size
				return size <= groupBytes
			})
			if f.more() && f.idle > 1 {
				f.work.Signal()
			}
			jobs := make([]*job, len(entries))
			for i, e := range entries {
				jobs[i] = e.job
				jobs[i].entry = e
			}
			return jobs
		}
		f.work.Wait()
	}
}

func (f *Function) more() bool {
	for _, s := range f.streams {
		if s.order != nil && len(s.order.ready) > 0 {
			return true
		}
	}
	return false
}

// apply brings jobs, in this order, to their end or back to their order.
func (f *Function) apply(ctx context.Context, s *session, jobs []*job) {
	jobs, err := f.load(ctx, jobs)
	if err != nil {
		f.fail(jobs, err)
		return
	}
	if len(jobs) > 1 {
		results, err := f.attempt(ctx, s, jobs)
		if err == nil {
			f.finish(jobs, results)
			return
		}
		f.log.DebugContext(ctx, "a group failed and is applied one by one", "size", len(jobs), "err", err)
	}
	for i, j := range jobs {
		r, err := f.alone(ctx, s, j)
		if err != nil {
			f.fail(jobs[i:i+1], err)
			f.giveBack(jobs[i+1:])
			return
		}
		f.finish(jobs[i:i+1], []result{r})
	}
}

// load reads and decodes payloads. It gives back jobs that are too many rows for
// one transaction, and those that are stored no more.
func (f *Function) load(ctx context.Context, jobs []*job) ([]*job, error) {
	side, cancel := context.WithTimeout(ctx, sideTimeout)
	defer cancel()
	if err := f.fetch(side, jobs); err != nil {
		return jobs, err
	}
	rows := 0
	for i, j := range jobs {
		if j.data == nil {
			// Another instance has applied it; the ledger will say so.
			f.fail(jobs[i:i+1], errGone)
			f.giveBack(jobs[i+1:])
			f.kickSweep()
			return jobs[:i], nil
		}
		if j.txn == nil && j.broken == nil {
			j.decode()
		}
		if rows += j.rows(); i > 0 && rows > f.cfg.Settings.GroupRows {
			f.giveBack(jobs[i:])
			return jobs[:i], nil
		}
	}
	return jobs, nil
}

// attempt applies jobs in one MySQL transaction. An error means that none is.
func (f *Function) attempt(ctx context.Context, s *session, jobs []*job) ([]result, error) {
	ctx, cancel := context.WithTimeout(ctx, f.cfg.Settings.Timeout)
	defer cancel()
	if err := s.open(ctx); err != nil {
		return nil, err
	}
	results, clashes, err := f.write(ctx, s, jobs)
	if err == nil {
		err = s.commit(ctx)
	}
	if err != nil {
		s.rollback(ctx)
		return nil, err
	}
	for _, c := range clashes {
		f.metrics.conflict(c)
		f.log.WarnContext(ctx, "conflict settled", "table", c.table, "key", c.key, "kind", string(c.kind), "winner", string(c.decision.Winner), "why", c.decision.Why)
	}
	return results, nil
}

// write claims the ledger's slots and then writes the rows of those it got.
func (f *Function) write(ctx context.Context, s *session, jobs []*job) ([]result, []clashEntry, error) {
	claims := make([]ledger.Row, len(jobs))
	for i, j := range jobs {
		if _, ok := held(j); ok {
			return nil, nil, unfitf("it is not applied but parked")
		}
		claims[i] = j.claim()
	}
	got, err := ledger.Claim(ctx, s, claims...)
	if err != nil {
		return nil, nil, err
	}
	results := make([]result, len(jobs))
	var clashes []clashEntry
	for i, j := range jobs {
		if !got[i] {
			results[i] = resultDuplicate
			continue
		}
		w := writer{f: f, s: s, j: j}
		if err := w.checkBlocked(ctx); err != nil {
			return nil, nil, err
		}
		if err := w.transaction(ctx); err != nil {
			return nil, nil, fmt.Errorf("sequence %d of %s: %w", j.meta.Sequence, j.meta.Origin, err)
		}
		results[i] = resultApplied
		clashes = append(clashes, w.clashes...)
	}
	return results, clashes, f.unstore(ctx, s, jobs)
}

func (j *job) claim() ledger.Row {
	r := ledger.Row{Origin: j.meta.Origin, Epoch: j.meta.Epoch, Seq: j.meta.Sequence, CommittedUS: uint64(max(0, j.meta.Time.UnixMicro()))}
	if j.txn != nil {
		r.GTID = j.txn.GTID
	}
	return r
}

// unstore removes jobs from tandem.pending.
func (f *Function) unstore(ctx context.Context, s *session, jobs []*job) error {
	for _, j := range jobs {
		f.mu.Lock()
		stored := j.stored
		f.mu.Unlock()
		if !stored {
			continue
		}
		if _, err := s.ExecContext(ctx, "DELETE FROM tandem.pending WHERE origin = ? AND epoch = ? AND seq = ?", j.meta.Origin, j.meta.Epoch, j.meta.Sequence); err != nil {
			return fmt.Errorf("remove from %s.pending: %w", ledger.Database, err)
		}
	}
	return nil
}

// alone applies one job, repeating what may pass, and parks it when it cannot be
// applied. An error means that the event shall come again.
func (f *Function) alone(ctx context.Context, s *session, j *job) (result, error) {
	deadline := time.Now().Add(f.cfg.Settings.Retry)
	var final error // why it is to be parked
	l, parking := held(j)
	fresh := false // the definitions were read again
	for n := 1; ; n++ {
		var err error
		if parking {
			var claimed bool
			if claimed, err = f.parkBounded(ctx, s, j, l); err == nil {
				if claimed {
					return resultParked, nil
				}
				return resultDuplicate, nil
			}
			if !sqldb.IsTransient(err) {
				return "", fmt.Errorf("%w, and it cannot be parked either: %w", final, err)
			}
		} else {
			var results []result
			if results, err = f.attempt(ctx, s, []*job{j}); err == nil {
				return results[0], nil
			}
			if !sqldb.IsTransient(err) {
				if !fresh { // perhaps the table has changed since its definition was read
					fresh = true
					f.tables.forget(j.txn)
					continue
				}
				final, parking = err, true
				l = f.letterFor(ctx, j, err)
				continue
			}
		}
		if ctx.Err() != nil || time.Now().After(deadline) {
			return "", err
		}
		f.metrics.retries.Inc()
		wait := time.NewTimer(retryPolicy.Wait(n))
		select {
		case <-ctx.Done():
		case <-wait.C:
		}
		wait.Stop()
	}
}

func (f *Function) parkBounded(ctx context.Context, s *session, j *job, l letter) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, f.cfg.Settings.Timeout)
	defer cancel()
	return f.park(ctx, s, j, l)
}

// finish ends jobs that are in the ledger.
func (f *Function) finish(jobs []*job, results []result) {
	now := time.Now()
	f.mu.Lock()
	defer f.mu.Unlock()
	for i, j := range jobs {
		j.order.finish(j.entry)
		f.dropLocked(j.entry)
		if results[i] == resultApplied {
			f.metrics.observeLag(j.stream, now.Sub(j.meta.Time))
		}
		f.endLocked(j.entry, results[i], nil)
		if j.stream.order == j.order {
			f.progressLocked(j.stream)
			f.wakeLocked(j.order)
		}
	}
}

// fail ends jobs that are not applied; their events come again. Those that are
// stored are found again by the sweep.
func (f *Function) fail(jobs []*job, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, j := range jobs {
		j.order.withdraw(j.entry)
		f.dropLocked(j.entry)
		f.endLocked(j.entry, resultFailed, err)
	}
	f.log.Warn("events not applied; they come again", "events", len(jobs), "first", jobs[0].meta.Sequence, "origin", jobs[0].meta.Origin, "err", err)
}

// giveBack returns jobs that were taken and not tried.
func (f *Function) giveBack(jobs []*job) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, j := range jobs {
		j.order.giveBack(j.entry)
		if j.stream.order != j.order { // an epoch that is over
			f.endLocked(j.entry, resultStale, nil)
			continue
		}
		f.wakeLocked(j.order)
	}
}
