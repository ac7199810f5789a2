package e2e_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/tandem-dc/tandem/testbench/link"
	"github.com/tandem-dc/tandem/testbench/shop"
)

// A longer or heavier TestSteady, as in
// TANDEM_TEST_STEADY_SECONDS=60 TANDEM_TEST_STEADY_RATE=500.
const (
	steadySecondsEnv = "TANDEM_TEST_STEADY_SECONDS"
	steadyRateEnv    = "TANDEM_TEST_STEADY_RATE"
)

// A program's memory is flat if the mean of the last third of the run is not
// above that of the middle third by more than this. The history of row
// keys fills slowly, up to its bound, and the heap moves by some MiB between two
// collections.
const (
	memoryRatio = 1.25
	memorySlack = 12 << 20 // bytes
)

func fromEnv(t *testing.T, name string, otherwise float64) float64 {
	v := os.Getenv(name)
	if v == "" {
		return otherwise
	}
	x, err := strconv.ParseFloat(v, 64)
	if err != nil || x <= 0 {
		t.Fatalf("%s=%q: not a positive number", name, v)
	}
	return x
}

// Both sides sell at a steady rate; they end equal, with nothing parked, and
// nothing has grown.
func TestSteady(t *testing.T) {
	seconds := 10.0
	if testing.Short() {
		seconds = 4
	}
	seconds = fromEnv(t, steadySecondsEnv, seconds)
	rate := fromEnv(t, steadyRateEnv, 100)
	each(t, func(t *testing.T, w *world) {
		w.far(t, link.Options{Latency: 20 * time.Millisecond, Jitter: 10 * time.Millisecond})
		w.drain(t)
		before := w.losses(t)
		memory := w.watchMemory(t)
		s := w.sell(t, rate, 0, 20)
		pause(t.Context(), time.Duration(seconds*float64(time.Second)))
		memory.check(t)
		s.stop(t)
		w.drain(t)
		s.report(t, w)
		for i := range w.Sides {
			n := float64(s.loads[i].Stats().Committed)
			t.Logf("%s: %.0f transactions in %.0f s", w.Sides[i].Name, n, seconds)
			if os.Getenv(steadyRateEnv) != "" && n < 0.95*rate*seconds { // a busy machine is no fault, unless a rate was asked for
				t.Errorf("%s: the machine is too slow for %g per second", w.Sides[i].Name, rate)
			}
		}
		w.clean(t, before)
		w.equal(t, shop.Database)
	})
}

// memory samples the resident sets of capture and apply.
type memory struct {
	mu      sync.Mutex
	samples map[string][]float64
	stop    func()
}

func (w *world) watchMemory(t *testing.T) *memory {
	t.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	m := &memory{samples: map[string][]float64{}}
	var wg sync.WaitGroup
	wg.Go(func() {
		tick := time.NewTicker(100 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			for _, s := range w.Sides {
				for _, name := range s.Runtime.Workloads() {
					for _, i := range s.Runtime.Instances(name) {
						if n := resident(i.PID()); n > 0 {
							m.mu.Lock()
							m.samples[s.Name+"/"+i.Name] = append(m.samples[s.Name+"/"+i.Name], n)
							m.mu.Unlock()
						}
					}
				}
			}
		}
	})
	m.stop = func() {
		cancel()
		wg.Wait()
	}
	t.Cleanup(m.stop)
	return m
}

// resident is a process's resident set in bytes, 0 if it is gone.
func resident(pid int) float64 {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
	if err != nil {
		return 0
	}
	fields := bytes.Fields(b)
	if len(fields) < 2 {
		return 0
	}
	pages, err := strconv.ParseFloat(string(fields[1]), 64)
	if err != nil {
		return 0
	}
	return pages * float64(os.Getpagesize())
}

func (m *memory) check(t *testing.T) {
	t.Helper()
	m.stop()
	if len(m.samples) < 4 {
		t.Errorf("only %d programs were seen", len(m.samples))
	}
	for name, all := range m.samples {
		third := len(all) / 3
		if third == 0 {
			t.Errorf("%s: %d samples of its memory", name, len(all))
			continue
		}
		first, middle, last := mean(all[:third]), mean(all[third:2*third]), mean(all[2*third:])
		t.Logf("%s: resident %.1f, %.1f, %.1f MiB in the thirds of the run", name, first/(1<<20), middle/(1<<20), last/(1<<20))
		if last > middle*memoryRatio+memorySlack {
			t.Errorf("%s grows: from %.1f to %.1f MiB", name, middle/(1<<20), last/(1<<20))
		}
	}
}

func mean(all []float64) float64 {
	sum := 0.0
	for _, x := range all {
		sum += x
	}
	return sum / float64(max(len(all), 1))
}
