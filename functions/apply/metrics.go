package apply

import (
	"fmt"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	results   *prometheus.CounterVec
	conflicts *prometheus.CounterVec
	lag       *prometheus.HistogramVec
	retries   prometheus.Counter
}

// lagHistogram holds the time from commit to applied, in microseconds.
type lagHistogram = hdrhistogram.Histogram

// newLagHistogram covers 1 µs to a day with two digits.
func newLagHistogram() *lagHistogram {
	return hdrhistogram.New(1, int64(24*time.Hour/time.Microsecond), 2)
}

func newMetrics(reg prometheus.Registerer, f *Function) (*metrics, error) {
	m := &metrics{
		results: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "tandem_apply_transactions_total", Help: "Events by how they ended."}, []string{"result"}),
		conflicts: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "tandem_conflicts_total", Help: "Rows that both sides wrote, by kind and by whose version stands."}, []string{"kind", "winner"}),
		lag: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "tandem_apply_lag_seconds", Help: "Time from the commit at the origin to the commit here.",
			Buckets: []float64{.005, .01, .025, .05, .075, .1, .15, .2, .3, .5, .75, 1, 2, 5, 10, 30, 60, 300, 1800, 7200}}, []string{"origin"}),
		retries: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "tandem_apply_retries_total", Help: "Attempts repeated after transient errors of MySQL."}),
	}
	for _, c := range []prometheus.Collector{m.results, m.conflicts, m.lag, m.retries, &gauges{f}} {
		if err := reg.Register(c); err != nil {
			return nil, fmt.Errorf("metrics: %w", err)
		}
	}
	return m, nil
}

func (m *metrics) count(r result)      { m.add(r, 1) }
func (m *metrics) add(r result, n int) { m.results.WithLabelValues(string(r)).Add(float64(n)) }

func (m *metrics) conflict(c clashEntry) {
	m.conflicts.WithLabelValues(string(c.kind), string(c.decision.Winner)).Inc()
}

// observeLag is called under Function.mu. A clock that runs behind the
// origin's makes a negative lag, which counts as none.
func (m *metrics) observeLag(s *stream, d time.Duration) {
	d = max(d, 0)
	m.lag.WithLabelValues(s.origin).Observe(d.Seconds())
	_ = s.lag.RecordValue(min(max(1, d.Microseconds()), s.lag.HighestTrackableValue()))
}

// gauges reads the streams when it is asked.
type gauges struct{ f *Function }

var (
	pendingDesc = prometheus.NewDesc("tandem_apply_pending", "Events stored in tandem.pending, waiting for a predecessor.", []string{"origin"}, nil)
	waitingDesc = prometheus.NewDesc("tandem_apply_waiting", "Events waiting for a predecessor in memory or known to be stored.", []string{"origin"}, nil)
	gapsDesc    = prometheus.NewDesc("tandem_apply_gaps", "Sequences known to exist that are neither applied nor here.", []string{"origin"}, nil)
	lowDesc     = prometheus.NewDesc("tandem_apply_low", "Low-water mark: everything up to this sequence is applied.", []string{"origin"}, nil)
)

func (g *gauges) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{pendingDesc, waitingDesc, gapsDesc, lowDesc} {
		ch <- d
	}
}

func (g *gauges) Collect(ch chan<- prometheus.Metric) {
	for _, s := range g.f.Status().Streams {
		for d, v := range map[*prometheus.Desc]float64{
			pendingDesc: float64(s.Pending), waitingDesc: float64(s.Waiting), gapsDesc: float64(s.Gaps), lowDesc: float64(s.Low),
		} {
			ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, s.Origin)
		}
	}
}

// Status is what /statusz shows.
type Status struct {
	DC      string         `json:"dc"`
	Streams []StreamStatus `json:"streams"`
}

// StreamStatus is one origin's stream.
type StreamStatus struct {
	Origin    string    `json:"origin"`
	Epoch     uint64    `json:"epoch"`
	Low       uint64    `json:"low"`     // everything up to it is applied
	Above     int       `json:"above"`   // applied above it
	Newest    uint64    `json:"newest"`  // largest sequence known to exist
	Gaps      uint64    `json:"gaps"`    // neither applied nor here
	Waiting   int       `json:"waiting"` // for a predecessor
	Running   int       `json:"running"` // ready or being applied
	Pending   int       `json:"pending"` // stored, as last counted
	Heartbeat time.Time `json:"heartbeat,omitzero"`
	Lag       Lag       `json:"lag_ms"`
}

// Lag is the time from commit to applied since the start, in milliseconds.
type Lag struct {
	Count int64   `json:"count"`
	P50   float64 `json:"p50"`
	P90   float64 `json:"p90"`
	P99   float64 `json:"p99"`
	Max   float64 `json:"max"`
}

// Status tells where each stream stands.
func (f *Function) Status() Status {
	f.mu.Lock()
	defer f.mu.Unlock()
	st := Status{DC: f.cfg.DC, Streams: []StreamStatus{}}
	for _, s := range f.streams {
		o := s.order
		if o == nil {
			continue
		}
		ms := func(us int64) float64 { return float64(us) / 1000 }
		x := StreamStatus{
			Origin: s.origin, Epoch: o.epoch, Low: o.low, Above: len(o.done), Newest: s.newest,
			Waiting: len(o.waiting), Running: o.running + len(o.ready), Pending: s.pending, Heartbeat: s.heard.Time,
			Lag: Lag{s.lag.TotalCount(), ms(s.lag.ValueAtQuantile(50)), ms(s.lag.ValueAtQuantile(90)), ms(s.lag.ValueAtQuantile(99)), ms(s.lag.Max())},
		}
		if here := o.low + uint64(len(o.done)+len(o.entries)); s.newest > here {
			x.Gaps = s.newest - here
		}
		st.Streams = append(st.Streams, x)
	}
	return st
}
