package demo

import (
	"context"
	"fmt"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"github.com/tandem-dc/tandem/shared/ledger"
	"github.com/tandem-dc/tandem/testbench/cluster"
)

// sample is one look at a side and the way from it to its peer.
type sample struct {
	at        time.Time
	committed uint64                  // here, by the shop and the probes
	sequence  uint64                  // given out by capture
	applied   uint64                  // at the peer
	lag       *hdrhistogram.Histogram // of all probes
	recent    *hdrhistogram.Histogram // of those since the look before
	losses    cluster.Losses
}

func (d *demo) look(ctx context.Context, s *side) (sample, error) {
	x := sample{at: time.Now(), committed: s.load.Stats().Committed + s.lag.Stats().Written, lag: s.lag.Histogram(), recent: s.lag.Recent()}
	stream, err := s.Stream(ctx, s.Peer.Name)
	if err != nil {
		return x, err
	}
	state, err := ledger.Read(ctx, s.Peer.SQL.Admin(""), s.Name)
	if err != nil {
		return x, err
	}
	x.sequence, x.applied = stream.Sequence, state.Low+uint64(len(state.Done))
	x.losses, err = s.Peer.Losses(ctx)
	return x, err
}

// inFlight is how many transactions are on their way. The two numbers are not
// read at the same moment.
func (x *sample) inFlight() uint64 { return x.sequence - min(x.applied, x.sequence) }

// watch shows what happens until ctx ends.
func (d *demo) watch(ctx context.Context) {
	every := 2 * time.Second
	if d.live {
		every = 500 * time.Millisecond
	}
	tick := time.NewTicker(every)
	defer tick.Stop()
	var before [2]sample
	for first := true; ; first = false {
		if !first {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
		}
		var now [2]sample
		whole := true
		for i, s := range d.sides {
			var err error
			if now[i], err = d.look(ctx, s); err != nil {
				whole = false
				if ctx.Err() == nil {
					d.progress("cannot look: " + err.Error())
				}
			}
		}
		if whole && !before[0].at.IsZero() {
			if d.live {
				d.draw(d.table(before, now))
			} else {
				d.plain(before, now)
			}
		}
		if whole {
			before = now
		}
	}
}

func rate(before, now uint64, span time.Duration) float64 {
	return float64(now-min(before, now)) / span.Seconds()
}

func milliseconds(h *hdrhistogram.Histogram, quantile float64) string {
	if h.TotalCount() == 0 {
		return "-"
	}
	return fmt.Sprintf("%.0f", float64(h.ValueAtQuantile(quantile))/1000)
}

func (d *demo) ways() (w [2]string) {
	for i, s := range d.sides {
		w[i] = s.Name + " → " + s.Peer.Name
	}
	return w
}

// table is the live view: a column per direction.
func (d *demo) table(before, now [2]sample) []string {
	var cells [6][2]string
	for i := range now {
		b, n := &before[i], &now[i]
		span := n.at.Sub(b.at)
		cells[0][i] = fmt.Sprintf("%.0f", rate(b.committed, n.committed, span))
		cells[1][i] = fmt.Sprintf("%.0f", rate(b.applied, n.applied, span))
		cells[2][i] = milliseconds(n.recent, 50) + " / " + milliseconds(n.recent, 99)
		cells[3][i] = fmt.Sprint(n.inFlight())
		cells[4][i] = fmt.Sprint(n.losses.Conflicts)
		cells[5][i] = fmt.Sprint(n.losses.DeadLetters)
	}
	ways := d.ways()
	lines := []string{"", fmt.Sprintf("        %-24s %22s %22s", fmt.Sprintf("%.0fs", time.Since(d.began).Seconds()), ways[0], ways[1])}
	for i, name := range []string{"committed here, tx/s", "applied there, tx/s", "lag p50 / p99, ms", "in flight", "conflicts settled", "dead letters"} {
		lines = append(lines, fmt.Sprintf("        %-24s %22s %22s", name, cells[i][0], cells[i][1]))
	}
	return lines
}

func (d *demo) plain(before, now [2]sample) {
	for i, way := range d.ways() {
		b, n := &before[i], &now[i]
		span := n.at.Sub(b.at)
		d.progress(fmt.Sprintf("%s  committed %.0f/s, applied %.0f/s, lag p50 %s p99 %s ms, %d in flight, %d conflicts, %d dead letters", way,
			rate(b.committed, n.committed, span), rate(b.applied, n.applied, span), milliseconds(n.recent, 50), milliseconds(n.recent, 99),
			n.inFlight(), n.losses.Conflicts, n.losses.DeadLetters))
	}
}
