// Package retry answers when a failed call is made again: after waits that
// double, each drawn anew between zero and its bound (full jitter), so that many
// callers that failed together do not come back together.
package retry

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"
)

// Defaults of Policy. The first is about a round trip between datacenters; the
// second is what an operator accepts to wait after a repair.
const (
	DefaultMin = 50 * time.Millisecond
	DefaultMax = 5 * time.Second
)

// Policy bounds the waits between attempts. The zero value retries until the
// context ends, with waits up to DefaultMax.
type Policy struct {
	Min      time.Duration // bound of the first wait; DefaultMin when not positive
	Max      time.Duration // bound of every wait; DefaultMax when not positive, never below Min
	Attempts int           // calls in all; when not positive: until ctx ends
}

// Do calls op until it succeeds, returns an error marked Permanent, has been
// called Attempts times, or ctx ends. It does not call op once ctx has ended.
//
// The error wraps op's last one, and context.Cause(ctx) too when ctx ended. An
// op whose own deadline passed is retried as long as ctx lasts; op should
// bound every call by a deadline of its own.
func (p Policy) Do(ctx context.Context, op func(context.Context) error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	for n := 1; ; n++ {
		err := op(ctx)
		switch {
		case err == nil:
			return nil
		case IsPermanent(err):
			return err
		case ctx.Err() != nil:
			return ended(ctx, n, err)
		case p.Attempts > 0 && n >= p.Attempts:
			return fmt.Errorf("gave up after attempt %d: %w", n, err)
		}
		if !sleep(ctx, p.Wait(n)) {
			return ended(ctx, n, err)
		}
	}
}

func ended(ctx context.Context, n int, err error) error {
	cause := context.Cause(ctx)
	if errors.Is(err, cause) {
		return err
	}
	return fmt.Errorf("%w, after attempt %d failed: %w", cause, n, err)
}

// sleep reports whether the whole wait passed before ctx ended.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return ctx.Err() == nil
	case <-ctx.Done():
		return false
	}
}

// Wait draws the wait after the given number of failed attempts, counted from 1.
// It is for loops that cannot be an op of Do.
func (p Policy) Wait(attempt int) time.Duration {
	return rand.N(p.Bound(attempt) + 1)
}

// Bound is the longest that Wait may draw: Min, doubled with each further
// attempt, at most Max.
func (p Policy) Bound(attempt int) time.Duration {
	low, high := p.Min, p.Max
	if low <= 0 {
		low = DefaultMin
	}
	if high <= 0 {
		high = DefaultMax
	}
	// One less than the largest duration leaves room for the 1 that Wait adds.
	high = min(max(low, high), 1<<63-2)
	low = min(low, high)
	for i := 1; i < attempt; i++ {
		if low > high/2 {
			return high
		}
		low *= 2
	}
	return low
}

// Permanent marks err as one that no retry mends: Do returns it at once. The
// mark survives wrapping, so nested loops all end. Permanent(nil) is nil.
func Permanent(err error) error {
	if err == nil {
		return nil
	}
	return &permanent{err}
}

// IsPermanent reports whether err or an error it wraps is marked.
func IsPermanent(err error) bool {
	var p *permanent
	return errors.As(err, &p)
}

type permanent struct{ err error }

func (p *permanent) Error() string { return p.err.Error() }
func (p *permanent) Unwrap() error { return p.err }
