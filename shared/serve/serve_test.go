package serve

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var quiet = slog.New(slog.DiscardHandler)

func get(s *Server, path string) (int, string) {
	w := httptest.NewRecorder()
	s.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
	return w.Code, w.Body.String()
}

func TestReadinessAndLivenessAreApart(t *testing.T) {
	s := New(Config{}, quiet, nil)
	var dbErr error
	s.AddReady("mysql", func(context.Context) error { return dbErr })
	s.AddLive("loop", func(context.Context) error { return nil })
	for _, path := range []string{"/readyz", "/health/readiness"} {
		if code, body := get(s, path); code != 200 || !strings.Contains(body, "mysql: ok") {
			t.Errorf("%s: %d %q", path, code, body)
		}
	}
	dbErr = errors.New("connection refused")
	if code, body := get(s, "/readyz"); code != 503 || !strings.Contains(body, "mysql: connection refused") {
		t.Errorf("with the database down: %d %q", code, body)
	}
	for _, path := range []string{"/healthz", "/health/liveness"} {
		if code, body := get(s, path); code != 200 || strings.Contains(body, "mysql") {
			t.Errorf("%s: %d %q", path, code, body)
		}
	}
	s.AddLive("loop", func(context.Context) error { return errors.New("stuck") })
	if code, _ := get(s, "/healthz"); code != 503 {
		t.Errorf("a dead loop answers %d", code)
	}
}

func TestDrainFailsReadinessOnly(t *testing.T) {
	s := New(Config{}, quiet, nil)
	s.Drain()
	if code, _ := get(s, "/readyz"); code != 503 {
		t.Errorf("ready while draining: %d", code)
	}
	if code, _ := get(s, "/healthz"); code != 200 {
		t.Errorf("not alive while draining: %d", code)
	}
}

func TestChecksRunAtOnceAndEachIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := New(Config{}, quiet, nil)
		for _, name := range []string{"a", "b", "c"} {
			s.AddReady(name, func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() })
		}
		begin := time.Now()
		code, body := get(s, "/readyz")
		if took := time.Since(begin); took != CheckTimeout {
			t.Errorf("three checks of 2 s took %v", took)
		}
		if code != 503 || strings.Count(body, "\n") != 3 {
			t.Errorf("%d %q", code, body)
		}
		s.WaitChecks()
	})
}

func TestStuckCheckIsNotStartedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := New(Config{}, quiet, nil)
		var starts atomic.Int32
		release := make(chan struct{})
		s.AddReady("stuck", func(context.Context) error { starts.Add(1); <-release; return nil })
		var wg sync.WaitGroup
		for range 20 {
			wg.Go(func() {
				if code, _ := get(s, "/readyz"); code != 503 {
					t.Errorf("a stuck check answers %d", code)
				}
			})
		}
		wg.Wait()
		if n := starts.Load(); n != 1 {
			t.Errorf("started %d times", n)
		}
		close(release)
		s.WaitChecks()
		if code, _ := get(s, "/readyz"); code != 200 || starts.Load() != 2 {
			t.Errorf("after it came loose: %d, %d starts", code, starts.Load())
		}
	})
}

func TestProbeThatGoesAwayDoesNotFailTheCheckForOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := New(Config{}, quiet, nil)
		s.AddReady("slow", func(ctx context.Context) error {
			select {
			case <-time.After(time.Second):
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		})
		gone, cancel := context.WithCancel(t.Context())
		go func() {
			s.Handler().ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, "/readyz", nil).WithContext(gone))
		}()
		synctest.Wait()
		time.AfterFunc(time.Millisecond, cancel) // while the other waits for the same run
		if code, body := get(s, "/readyz"); code != 200 {
			t.Errorf("%d %q", code, body)
		}
	})
}

func TestPanicsAreAnswers(t *testing.T) {
	s := New(Config{}, quiet, nil)
	s.AddReady("bad", func(context.Context) error { panic("nil map") })
	s.Status("bad", func() any { panic("nil map") })
	s.Status("odd", func() any { return make(chan int) })
	s.Status("lag", func() any { return map[string]int{"ms": 7} })
	if code, body := get(s, "/readyz"); code != 503 || !strings.Contains(body, "panicked") {
		t.Errorf("%d %q", code, body)
	}
	code, body := get(s, "/statusz")
	var got map[string]map[string]any
	if err := json.Unmarshal([]byte(body), &got); err != nil || code != 200 {
		t.Fatalf("%d %v %q", code, err, body)
	}
	if got["lag"]["ms"] != 7.0 || got["bad"]["error"] == nil || got["odd"]["error"] == nil || got["process"]["started"] == nil {
		t.Errorf("status %v", got)
	}
}

