// Package serve answers how a process shows that it lives: health, readiness,
// metrics and status over HTTP, and the logger it writes to.
package serve

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/tandem-dc/tandem/shared/config"
)

// Config says where the endpoints are.
type Config struct {
	Listen string `key:"listen" default:"127.0.0.1:8081" help:"host:port of health, metrics and status; host empty: all interfaces, port 0: a free one"`
	Pprof  bool   `key:"pprof" help:"serve profiles at /debug/pprof/: only where no stranger can reach the port"`
}

// Validate reports an address that cannot be listened on.
func (c Config) Validate() error {
	if _, _, err := net.SplitHostPort(c.Listen); c.Listen != "" && err != nil {
		return &config.Error{Key: "listen", Problem: err.Error(), Remedy: "write host:port, or :port for all interfaces"}
	}
	return nil
}

// Check reports what is wrong, or nil. It must return soon after ctx ends.
type Check func(ctx context.Context) error

const (
	// DefaultListen is taken for an empty Config.Listen.
	DefaultListen = "127.0.0.1:8081"
	// CheckTimeout bounds one check. A probe's own timeout should be longer.
	CheckTimeout = 2 * time.Second

	shutdownTimeout = 5 * time.Second // for requests that run when Run ends
	maxScrapes      = 4               // of /metrics at once
)

// Server serves the endpoints of one process. Add checks, status and handlers
// before Run; a name added twice replaces the first.
type Server struct {
	cfg      Config
	log      *slog.Logger
	reg      *prometheus.Registry
	mux      *http.ServeMux
	ready    checks
	live     checks
	status   statuses
	draining atomic.Bool
	started  time.Time

	mu sync.Mutex
	ln net.Listener
}

// New makes a server with the Go runtime's and the process's metrics in reg; a
// nil reg is a new one.
func New(cfg Config, log *slog.Logger, reg *prometheus.Registry) *Server {
	if reg == nil {
		reg = prometheus.NewRegistry()
	}
	s := &Server{cfg: cfg, log: log, reg: reg, mux: http.NewServeMux(), started: time.Now()}
	// Registered already means that the caller did it, which is as good.
	_ = reg.Register(collectors.NewGoCollector())
	_ = reg.Register(collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))

	for _, path := range []string{"/healthz", "/health/liveness"} {
		s.mux.HandleFunc("GET "+path, s.serveLive)
	}
	for _, path := range []string{"/readyz", "/health/readiness"} {
		s.mux.HandleFunc("GET "+path, s.serveReady)
	}
	s.mux.HandleFunc("GET /statusz", s.serveStatus)
	s.mux.Handle("GET /metrics", promhttp.HandlerFor(reg, promhttp.HandlerOpts{
		ErrorLog: promLog{log}, ErrorHandling: promhttp.ContinueOnError, MaxRequestsInFlight: maxScrapes, Timeout: 10 * time.Second,
	}))
	if cfg.Pprof {
		s.mux.HandleFunc("/debug/pprof/", pprof.Index)
		s.mux.HandleFunc("/debug/pprof/cmdline", pprof.Cmdline)
		s.mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
		s.mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
		s.mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	}
	return s
}

// Registry is where the process's metrics are.
func (s *Server) Registry() *prometheus.Registry { return s.reg }

// Handler is every endpoint, for a listener that serves something else too.
func (s *Server) Handler() http.Handler { return s.mux }

// Handle adds an endpoint, with a pattern of http.ServeMux. It panics, as that
// does, on a pattern that is malformed or taken.
func (s *Server) Handle(pattern string, h http.Handler) { s.mux.Handle(pattern, h) }

// AddReady adds a check that must pass for work to be sent here.
func (s *Server) AddReady(name string, c Check) { s.ready.add(name, c) }

// AddLive adds a check whose failure means that only a restart helps. What other
// processes do, such as a database that is down, is never such a reason.
func (s *Server) AddLive(name string, c Check) { s.live.add(name, c) }

// Status adds a value to /statusz, read at every request. It must be fit for
// JSON, hold no secrets, and be had without waiting.
func (s *Server) Status(name string, f func() any) { s.status.add(name, f) }

// Drain makes readiness fail from now on, so that no new work is sent here.
func (s *Server) Drain() { s.draining.Store(true) }

// Listen opens the port, so that Addr is known and a taken port is an error
// before anything else begins.
func (s *Server) Listen() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ln != nil {
		return nil
	}
	ln, err := net.Listen("tcp", cmp.Or(s.cfg.Listen, DefaultListen))
	if err != nil {
		return fmt.Errorf("serving health and metrics: %w: free the port or change the listen setting", err)
	}
	s.ln = ln
	return nil
}

// Addr is the host:port that Listen opened; "" before.
func (s *Server) Addr() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ln == nil {
		return ""
	}
	return s.ln.Addr().String()
}

// Run serves until ctx ends, listening first if Listen was not called. Then
// readiness fails, requests that run get 5 s to end, and Run returns nil. It may
// be called once.
func (s *Server) Run(ctx context.Context) error {
	if err := s.Listen(); err != nil {
		return err
	}
	srv := HTTPServer(s.mux, s.log)
	srv.ReadTimeout = 10 * time.Second
	srv.WriteTimeout = 2 * time.Minute // a profile takes 30 s by default
	failed := make(chan error, 1)
	go func() { failed <- srv.Serve(s.ln) }()
	defer s.WaitChecks()
	select {
	case err := <-failed:
		return fmt.Errorf("serving health and metrics: %w", err)
	case <-ctx.Done():
	}
	s.Drain()
	stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownTimeout)
	defer cancel()
	if err := srv.Shutdown(stop); err != nil {
		s.log.Warn("requests for health or metrics were cut off", "error", err)
		_ = srv.Close()
	}
	if err := <-failed; !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serving health and metrics: %w", err)
	}
	return nil
}

// WaitChecks waits for checks that still run, as long as they are allowed. Run
// calls it; who serves Handler on a listener of its own calls it after that ended.
func (s *Server) WaitChecks() {
	t := time.NewTimer(CheckTimeout + time.Second)
	defer t.Stop()
	for _, o := range append(s.ready.current(), s.live.current()...) {
		select {
		case <-o.done:
		case <-t.C:
			s.log.Error("a health check does not return after its deadline")
			return
		}
	}
}

// HTTPServer is an http.Server with the limits that every listener of tandem
// has: 5 s to send a header of at most 64 KiB, two idle minutes, no default mux.
// Kafka sources and Knative's proxy keep connections for a minute; to close
// them first would make their next request fail.
func HTTPServer(h http.Handler, log *slog.Logger) *http.Server {
	return &http.Server{
		Handler: h, ReadHeaderTimeout: 5 * time.Second, IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 64 << 10,
		ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
}
