// Package fnhost answers how a function is called: it takes CloudEvents by HTTP,
// the same under Knative and locally, answers by the status that makes the
// sender do the right thing, and stops without dropping an event.
package fnhost

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"sync/atomic"
	"time"

	ce "github.com/cloudevents/sdk-go/v2"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/tandem-dc/tandem/shared/serve"
)

// Function handles events, many at once. Its error decides the answer, see
// Status. ctx ends when the caller goes away, after Config.Timeout, or when the
// host will wait no longer; being told to stop does not end it.
type Function interface {
	Handle(ctx context.Context, e ce.Event) error
}

// Run hosts f with what Knative's environment asks for, until ctx ends and
// every event that was being handled is answered. It serves s's probes, metrics and status
// on the same port; s.Run is only needed for a port of their own.
func Run(ctx context.Context, cfg Config, s *serve.Server, f Function, log *slog.Logger) error {
	cfg, err := Knative(cfg, os.Getenv)
	if err != nil {
		return err
	}
	h, err := New(cfg, s, f, log)
	if err != nil {
		return err
	}
	return h.Run(ctx)
}

// Host serves one function. Lifecycle: New, Listen (optional), Run once.
type Host struct {
	cfg      Config
	server   *serve.Server
	function Function
	log      *slog.Logger
	metrics  *metrics
	held     atomic.Int64 // bytes reserved by events in flight
	ln       net.Listener
}

type metrics struct {
	requests *prometheus.CounterVec
	inFlight prometheus.Gauge
	duration prometheus.Histogram
}

// New checks the configuration and registers the metrics; a registry takes one
// host. It takes nothing from the environment.
func New(cfg Config, s *serve.Server, f Function, log *slog.Logger) (*Host, error) {
	if s == nil || f == nil || log == nil {
		return nil, errors.New("fnhost: server, function and logger are needed")
	}
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("function host: %w", err)
	}
	h := &Host{cfg: cfg.filled(), server: s, function: f, log: log, metrics: &metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "tandem_function_requests_total", Help: "Events answered, by HTTP status."}, []string{"code"}),
		inFlight: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "tandem_function_in_flight", Help: "Events being handled."}),
		duration: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "tandem_function_duration_seconds", Help: "Time from the request's header to the answer.",
			Buckets: prometheus.ExponentialBuckets(0.0005, 2, 18)}),
	}}
	for _, c := range []prometheus.Collector{h.metrics.requests, h.metrics.inFlight, h.metrics.duration} {
		if err := s.Registry().Register(c); err != nil {
			return nil, fmt.Errorf("function host: %w", err)
		}
	}
	return h, nil
}

// Listen opens the port, so that Addr is known before Run.
func (h *Host) Listen() error {
	if h.ln != nil {
		return nil
	}
	ln, err := net.Listen("tcp", h.cfg.Listen)
	if err != nil {
		return fmt.Errorf("listening for events: %w: free the port or change the listen setting", err)
	}
	h.ln = ln
	return nil
}

// Addr is the host:port that Listen opened; "" before.
func (h *Host) Addr() string {
	if h.ln == nil {
		return ""
	}
	return h.ln.Addr().String()
}

// errStop ends the contexts of events that did not finish in time.
var errStop = errors.New("the host stops and waits no longer")

// Run serves until ctx ends. Then readiness fails, new events are still taken
// for Config.Drain, the port closes, and events in flight get Config.Finish. It
// returns nil if all were answered.
func (h *Host) Run(ctx context.Context) error {
	if err := h.Listen(); err != nil {
		return err
	}
	return h.Serve(ctx, h.ln)
}

// Serve is Run on a listener of the caller's, which it closes.
func (h *Host) Serve(ctx context.Context, ln net.Listener) error {
	events, cut := context.WithCancelCause(context.WithoutCancel(ctx))
	defer cut(nil)
	srv := serve.HTTPServer(http.HandlerFunc(h.route), h.log)
	// The first bounds the arrival of an event; the second that, its handling, and
	// a caller that does not read the answer.
	srv.ReadTimeout = readTimeout
	srv.WriteTimeout = readTimeout + h.cfg.Timeout + answerTimeout
	srv.BaseContext = func(net.Listener) context.Context { return events }
	srv.Protocols = new(http.Protocols)
	srv.Protocols.SetHTTP1(true)
	srv.Protocols.SetUnencryptedHTTP2(true)
	// A proxy sends all its requests over one connection; the default of 250
	// would be the limit of the whole function.
	srv.HTTP2 = &http.HTTP2Config{MaxConcurrentStreams: 10_000}

	failed := make(chan error, 1)
	go func() { failed <- srv.Serve(ln) }()
	defer h.server.WaitChecks()
	h.log.InfoContext(ctx, "taking events", "addr", ln.Addr().String())
	var broken error
	select {
	case broken = <-failed:
	case <-ctx.Done():
		h.log.InfoContext(ctx, "draining", "grace", h.cfg.Drain)
		h.server.Drain()
		broken = waitFor(h.cfg.Drain, failed)
	}
	err := h.finish(srv, cut)
	if broken != nil {
		return errors.Join(fmt.Errorf("serving events: %w", broken), err)
	}
	<-failed // it is http.ErrServerClosed
	return err
}

// waitFor waits for d, or returns the error that comes sooner.
func waitFor(d time.Duration, failed <-chan error) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case err := <-failed:
		return err
	case <-t.C:
		return nil
	}
}

// afterCut is what a function gets to return once its context has ended.
const afterCut = time.Second

// finish closes the port and waits for the events in flight.
func (h *Host) finish(srv *http.Server, cut context.CancelCauseFunc) error {
	stop, cancel := context.WithTimeout(context.Background(), h.cfg.Finish)
	defer cancel()
	if srv.Shutdown(stop) == nil {
		return nil
	}
	cut(errStop)
	last, cancelLast := context.WithTimeout(context.Background(), afterCut)
	defer cancelLast()
	if srv.Shutdown(last) != nil {
		_ = srv.Close()
	}
	return fmt.Errorf("events were still being handled %v after the port closed and were cut off; they come again", h.cfg.Finish)
}
