package apply

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/tandem-dc/tandem/shared/event"
	"github.com/tandem-dc/tandem/shared/ledger"
)

// sideTimeout bounds a statement outside of the workers' transactions.
const sideTimeout = 20 * time.Second

// encodeAttrs gives the attributes as a JSON object, for tandem's tables.
func encodeAttrs(m *event.Meta) []byte {
	attrs := map[string]string{}
	m.Attributes(func(name, v string) { attrs[name] = v })
	b, err := json.Marshal(attrs)
	if err != nil {
		return []byte("{}") // strings only: cannot fail
	}
	return b
}

func decodeAttrs(b []byte) (event.Meta, error) {
	var attrs map[string]string
	var m event.Meta
	if err := json.Unmarshal(b, &attrs); err != nil {
		return m, fmt.Errorf("stored attributes: %w", err)
	}
	for name, v := range attrs {
		if err := m.Set(name, v); err != nil {
			return m, fmt.Errorf("stored attributes: %w", err)
		}
	}
	return m, nil
}

// store puts a job that waits into tandem.pending. Afterwards it holds no
// payload in memory; whoever completes its predecessor reads it back.
func (f *Function) store(ctx context.Context, j *job) error {
	ctx, cancel := context.WithTimeout(ctx, sideTimeout)
	defer cancel()
	m := &j.meta
	f.mu.Lock()
	data := j.data
	f.mu.Unlock()
	if data == nil { // it ended, or another waiter stored it
		return nil
	}
	_, err := f.side.ExecContext(ctx, "INSERT IGNORE INTO tandem.pending (origin, epoch, seq, last_committed, bytes, attrs, payload) VALUES (?, ?, ?, ?, ?, ?, ?)",
		m.Origin, m.Epoch, m.Sequence, m.LastCommitted, len(data), encodeAttrs(m), data)
	if err != nil {
		return fmt.Errorf("store event %s of %s: %w", m.ID, m.Origin, err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if j.stored || j.entry.place == placeGone {
		return nil
	}
	j.stored = true
	f.metrics.count(resultStored)
	f.log.InfoContext(ctx, "event waits for a predecessor and is stored", "origin", m.Origin, "sequence", m.Sequence, "lastcommitted", m.LastCommitted, "low", j.order.low)
	f.dropLocked(j.entry)
	if j.entry.place != placeWaiting {
		return nil // a worker has it by now, with its payload
	}
	j.data, j.txn = nil, nil
	if j.meta.Sequence > j.order.low+ledger.RingSize {
		j.order.withdraw(j.entry)
		j.stream.beyond = true
	}
	return nil
}

// loadPending enters the stored events that the ring has room for.
func (f *Function) loadPending(ctx context.Context, s *stream) error {
	f.mu.Lock()
	o := s.order
	epoch, low := o.epoch, o.low
	s.beyond, s.reloadAt = false, low+ledger.RingSize/2
	f.mu.Unlock()
	rows, err := f.side.QueryContext(ctx, "SELECT seq, last_committed, bytes FROM tandem.pending WHERE origin = ? AND epoch = ? AND seq > ? ORDER BY seq LIMIT ?",
		s.origin, epoch, low, ledger.RingSize+1)
	if err != nil {
		return fmt.Errorf("read stored events of %s: %w", s.origin, err)
	}
	defer rows.Close()
	type row struct {
		seq, last uint64
		size      int64
	}
	var found []row
	for rows.Next() {
		var r row
		if err := rows.Scan(&r.seq, &r.last, &r.size); err != nil {
			return fmt.Errorf("read stored events of %s: %w", s.origin, err)
		}
		found = append(found, r)
	}
	if err := rows.Err(); err != nil {
		return fmt.Errorf("read stored events of %s: %w", s.origin, err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if s.order != o {
		return nil
	}
	for _, r := range found {
		if r.seq > low+ledger.RingSize {
			s.beyond = true
			break
		}
		j := newJob(s, o, event.Meta{Origin: s.origin, Epoch: epoch, Sequence: r.seq, LastCommitted: r.last}, nil)
		j.stored, j.size = true, r.size
		if e, fresh := o.offer(r.seq, r.last, j); fresh {
			j.entry = e
		}
		s.newest = max(s.newest, r.seq)
	}
	f.wakeLocked(o)
	return nil
}

var errGone = errors.New("stored event is gone")

// fetch reads the payload of stored jobs back.
func (f *Function) fetch(ctx context.Context, jobs []*job) error {
	byID := map[uint64]*job{}
	var args []any
	for _, j := range jobs {
		if j.data == nil {
			if len(byID) == 0 {
				args = append(args, j.meta.Origin, j.meta.Epoch)
			}
			byID[j.meta.Sequence] = j
			args = append(args, j.meta.Sequence)
		}
	}
	if len(byID) == 0 {
		return nil
	}
	rows, err := f.side.QueryContext(ctx, "SELECT seq, attrs, payload FROM tandem.pending WHERE origin = ? AND epoch = ? AND seq IN (?"+
		strings.Repeat(", ?", len(byID)-1)+")", args...)
	if err != nil {
		return fmt.Errorf("read stored events: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		var seq uint64
		var attrs, payload []byte
		if err := rows.Scan(&seq, &attrs, &payload); err != nil {
			return fmt.Errorf("read stored events: %w", err)
		}
		j := byID[seq]
		if j == nil {
			continue
		}
		j.data = payload
		if j.meta.ID != "" {
			continue // it was stored here; others may be reading meta
		}
		if j.meta, err = decodeAttrs(attrs); err != nil {
			return err
		}
	}
	return rows.Err()
}

// cleanPending removes stored events that are applied, and those of epochs that
// are over.
func (f *Function) cleanPending(ctx context.Context, s *stream) error {
	f.mu.Lock()
	epoch, low := s.order.epoch, s.order.low
	f.mu.Unlock()
	if _, err := f.side.ExecContext(ctx, "DELETE FROM tandem.pending WHERE origin = ? AND epoch = ? AND seq <= ?", s.origin, epoch, low); err != nil {
		return fmt.Errorf("remove applied events of %s from tandem.pending: %w", s.origin, err)
	}
	res, err := f.side.ExecContext(ctx, "DELETE FROM tandem.pending WHERE origin = ? AND epoch < ?", s.origin, epoch)
	if err != nil {
		return fmt.Errorf("remove events of old epochs of %s from tandem.pending: %w", s.origin, err)
	}
	if n, err := res.RowsAffected(); err == nil && n > 0 {
		f.log.WarnContext(ctx, "stored events of epochs that are over are dropped", "origin", s.origin, "epoch", epoch, "dropped", n)
		f.metrics.add(resultStale, int(n))
	}
	var count int
	if err := f.side.QueryRowContext(ctx, "SELECT COUNT(*) FROM tandem.pending WHERE origin = ?", s.origin).Scan(&count); err != nil {
		return fmt.Errorf("count stored events of %s: %w", s.origin, err)
	}
	f.mu.Lock()
	s.pending = count
	f.mu.Unlock()
	return nil
}