func TestMetricsAndProfiles(t *testing.T) {
	reg := prometheus.NewRegistry()
	c := prometheus.NewCounter(prometheus.CounterOpts{Name: "tandem_test_total", Help: "x"})
	reg.MustRegister(c)
	c.Add(3)
	s := New(Config{}, quiet, reg)
	if _, body := get(s, "/metrics"); !strings.Contains(body, "tandem_test_total 3") || !strings.Contains(body, "go_goroutines") {
		t.Errorf("metrics:\n%s", body)
	}
	if code, _ := get(s, "/debug/pprof/"); code != 404 {
		t.Errorf("profiles without being enabled: %d", code)
	}
	// The same registry serves a second server.
	if code, _ := get(New(Config{Pprof: true}, quiet, reg), "/debug/pprof/"); code != 200 {
		t.Errorf("profiles when enabled: %d", code)
	}
	w := httptest.NewRecorder()
	s.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/readyz", nil))
	if w.Code != http.StatusMethodNotAllowed {
		t.Errorf("POST /readyz: %d", w.Code)
	}
}

func TestRunEndsAfterRequestsInFlight(t *testing.T) {
	s := New(Config{Listen: "127.0.0.1:0"}, quiet, nil)
	if s.Addr() != "" {
		t.Errorf("address %q before listening", s.Addr())
	}
	entered, release := make(chan struct{}), make(chan struct{})
	s.Handle("GET /slow", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		close(entered)
		<-release
		_, _ = io.WriteString(w, "whole")
	}))
	if err := s.Listen(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	answer := make(chan string, 1)
	client := &http.Client{Transport: &http.Transport{}}
	defer client.CloseIdleConnections()
	go func() {
		resp, err := client.Get("http://" + s.Addr() + "/slow")
		if err != nil {
			answer <- err.Error()
			return
		}
		defer resp.Body.Close()
		b, _ := io.ReadAll(resp.Body)
		answer <- string(b)
	}()
	<-entered
	cancel()
	for !s.draining.Load() {
		if code, _ := get(s, "/readyz"); code == 503 {
			break
		}
	}
	select {
	case err := <-ended:
		t.Fatalf("ended (%v) with a request in flight", err)
	default:
	}
	close(release)
	if got := <-answer; got != "whole" {
		t.Errorf("the request in flight got %q", got)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func TestTakenPortSaysWhatToDo(t *testing.T) {
	s := New(Config{Listen: "127.0.0.1:0"}, quiet, nil)
	if err := s.Listen(); err != nil {
		t.Fatal(err)
	}
	defer s.ln.Close()
	err := New(Config{Listen: s.Addr()}, quiet, nil).Run(t.Context())
	if err == nil || !strings.Contains(err.Error(), "free the port") {
		t.Errorf("error %v", err)
	}
}

func TestLogger(t *testing.T) {
	var b bytes.Buffer
	log := Logger(&b, "warn", "json")
	log.Info("hidden")
	log.Warn("shown", "n", 1)
	var got map[string]any
	if err := json.Unmarshal(b.Bytes(), &got); err != nil || got["msg"] != "shown" {
		t.Errorf("%v in %q", err, b.String())
	}
	b.Reset()
	log = Logger(&b, "loud", "xml")
	log.Info("still logs")
	if text := b.String(); !strings.Contains(text, "loud") || !strings.Contains(text, "xml") || !strings.Contains(text, "still logs") {
		t.Errorf("log %q", text)
	}
	if err := (LogConfig{Level: "debug", Format: "json"}).Validate(); err != nil {
		t.Error(err)
	}
	if err := (LogConfig{Level: "loud", Format: "xml"}).Validate(); err == nil || !strings.Contains(err.Error(), "level") || !strings.Contains(err.Error(), "format") {
		t.Errorf("error %v", err)
	}
}
