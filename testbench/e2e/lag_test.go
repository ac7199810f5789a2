package e2e_test

import (
	"os"
	"testing"
	"time"
)

// lagEnv makes TestLag fail when the median is above lagLimit, which depends on
// the machine and on what else it does.
const (
	lagEnv   = "TANDEM_TEST_LAG"
	lagLimit = 25 * time.Millisecond
)

// How long from commit to visible at the other side, without a delay between
// them, at 100 transactions per second on both.
func TestLag(t *testing.T) {
	seconds := 5
	if testing.Short() {
		seconds = 2
	}
	each(t, func(t *testing.T, w *world) {
		w.drain(t)
		s := w.sell(t, 100, 0, 50)
		pause(t.Context(), time.Duration(seconds)*time.Second)
		s.stop(t)
		s.report(t, w)
		for i, p := range s.probes {
			h := p.Histogram()
			if h.TotalCount() == 0 {
				t.Errorf("%s: no probe arrived", w.Sides[i].Name)
			}
			if median := time.Duration(h.ValueAtQuantile(50)) * time.Microsecond; os.Getenv(lagEnv) == "1" && median > lagLimit {
				t.Errorf("%s: the median is %v, %v is allowed", w.Sides[i].Name, median, lagLimit)
			}
		}
		w.drain(t)
	})
}
