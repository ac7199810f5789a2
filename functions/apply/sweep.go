package apply

import (
	"context"
	"fmt"
	"time"
)

// kickSweep asks for a sweep now.
func (f *Function) kickSweep() {
	select {
	case f.sweepNow <- struct{}{}:
	default:
	}
}

// sweeper looks at what no event announces: stored events whose predecessor is
// applied, other instances' progress, dead letters that were settled.
func (f *Function) sweeper(ctx context.Context) {
	tick := time.NewTicker(f.cfg.Settings.Sweep)
	defer tick.Stop()
	for {
		if err := f.sweep(ctx); err != nil && ctx.Err() == nil {
			f.log.WarnContext(ctx, "sweep failed and is repeated", "err", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		case <-f.sweepNow:
		}
	}
}

func (f *Function) sweep(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, sideTimeout)
	defer cancel()
	origins, err := f.origins(ctx)
	if err != nil {
		return err
	}
	for _, origin := range origins {
		s, err := f.stream(ctx, origin)
		if err != nil {
			return err
		}
		if _, err := f.refresh(ctx, s); err != nil {
			return err
		}
		if err := f.cleanPending(ctx, s); err != nil {
			return err
		}
		if err := f.loadPending(ctx, s); err != nil {
			return err
		}
	}
	f.announce() // dead letters that were not published yet
	return nil
}

// origins are those with a ring in the ledger.
func (f *Function) origins(ctx context.Context) ([]string, error) {
	rows, err := f.side.QueryContext(ctx, "SELECT origin FROM tandem.stream LIMIT ?", maxStreams)
	if err != nil {
		return nil, fmt.Errorf("read streams: %w", err)
	}
	defer rows.Close()
	var origins []string
	for rows.Next() {
		var o string
		if err := rows.Scan(&o); err != nil {
			return nil, fmt.Errorf("read streams: %w", err)
		}
		origins = append(origins, o)
	}
	return origins, rows.Err()
}

// refresher reads other instances' progress while events wait here and the
// low-water mark stands still. A ledger that does not move is read less and less
// often, down to once a second.
func (f *Function) refresher(ctx context.Context) {
	tick := time.NewTicker(f.cfg.Settings.Refresh)
	defer tick.Stop()
	type watch struct {
		low         uint64
		quiet, skip int // in ticks
	}
	watched := map[*stream]*watch{}
	limit := max(1, int(time.Second/f.cfg.Settings.Refresh))
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		for s, low := range f.waitingStreams() {
			w := watched[s]
			if w == nil || w.low != low {
				watched[s] = &watch{low: low}
				continue
			}
			if w.skip > 0 {
				w.skip--
				continue
			}
			moved, err := f.refreshBounded(ctx, s)
			if err != nil && ctx.Err() == nil {
				f.log.DebugContext(ctx, "ledger not read", "origin", s.origin, "err", err)
			}
			if moved {
				w.quiet = 0
			} else {
				w.quiet = min(limit, 2*w.quiet+1)
			}
			w.skip = w.quiet
		}
	}
}

func (f *Function) refreshBounded(ctx context.Context, s *stream) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, sideTimeout)
	defer cancel()
	return f.refresh(ctx, s)
}

// waitingStreams are the streams in which something waits, with their low-water marks.
func (f *Function) waitingStreams() map[*stream]uint64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	out := map[*stream]uint64{}
	for _, s := range f.streams {
		if s.order != nil && len(s.order.waiting) > 0 {
			out[s] = s.order.low
		}
	}
	return out
}

// progressLocked is called when low may have moved.
func (f *Function) progressLocked(s *stream) {
	if s.beyond && s.order.low >= s.reloadAt {
		f.kickSweep()
	}
}
