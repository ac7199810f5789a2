package cluster

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/tandem-dc/tandem/shared/ledger"
	"github.com/tandem-dc/tandem/testbench/verify"
)

// benchDatabase holds a row per datacenter that Drain moves: once the peer shows
// the move, its capture has numbered everything committed before.
const benchDatabase = "bench"

func createMarker(ctx context.Context, db *sql.DB) error {
	for _, s := range []string{
		"CREATE TABLE bench.marker (origin TINYINT UNSIGNED NOT NULL PRIMARY KEY, moves BIGINT UNSIGNED NOT NULL, at TIMESTAMP(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6) ON UPDATE CURRENT_TIMESTAMP(6)) ENGINE=InnoDB",
		"INSERT INTO bench.marker (origin, moves, at) VALUES (1,0,'2025-01-01'),(2,0,'2025-01-01')",
	} {
		if _, err := db.ExecContext(ctx, s); err != nil {
			return fmt.Errorf("make the marker: %w", err)
		}
	}
	return nil
}

// pollEvery is how often a condition is looked at.
const pollEvery = 20 * time.Millisecond

// until looks at a condition until it holds or ctx ends. The error then is the
// condition's last one: why it does not hold.
func until(ctx context.Context, condition func(context.Context) error) error {
	ticker := time.NewTicker(pollEvery)
	defer ticker.Stop()
	var last error
	for {
		err := condition(ctx)
		if err == nil {
			return nil
		}
		if ctx.Err() == nil || last == nil {
			last = err
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", context.Cause(ctx), last)
		}
	}
}

// awaitStreams returns when each side's captures carry all their streams.
func (c *Cluster) awaitStreams(ctx context.Context) error {
	if n, ok := c.o.Instances["capture"]; ok && n == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, readyLimit)
	defer cancel()
	return c.each(ctx, func(ctx context.Context, s *Side) error {
		return until(ctx, func(ctx context.Context) error {
			_, local := s.Stream(ctx, s.Name)
			_, remote := s.Stream(ctx, s.Peer.Name)
			return errors.Join(local, remote)
		})
	})
}

// Drain returns when everything that was committed before the call is applied
// at the other side, in both directions, and nothing is left in store there. Nothing may be written meanwhile, or it
// may wait for that too. It waits for conditions, as long as ctx lasts; the error
// says what was still missing.
func (c *Cluster) Drain(ctx context.Context) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.each(ctx, func(ctx context.Context, s *Side) error {
		if err := s.drain(ctx); err != nil {
			return fmt.Errorf("drain %s to %s: %w", s.Name, s.Peer.Name, err)
		}
		return nil
	})
}

func (s *Side) drain(ctx context.Context) error {
	here, there := s.SQL.Admin(""), s.Peer.SQL.Admin("")
	if _, err := here.ExecContext(ctx, "UPDATE bench.marker SET moves=moves+1 WHERE origin=?", s.Number); err != nil {
		return fmt.Errorf("move the marker: %w", err)
	}
	moves := func(db *sql.DB) (n uint64, err error) {
		return n, db.QueryRowContext(ctx, "SELECT moves FROM bench.marker WHERE origin=?", s.Number).Scan(&n)
	}
	want, err := moves(here)
	if err != nil {
		return fmt.Errorf("read the marker: %w", err)
	}
	if err := until(ctx, func(context.Context) error {
		got, err := moves(there)
		if err == nil && got < want {
			err = errors.New("the marker has not arrived")
		}
		return err
	}); err != nil {
		return err
	}
	return until(ctx, func(ctx context.Context) error {
		stream, err := s.Stream(ctx, s.Peer.Name)
		if err != nil {
			return err
		}
		state, err := ledger.Read(ctx, there, s.Name)
		if err != nil {
			return err
		}
		if state.Epoch != stream.Epoch || state.Low < stream.Sequence {
			return fmt.Errorf("%d of epoch %d is given out, %d of epoch %d applied, %d more above it", stream.Sequence, stream.Epoch, state.Low, state.Epoch, len(state.Done))
		}
		var stored int64
		if err := there.QueryRowContext(ctx, "SELECT COUNT(*) FROM tandem.pending WHERE origin=?", s.Name).Scan(&stored); err != nil {
			return err
		}
		if stored > 0 {
			return fmt.Errorf("everything is applied, and %d events are still in tandem.pending", stored)
		}
		return nil
	})
}

// Verify compares all databases of the two sides row by row, the marker included.
func (c *Cluster) Verify(ctx context.Context) (*verify.Result, error) {
	a, b := c.Sides[0], c.Sides[1]
	return verify.Compare(ctx, verify.Side{Name: a.Name, DB: a.SQL.Admin("")}, verify.Side{Name: b.Name, DB: b.SQL.Admin("")}, verify.Options{})
}

// Losses are what did not go the straight way at a side, counted in its tandem schema.
type Losses struct {
	Conflicts   int64 // rows that both sides wrote, settled and logged
	DeadLetters int64 // transactions parked, by apply
	Pending     int64 // events that wait in the database for a predecessor
}

// Losses counts them.
func (s *Side) Losses(ctx context.Context) (l Losses, err error) {
	err = s.SQL.Admin("").QueryRowContext(ctx, "SELECT (SELECT COUNT(*) FROM tandem.conflict_log), (SELECT COUNT(*) FROM tandem.dead_letter), (SELECT COUNT(*) FROM tandem.pending)").
		Scan(&l.Conflicts, &l.DeadLetters, &l.Pending)
	if err != nil {
		return l, fmt.Errorf("%s: %w", s.Name, err)
	}
	// What the dispatcher could not even hand to apply.
	for _, name := range []string{"apply"} {
		if d := s.Runtime.Source(name); d != nil {
			stats := d.Stats()
			l.DeadLetters += int64(stats.DeadLettered + stats.Lost + stats.Discarded)
		}
	}
	return l, nil
}
