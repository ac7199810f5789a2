package e2e_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/tandem-dc/tandem/testbench/knative"
	"github.com/tandem-dc/tandem/testbench/link"
)

// killRoundsEnv is how many kills TestKillPrograms makes on each pair of servers; default 20, 5 with -short.
const killRoundsEnv = "TANDEM_TEST_KILL_ROUNDS"

func killRounds(t *testing.T) int {
	if v := os.Getenv(killRoundsEnv); v != "" {
		n, err := strconv.Atoi(v)
		if err != nil || n < 1 {
			t.Fatalf("%s=%q: not a positive number", killRoundsEnv, v)
		}
		return n
	}
	if testing.Short() {
		return 5
	}
	return 20
}

// pause waits for d unless the test ends.
func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// Capture, apply and the dispatcher die at random moments under load, again and again.
func TestKillPrograms(t *testing.T) {
	rounds := killRounds(t)
	each(t, func(t *testing.T, w *world) {
		seed := uint64(time.Now().UnixNano())
		t.Logf("seed %d", seed)
		r := rand.New(rand.NewPCG(seed, 1))
		w.far(t, link.Options{Latency: 10 * time.Millisecond, Jitter: 5 * time.Millisecond})
		w.drain(t)
		before := w.losses(t)
		b := w.books(t)
		stop := b.run(t, 100)
		kills := map[string]int{}
		for range rounds {
			pause(t.Context(), time.Duration(r.Int64N(int64(400*time.Millisecond))))
			side := r.IntN(2)
			s := w.Sides[side]
			victim := []string{"capture", "capture", "capture", "apply", "apply", "dispatcher"}[r.IntN(6)]
			kills[victim]++
			if victim == "dispatcher" {
				replayDispatcher(t, w, side)
				continue
			}
			if err := living(t, s.Runtime.Instances(victim), r).Kill(); err != nil {
				t.Fatal(err)
			}
		}
		stop()
		w.drain(t)
		t.Logf("killed %v", kills)
		b.check(t)
		w.clean(t, before)
		w.equal(t, tables)
		w.ready(t)
	})
}

// living waits until one of the instances runs, and returns one that does.
func living(t *testing.T, instances []*knative.Instance, r *rand.Rand) (chosen *knative.Instance) {
	t.Helper()
	eventually(t, 30*time.Second, func(context.Context) error {
		for _, i := range r.Perm(len(instances)) {
			if instances[i].Running() {
				chosen = instances[i]
				return nil
			}
		}
		return fmt.Errorf("%s: none runs", instances[0].Name)
	})
	return chosen
}

// replayDispatcher ends the dispatcher without a commit of its offsets, so that it
// delivers again what it delivered last.
func replayDispatcher(t *testing.T, w *world, side int) {
	t.Helper()
	d := w.Sides[side].Runtime.Source("apply")
	if err := d.Kill(); err != nil {
		t.Error(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if err := d.Start(ctx); err != nil {
		t.Fatal(err)
	}
}

// ready waits until every program is.
func (w *world) ready(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for _, s := range w.Sides {
		for _, name := range s.Runtime.Workloads() {
			for _, i := range s.Runtime.Instances(name) {
				if err := i.Ready(ctx); err != nil {
					t.Error(err)
				}
			}
		}
	}
}

// The servers themselves die under load and come back: what they had
// acknowledged is applied, once.
func TestKillServers(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		w.drain(t)
		before := w.losses(t)
		b := w.books(t)
		stop := b.run(t, 50)
		for side, s := range w.Sides {
			for _, x := range []struct {
				name string
				server
			}{{"kafka", s.Kafka}, {"etcd", s.Etcd}, {"database", s.SQL}} {
				if testing.Short() && side == 0 && x.name != "kafka" {
					continue // once each
				}
				began := time.Now()
				if err := x.Kill(); err != nil {
					t.Fatal(err)
				}
				pause(t.Context(), 300*time.Millisecond)
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				err := x.Restart(ctx)
				cancel()
				if err != nil {
					t.Fatal(err)
				}
				t.Logf("%s of %s was away for %v", x.name, s.Name, time.Since(began).Round(time.Millisecond))
				pause(t.Context(), 300*time.Millisecond)
			}
		}
		stop()
		w.drain(t)
		b.check(t)
		w.clean(t, before)
		w.equal(t, tables)
		w.ready(t)
	})
}

type server interface {
	Kill() error
	Restart(ctx context.Context) error
}
