package pipeline

import (
	"errors"
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/tandem-dc/tandem/capture/binlog"
)

// Metrics are the counters and gauges of all pipelines of a process.
type Metrics struct {
	reg prometheus.Registerer

	transactions, rows, bytes, attempts *prometheus.CounterVec
	filtered                            *prometheus.CounterVec
	duration                            *prometheus.HistogramVec
}

// NewMetrics registers them.
func NewMetrics(reg prometheus.Registerer) (*Metrics, error) {
	counter := func(name, help string, more ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, append([]string{"target"}, more...))
	}
	m := &Metrics{
		reg:          reg,
		transactions: counter("tandem_capture_transactions_total", "Transactions numbered and handed to the producer; a re-read counts again."),
		rows:         counter("tandem_capture_rows_total", "Row changes in these transactions."),
		bytes:        counter("tandem_capture_bytes_total", "Bytes of their payloads before compression."),
		filtered:     counter("tandem_capture_filtered_total", "Transactions that were read and not sent, by reason.", "reason"),
		attempts:     counter("tandem_capture_restarts_total", "Failures after which a stream began again at its checkpoint."),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "tandem_publish_duration_seconds", Help: "From handing an event to the producer until all before and itself are acknowledged.",
			Buckets: []float64{.001, .002, .005, .01, .02, .05, .1, .15, .2, .25, .3, .4, .5, 1, 2, 5, 10, 30},
		}, []string{"target"}),
	}
	for _, c := range []prometheus.Collector{m.transactions, m.rows, m.bytes, m.filtered, m.attempts, m.duration} {
		if err := reg.Register(c); err != nil {
			return nil, fmt.Errorf("metrics: %w", err)
		}
	}
	return m, nil
}

func (m *Metrics) sending(target string, txn *binlog.Txn, size int) {
	m.transactions.WithLabelValues(target).Inc()
	m.rows.WithLabelValues(target).Add(float64(len(txn.Payload.Rows)))
	m.bytes.WithLabelValues(target).Add(float64(size))
}

func (m *Metrics) passed(target string, item binlog.Item) {
	if item.Skipped != binlog.Idle {
		m.filtered.WithLabelValues(target, string(item.Skipped)).Inc()
	}
}

func (m *Metrics) published(target string, took time.Duration) {
	m.duration.WithLabelValues(target).Observe(took.Seconds())
}

func (m *Metrics) restarts(target string) { m.attempts.WithLabelValues(target).Inc() }

// watch adds the gauges that are computed when they are asked for.
func (m *Metrics) watch(p *Pipeline) error {
	var errs []error
	gauge := func(name, help string, f func(Status) float64) {
		g := prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help, ConstLabels: prometheus.Labels{"target": p.cfg.Target}},
			func() float64 { return f(p.Status()) })
		errs = append(errs, m.reg.Register(g))
	}
	gauge("tandem_capture_lag_seconds", "Time since the commit (or the idle report of the server) up to which everything is acknowledged; 0 while another process carries the stream.",
		func(s Status) float64 {
			if s.Through == nil || s.State == Standby {
				return 0
			}
			return max(0, time.Since(*s.Through).Seconds())
		})
	gauge("tandem_capture_checkpoint_age_seconds", "Time since the checkpoint was stored last; an idle stream stores none.", func(s Status) float64 {
		if s.Checkpoint == nil || s.State == Standby {
			return 0
		}
		return time.Since(*s.Checkpoint).Seconds()
	})
	gauge("tandem_capture_in_flight", "Events that are not acknowledged yet.", func(s Status) float64 { return float64(s.InFlight) })
	gauge("tandem_capture_in_flight_bytes", "Bytes of these events.", func(s Status) float64 { return float64(s.Bytes) })
	gauge("tandem_capture_connections", "Connections to the target's broker.", func(s Status) float64 { return float64(s.Connections) })
	gauge("tandem_capture_sequence", "Newest number up to which everything is acknowledged.", func(s Status) float64 { return float64(s.Acked) })
	gauge("tandem_capture_running", "1 while this process carries the stream.", func(s Status) float64 {
		if s.State == Running {
			return 1
		}
		return 0
	})
	return errors.Join(errs...)
}
