package knative

import (
	"context"
	"errors"
	"math"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// script is a sink that answers with one status after the other, then with the last.
type script struct {
	statuses []int
	at       []time.Duration // when each request came, since the first
	began    time.Time
	took     time.Duration // how long an answer takes
}

func (s *script) send(ctx context.Context, _ *outgoing) (int, []byte, error) {
	if s.began.IsZero() {
		s.began = time.Now()
	}
	s.at = append(s.at, time.Since(s.began))
	status := s.statuses[min(len(s.at), len(s.statuses))-1]
	if s.took > 0 {
		t := time.NewTimer(s.took)
		defer t.Stop()
		select {
		case <-t.C:
		case <-ctx.Done():
			return 0, nil, ctx.Err()
		}
	}
	if status == 0 {
		return 0, nil, errors.New("connection refused")
	}
	return status, []byte("because"), nil
}

func (s *script) dest() string { return "script" }
func (s *script) close() error { return nil }

func TestRetrySchedule(t *testing.T) {
	linear := retryPolicy{retries: 3, delay: 50 * time.Millisecond, timeout: time.Second}
	exponential := linear
	exponential.exponential = true
	ms := func(n ...int) (out []time.Duration) {
		for _, v := range n {
			out = append(out, time.Duration(v)*time.Millisecond)
		}
		return out
	}
	for _, c := range []struct {
		name   string
		policy retryPolicy
		sink   script
		at     []time.Duration
		status int // of the failure; -1: delivered
	}{
		{"taken at once", linear, script{statuses: []int{200}}, ms(0), -1},
		{"202 is taken too", linear, script{statuses: []int{202}}, ms(0), -1},
		{"linear grows by the delay", linear, script{statuses: []int{503}}, ms(0, 50, 150, 300), 503},
		{"exponential doubles", exponential, script{statuses: []int{503}}, ms(0, 100, 300, 700), 503},
		{"no answer is retried", linear, script{statuses: []int{0, 0, 200}}, ms(0, 50, 150), -1},
		{"refused for good", linear, script{statuses: []int{422}}, ms(0), 422},
		{"a redirect is no answer to follow", linear, script{statuses: []int{307}}, ms(0), 307},
		{"404, 408, 409, 429 are retried", retryPolicy{retries: 9, delay: 50 * time.Millisecond, timeout: time.Second},
			script{statuses: []int{404, 408, 409, 429, 200}}, ms(0, 50, 150, 300, 500), -1},
		{"refused after a retry", linear, script{statuses: []int{500, 400}}, ms(0, 50), 400},
		{"no retries", retryPolicy{timeout: time.Second}, script{statuses: []int{503}}, ms(0), 503},
		{"a slow sink runs into the timeout", linear, script{statuses: []int{200}, took: 2 * time.Second}, ms(0, 1050, 2150, 3300), 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				retries := 0
				err := c.policy.deliver(t.Context(), nil, &c.sink, &outgoing{}, func() { retries++ })
				if !slices.Equal(c.sink.at, c.at) || retries != len(c.at)-1 {
					t.Errorf("requests at %v with %d retries, want %v", c.sink.at, retries, c.at)
				}
				f := (*failure)(nil)
				switch {
				case c.status == -1 && err != nil:
					t.Errorf("error %v", err)
				case c.status >= 0 && (!errors.As(err, &f) || f.status != c.status):
					t.Errorf("error %v, want a failure with status %d", err, c.status)
				}
			})
		})
	}
}

func TestStopEndsOnlyTheWaitForARetry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		stop := make(chan struct{})
		p := retryPolicy{retries: 5, delay: time.Hour, timeout: time.Minute}
		sink := &script{statuses: []int{503}, took: time.Second}
		time.AfterFunc(500*time.Millisecond, func() { close(stop) })
		began := time.Now()
		err := p.deliver(t.Context(), stop, sink, &outgoing{}, func() {})
		if !errors.Is(err, errStopped) || time.Since(began) != time.Second {
			t.Errorf("error %v after %v: the request under way must end, the wait must not begin", err, time.Since(began))
		}
	})
}

func TestParseDuration(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"PT0.25S": 250 * time.Millisecond, "PT0.05S": 50 * time.Millisecond, "PT30S": 30 * time.Second,
		"PT1M": time.Minute, "PT1H30M": 90 * time.Minute, "P1D": 24 * time.Hour, "P1W": 7 * 24 * time.Hour, "P1DT1S": 24*time.Hour + time.Second,
	} {
		if got, err := parseDuration(text); err != nil || got != want {
			t.Errorf("%s: %v, %v; want %v", text, got, err, want)
		}
	}
	for _, text := range []string{"", "P", "PT", "1s", "PT1", "P1M", "PT-1S", "PT1S ", "P1DT", "P99999999999W"} {
		if got, err := parseDuration(text); err == nil {
			t.Errorf("%q: %v, want an error", text, got)
		}
	}
}

func TestBackoffHasNoUpperBoundAndDoesNotOverflow(t *testing.T) {
	p := retryPolicy{delay: 300 * time.Millisecond, exponential: true}
	if got := p.backoff(10); got != 1024*300*time.Millisecond {
		t.Errorf("10th wait is %v", got)
	}
	if got := p.backoff(200); got != math.MaxInt64 {
		t.Errorf("200th wait is %v", got)
	}
}

func TestDeliveryIsAllOrNothing(t *testing.T) {
	if p, err := (*Delivery)(nil).policy(); err != nil || p != defaultPolicy {
		t.Errorf("without delivery: %+v, %v", p, err)
	}
	if p, err := (&Delivery{DeadLetterSink: &Destination{URI: "http://x"}}).policy(); err != nil || p.retries != 0 {
		t.Errorf("delivery without retry: %+v, %v; the dispatcher would not retry at all", p, err)
	}
	zero := -1
	for _, d := range []Delivery{{Retry: &zero}, {BackoffPolicy: "quadratic"}, {BackoffDelay: "250ms"}, {Timeout: "30"}} {
		if p, err := d.policy(); err == nil {
			t.Errorf("%+v: %+v, want an error", d, p)
		}
	}
}
