package knative

import (
	"errors"
	"fmt"
	"math"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// plan is a KafkaSource's specification with its defaults filled in and its
// text read.
type plan struct {
	brokers   []string
	topics    []string
	group     string
	consumers int
	earliest  bool
	ordered   bool
	retry     retryPolicy
	dead      *Destination
	sink      Destination
	net       *Net
	overrides map[string]string
}

func (s *KafkaSourceSpec) plan() (plan, error) {
	p := plan{
		brokers: splitList(s.BootstrapServers), topics: s.Topics, group: s.ConsumerGroup,
		consumers: 1, sink: s.Sink, net: s.Net,
	}
	var errs []error
	need := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	need(len(p.brokers) > 0, "spec.bootstrapServers is empty")
	need(len(p.topics) > 0, "spec.topics is empty")
	need(p.group != "", "spec.consumerGroup is empty: Knative would make one up per object, and a new object would start anew")
	need(p.sink.Ref != nil || p.sink.URI != "", "spec.sink names neither an object nor a URI")
	if s.Consumers != nil {
		p.consumers = *s.Consumers
		need(p.consumers > 0, "spec.consumers must be positive")
	}
	switch s.InitialOffset {
	case "earliest":
		p.earliest = true
	case "latest", "":
	default:
		need(false, "spec.initialOffset %q is neither earliest nor latest", s.InitialOffset)
	}
	switch s.Ordering {
	case "ordered", "":
		p.ordered = true
	case "unordered":
	default:
		need(false, "spec.ordering %q is neither ordered nor unordered", s.Ordering)
	}
	if s.CEOverrides != nil {
		p.overrides = s.CEOverrides.Extensions
	}
	var err error
	if p.retry, err = s.Delivery.policy(); err != nil {
		errs = append(errs, err)
	}
	if s.Delivery != nil {
		p.dead = s.Delivery.DeadLetterSink
	}
	return p, errors.Join(errs...)
}

// retryPolicy is how often and how late an event is sent again.
type retryPolicy struct {
	retries     int
	delay       time.Duration
	exponential bool
	timeout     time.Duration // of one request
}

// The control plane's values for a KafkaSource without delivery.
var defaultPolicy = retryPolicy{retries: 10, delay: 300 * time.Millisecond, exponential: true, timeout: 600 * time.Second}

func (d *Delivery) policy() (retryPolicy, error) {
	if d == nil {
		return defaultPolicy, nil
	}
	// Fields left out of a given delivery are zero for the data plane, not the
	// defaults: no retry at all. Only the timeout has a value of its own.
	p := retryPolicy{exponential: true, timeout: defaultPolicy.timeout}
	var errs []error
	if d.Retry != nil {
		p.retries = *d.Retry
		if p.retries < 0 {
			errs = append(errs, errors.New("delivery.retry must not be negative"))
		}
	}
	switch d.BackoffPolicy {
	case "linear":
		p.exponential = false
	case "exponential", "":
	default:
		errs = append(errs, fmt.Errorf("delivery.backoffPolicy %q is neither linear nor exponential", d.BackoffPolicy))
	}
	read := func(name, text string, dst *time.Duration) {
		if text == "" {
			return
		}
		v, err := parseDuration(text)
		if err != nil {
			errs = append(errs, fmt.Errorf("delivery.%s: %w", name, err))
			return
		}
		*dst = v
	}
	read("backoffDelay", d.BackoffDelay, &p.delay)
	read("timeout", d.Timeout, &p.timeout)
	return p, errors.Join(errs...)
}

// backoff returns the wait before the n-th retry, n from 1. There is no upper
// bound, as there is none in the dispatcher.
func (p retryPolicy) backoff(n int) time.Duration {
	f := float64(n)
	if p.exponential {
		f = math.Pow(2, f)
	}
	if d := f * float64(p.delay); d < math.MaxInt64 {
		return time.Duration(d)
	}
	return math.MaxInt64
}

// retryable reports whether an answer with this status is asked for again.
func retryable(status int) bool {
	switch status {
	case 404, 408, 409, 429:
		return true
	}
	return status >= 500
}

var iso8601 = regexp.MustCompile(`^P(?:(\d+)W)?(?:(\d+)D)?(?:T(?:(\d+)H)?(?:(\d+)M)?(?:(\d+(?:\.\d+)?)S)?)?$`)

// parseDuration reads an ISO 8601 duration without years and months, such as PT0.25S.
func parseDuration(s string) (time.Duration, error) {
	m := iso8601.FindStringSubmatch(s)
	if m == nil || s == "P" || strings.HasSuffix(s, "T") {
		return 0, fmt.Errorf("%q is no ISO 8601 duration such as PT0.25S", s)
	}
	var total float64
	for i, unit := range []time.Duration{7 * 24 * time.Hour, 24 * time.Hour, time.Hour, time.Minute, time.Second} {
		if m[i+1] == "" {
			continue
		}
		v, err := strconv.ParseFloat(m[i+1], 64)
		if err != nil {
			return 0, fmt.Errorf("%q: %w", s, err)
		}
		total += v * float64(unit)
	}
	if total > math.MaxInt64/2 {
		return 0, fmt.Errorf("%q is too long", s)
	}
	return time.Duration(math.Round(total)), nil
}
