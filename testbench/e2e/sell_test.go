package e2e_test

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"github.com/tandem-dc/tandem/testbench/lag"
	"github.com/tandem-dc/tandem/testbench/shop"
)

// selling is the shop's load on both sides, with probes of the lag.
type selling struct {
	loads  [2]*shop.Load
	probes [2]*lag.Probe
	wg     sync.WaitGroup
	cancel context.CancelFunc
	errs   [2]error
}

// sell starts the load: rate transactions per second in each datacenter, a share
// of which write rows that the other writes too.
func (w *world) sell(t *testing.T, rate, conflicts, probes float64) *selling {
	t.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	s := &selling{cancel: cancel}
	start := time.Now().Add(100 * time.Millisecond)
	for i, side := range w.Sides {
		load, err := shop.New(shop.Config{DC: side.Number, Seed: uint64(named.Add(1)), Rate: rate, Conflicts: conflicts, Start: start}, w.app[i], slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		ids, err := shop.NewIDs(side.Number, 0)
		if err != nil {
			t.Fatal(err)
		}
		probe, err := lag.New(lag.Config{Writer: w.app[i], Reader: w.app[1-i], NewID: ids.Next, Rate: probes, Settle: drainLimit})
		if err != nil {
			t.Fatal(err)
		}
		s.loads[i], s.probes[i] = load, probe
		s.wg.Go(func() { _ = load.Run(ctx) }) // counts its failures, never returns one
		s.wg.Go(func() { s.errs[i] = probe.Run(ctx) })
	}
	t.Cleanup(func() {
		cancel()
		s.wg.Wait()
	})
	return s
}

// stop ends the load and waits until the probes have arrived. It fails the test
// if a write or a probe did.
func (s *selling) stop(t *testing.T) {
	t.Helper()
	s.cancel()
	s.wg.Wait()
	for i, load := range s.loads {
		if x := load.Stats(); x.Committed == 0 || x.Failed > 0 {
			t.Errorf("%d transactions committed, %d failed, last: %v", x.Committed, x.Failed, x.LastError)
		}
		if s.errs[i] != nil {
			t.Error(s.errs[i])
		}
	}
}

func (s *selling) report(t *testing.T, w *world) {
	t.Helper()
	for i, side := range w.Sides {
		x := s.loads[i].Stats()
		t.Logf("%s to %s: %d transactions, %d of them contested, %d retried; written p50 %s p99 %s; commit to visible %s", side.Name, side.Peer.Name,
			x.Committed, x.Conflicts, x.Retried, ms(s.loads[i].Latency(), 50), ms(s.loads[i].Latency(), 99), percentiles(s.probes[i].Histogram()))
	}
}

func percentiles(h *hdrhistogram.Histogram) string {
	return fmt.Sprintf("p50 %s p90 %s p99 %s max %s of %d", ms(h, 50), ms(h, 90), ms(h, 99), ms(h, 100), h.TotalCount())
}

func ms(h *hdrhistogram.Histogram, q float64) string {
	return fmt.Sprintf("%.1f ms", float64(h.ValueAtQuantile(q))/1000)
}
