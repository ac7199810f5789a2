package e2e_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/tandem-dc/tandem/testbench/link"
	"github.com/tandem-dc/tandem/testbench/shop"
)

// The way between the datacenters is cut, or goes silent, while both sell; when
// it heals they become equal.
func TestPartition(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		w.far(t, link.Options{Latency: 10 * time.Millisecond})
		w.drain(t)
		before := w.losses(t)
		s := w.sell(t, 100, 0, 10)
		pause(t.Context(), 500*time.Millisecond)
		for _, s := range w.Sides {
			s.Route.Cut()
		}
		pause(t.Context(), 2*time.Second)
		w.heal(t)
		pause(t.Context(), 500*time.Millisecond)
		if !testing.Short() {
			for _, s := range w.Sides {
				if err := s.Route.Hang(); err != nil {
					t.Fatal(err)
				}
			}
			pause(t.Context(), 2*time.Second)
			w.heal(t)
			pause(t.Context(), 500*time.Millisecond)
		}
		s.stop(t)
		w.drain(t)
		s.report(t, w)
		w.clean(t, before)
		w.equal(t, shop.Database)
	})
}

func (w *world) heal(t *testing.T) {
	t.Helper()
	for _, s := range w.Sides {
		if err := s.Route.Restore(); err != nil {
			t.Fatal(err)
		}
	}
}

// Both sides write the same rows while they cannot see each other: afterwards
// the same version stands on both, and each decision was counted and logged.
func TestConflicts(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		name := w.table(t, tables, "contest", "%s (id INT PRIMARY KEY, v VARCHAR(20), at TIMESTAMP(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6) ON UPDATE CURRENT_TIMESTAMP(6))")
		w.drain(t)
		w.write(t, 0, "INSERT INTO "+name+" (id, v) VALUES (1, 'first'), (2, 'first'), (3, 'first')")
		w.drain(t)
		before, counted := w.losses(t), w.conflictMetric(t)
		for _, s := range w.Sides {
			s.Route.Cut()
		}
		s := w.sell(t, 100, 0.3, 5)
		for side, s := range w.Sides { // the second writes last, and wins
			for _, statement := range []string{"UPDATE %s SET v='%s' WHERE id=1", "UPDATE %s SET v='%s' WHERE id=2", "INSERT INTO %s (id, v) VALUES (9, '%s')"} {
				w.write(t, side, fmt.Sprintf(statement, name, s.Name))
			}
		}
		w.write(t, 0, "DELETE FROM "+name+" WHERE id=3")
		pause(t.Context(), 2*time.Second)
		w.heal(t)
		pause(t.Context(), 500*time.Millisecond)
		s.stop(t)
		w.drain(t)
		s.report(t, w)
		after := w.losses(t)
		if after.DeadLetters != before.DeadLetters {
			t.Errorf("dead letters went from %d to %d", before.DeadLetters, after.DeadLetters)
			for side := range w.Sides {
				w.letters(t, side)
			}
		}
		logged := float64(after.Conflicts - before.Conflicts)
		if grown := w.conflictMetric(t) - counted; logged == 0 || grown != logged {
			t.Errorf("%g conflicts are logged, %g counted", logged, grown)
		}
		t.Logf("%g conflicts", logged)
		second := w.Sides[1].Name
		want := fmt.Sprintf("1:%s 2:%s 9:%s", second, second, second)
		for side := range w.Sides {
			eventually(t, time.Second, w.shows(side, "SELECT GROUP_CONCAT(CONCAT(id, ':', v) ORDER BY id SEPARATOR ' ') FROM "+name, want))
		}
		w.equal(t, shop.Database, tables)
	})
}

// conflictMetric sums tandem_conflicts_total over both applies.
func (w *world) conflictMetric(t *testing.T) (sum float64) {
	t.Helper()
	for _, s := range w.Sides {
		for _, i := range s.Runtime.Instances("apply") {
			ctx, cancel := context.WithTimeout(t.Context(), sqlLimit)
			status, body, err := get(ctx, i.URL()+"metrics")
			cancel()
			if err != nil || status != http.StatusOK {
				t.Fatalf("metrics of %s: %d, %v", i.Name, status, err)
			}
			for _, line := range strings.Split(body, "\n") {
				if strings.HasPrefix(line, "tandem_conflicts_total{") {
					n, err := strconv.ParseFloat(line[strings.LastIndexByte(line, ' ')+1:], 64)
					if err != nil {
						t.Fatalf("%q: %v", line, err)
					}
					sum += n
				}
			}
		}
	}
	return sum
}

// get reads a page.
func get(ctx context.Context, url string) (status int, body string, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return 0, "", err
	}
	res, err := plain.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer res.Body.Close()
	b, err := io.ReadAll(io.LimitReader(res.Body, 4<<20))
	return res.StatusCode, string(b), err
}
