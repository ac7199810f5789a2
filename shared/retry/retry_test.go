package retry

import (
	"context"
	"errors"
	"fmt"
	"math"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
	"pgregory.net/rapid"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var errDown = errors.New("down")

func TestDoUntilSuccess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := Policy{Min: time.Second, Max: 4 * time.Second}
		var waits []time.Duration
		last := time.Now()
		calls := 0
		err := p.Do(t.Context(), func(context.Context) error {
			calls++
			if calls > 1 {
				waits = append(waits, time.Since(last))
			}
			last = time.Now()
			if calls < 6 {
				return errDown
			}
			return nil
		})
		if err != nil || calls != 6 {
			t.Fatalf("calls %d, error %v", calls, err)
		}
		for i, limit := range []time.Duration{1, 2, 4, 4, 4} {
			if waits[i] > limit*time.Second {
				t.Errorf("wait %d took %v, more than %v", i+1, waits[i], limit*time.Second)
			}
		}
	})
}

func TestAttempts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		calls := 0
		err := Policy{Attempts: 3}.Do(t.Context(), func(context.Context) error { calls++; return errDown })
		if calls != 3 || !errors.Is(err, errDown) || IsPermanent(err) {
			t.Errorf("calls %d, error %v", calls, err)
		}
	})
}

func TestPermanentEndsNestedLoops(t *testing.T) {
	inner, outer := 0, 0
	err := Policy{}.Do(t.Context(), func(ctx context.Context) error {
		outer++
		err := Policy{}.Do(ctx, func(context.Context) error {
			inner++
			return fmt.Errorf("reading: %w", Permanent(errDown))
		})
		return fmt.Errorf("copying: %w", err)
	})
	if inner != 1 || outer != 1 || !errors.Is(err, errDown) {
		t.Errorf("inner %d, outer %d, error %v", inner, outer, err)
	}
	if err.Error() != "copying: reading: down" {
		t.Errorf("the mark shows in the text: %q", err)
	}
	if Permanent(nil) != nil || IsPermanent(nil) || IsPermanent(errDown) {
		t.Error("nil or an unmarked error counts as permanent")
	}
}

func TestContextEndsTheWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		stop := errors.New("shutting down")
		ctx, cancel := context.WithCancelCause(t.Context())
		begin := time.Now()
		time.AfterFunc(time.Second, func() { cancel(stop) })
		calls := 0
		p := Policy{Min: 1000 * time.Hour, Max: 1000 * time.Hour}
		err := p.Do(ctx, func(context.Context) error { calls++; return errDown })
		if !errors.Is(err, stop) || !errors.Is(err, errDown) {
			t.Errorf("error %v does not wrap both the cause and the last failure", err)
		}
		if took := time.Since(begin); took > time.Second {
			t.Errorf("returned %v after the context ended", took-time.Second)
		}
		if calls != 1 {
			t.Errorf("called %d times", calls)
		}
	})
}

func TestEndedContextCallsNothing(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	err := Policy{}.Do(ctx, func(context.Context) error { t.Error("called"); return nil })
	if !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
}

func TestOwnDeadlineIsRetried(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		calls := 0
		err := Policy{}.Do(t.Context(), func(ctx context.Context) error {
			if calls++; calls == 3 {
				return nil
			}
			ctx, cancel := context.WithTimeout(ctx, time.Second)
			defer cancel()
			<-ctx.Done()
			return ctx.Err()
		})
		if err != nil || calls != 3 {
			t.Errorf("calls %d, error %v", calls, err)
		}
	})
}

func TestBounds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := Policy{
			Min: time.Duration(rapid.Int64().Draw(t, "min")),
			Max: time.Duration(rapid.Int64().Draw(t, "max")),
		}
		n := rapid.IntRange(-3, 200).Draw(t, "attempt")
		low, high := p.Min, p.Max
		if low <= 0 {
			low = DefaultMin
		}
		if high <= 0 {
			high = DefaultMax
		}
		high = max(low, high)
		want := math.Min(float64(low)*math.Pow(2, math.Max(0, float64(n-1))), float64(high))
		if got := float64(p.Bound(n)); math.Abs(got-want) > want/1e9 {
			t.Fatalf("bound of attempt %d is %v, want %v", n, time.Duration(got), time.Duration(want))
		}
		for range 20 {
			if w := p.Wait(n); w < 0 || w > p.Bound(n) {
				t.Fatalf("wait %v outside 0..%v", w, p.Bound(n))
			}
		}
	})
}

// Full jitter spreads callers over the whole range; a half range would bring
// them back in waves.
func TestWaitsSpread(t *testing.T) {
	p := Policy{Min: time.Second, Max: time.Second}
	var lower, upper int
	for range 1000 {
		switch w := p.Wait(1); {
		case w < 250*time.Millisecond:
			lower++
		case w > 750*time.Millisecond:
			upper++
		}
	}
	if lower < 150 || upper < 150 {
		t.Errorf("of 1000 waits %d in the lowest and %d in the highest quarter", lower, upper)
	}
}
