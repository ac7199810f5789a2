package fnhost

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	ce "github.com/cloudevents/sdk-go/v2"
	"go.uber.org/goleak"

	"github.com/tandem-dc/tandem/shared/serve"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var quiet = slog.New(slog.DiscardHandler)

type function func(context.Context, ce.Event) error

func (f function) Handle(ctx context.Context, e ce.Event) error { return f(ctx, e) }

func newHost(t *testing.T, cfg Config, log *slog.Logger, f function) *Host {
	t.Helper()
	h, err := New(cfg, serve.New(serve.Config{}, quiet, nil), f, log)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// request is a binary-mode event as KafkaSource sends it.
func request(body string) *http.Request {
	r := httptest.NewRequest(http.MethodPost, "/", strings.NewReader(body))
	for k, v := range map[string]string{"Ce-Specversion": "1.0", "Ce-Id": "u:7", "Ce-Source": "/tandem/a/mysql/1",
		"Ce-Type": "dev.tandem.test", "Ce-Sequence": "7", "Content-Type": "application/json"} {
		r.Header.Set(k, v)
	}
	return r
}

func post(h *Host, r *http.Request) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	h.route(w, r)
	return w
}

func metricsOf(h *Host) string {
	return post(h, httptest.NewRequest(http.MethodGet, "/metrics", nil)).Body.String()
}

func TestEventArrivesWhole(t *testing.T) {
	var got ce.Event
	h := newHost(t, Config{}, quiet, func(_ context.Context, e ce.Event) error { got = e; return nil })
	if w := post(h, request(`{"a":1}`)); w.Code != 200 {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	if got.ID() != "u:7" || got.Source() != "/tandem/a/mysql/1" || string(got.Data()) != `{"a":1}` || got.Extensions()["sequence"] != "7" {
		t.Errorf("binary event %v", got)
	}
	r := httptest.NewRequest(http.MethodPost, "/", strings.NewReader(`{"specversion":"1.0","id":"x","source":"s","type":"t","sequence":"8","datacontenttype":"application/json","data":{"b":2}}`))
	r.Header.Set("Content-Type", "application/cloudevents+json; charset=utf-8")
	if w := post(h, r); w.Code != 200 || got.ID() != "x" || string(got.Data()) != `{"b":2}` {
		t.Errorf("structured event: %d, %v", w.Code, got)
	}
}

func TestStatusContract(t *testing.T) {
	down := errors.New("database down")
	for _, c := range []struct {
		err  error
		want int
	}{
		{nil, 200}, {Transient(nil), 200},
		{Transient(down), 503}, {Overloaded(down), 429}, {Busy(down), 409}, {Refuse(down), 422}, {down, 500},
		{fmt.Errorf("applying: %w", Refuse(down)), 422},
		{Transient(fmt.Errorf("again: %w", Refuse(down))), 503}, // the outermost knows best
		{fmt.Errorf("query: %w", context.DeadlineExceeded), 503},
		{fmt.Errorf("query: %w", context.Canceled), 503},
		{Refuse(context.DeadlineExceeded), 422},
	} {
		h := newHost(t, Config{}, quiet, func(context.Context, ce.Event) error { return c.err })
		w := post(h, request("{}"))
		if w.Code != c.want {
			t.Errorf("%v answers %d, want %d", c.err, w.Code, c.want)
		}
		if c.err != nil && !strings.Contains(w.Body.String(), c.err.Error()) {
			t.Errorf("%v: the answer %q does not say it", c.err, w.Body)
		}
		if line := fmt.Sprintf("tandem_function_requests_total{code=\"%d\"} 1\n", c.want); !strings.Contains(metricsOf(h), line) {
			t.Errorf("%v is not counted as %d", c.err, c.want)
		}
		if c.err != nil && Status(c.err) != 500 && !errors.Is(c.err, errors.Unwrap(c.err)) {
			t.Errorf("%v hides its cause", c.err)
		}
	}
}

func TestReasonIsBounded(t *testing.T) {
	h := newHost(t, Config{}, quiet, func(context.Context, ce.Event) error { return Refuse(errors.New(strings.Repeat("é", 4000))) })
	if n := post(h, request("{}")).Body.Len(); n > maxReason+1 || n < maxReason-2 {
		t.Errorf("answer of %d bytes", n)
	}
}

func TestPanicIsAnsweredAndLogged(t *testing.T) {
	var b bytes.Buffer
	h := newHost(t, Config{}, slog.New(slog.NewTextHandler(&b, nil)), func(context.Context, ce.Event) error { panic("row 4111-1111") })
	w := post(h, request("{}"))
	if w.Code != 500 || strings.Contains(w.Body.String(), "4111") {
		t.Errorf("%d %q", w.Code, w.Body)
	}
	if !strings.Contains(b.String(), "4111") || !strings.Contains(b.String(), "fnhost_test.go") || !strings.Contains(b.String(), "u:7") {
		t.Errorf("log lacks the value, the stack or the event: %s", b.String())
	}
	if h.held.Load() != 0 || !strings.Contains(metricsOf(h), "tandem_function_in_flight 0\n") {
		t.Error("a panic leaves the event in flight")
	}
}

func TestRefusedBeforeTheFunction(t *testing.T) {
	h := newHost(t, Config{MaxBody: 100, MaxInFlightBytes: 1000}, quiet, func(context.Context, ce.Event) error {
		t.Error("the function was asked")
		return nil
	})
	with := func(r *http.Request, edit func(*http.Request)) *http.Request { edit(r); return r }
	for name, c := range map[string]struct {
		r    *http.Request
		want int
		says string
	}{
		"too large":            {request(strings.Repeat("x", 101)), 413, "100 bytes"},
		"too large, no length": {with(request(strings.Repeat("x", 101)), func(r *http.Request) { r.ContentLength = -1 }), 413, "100 bytes"},
		"too large, structured": {with(request(`{"specversion":"1.0","id":"x","source":"s","type":"t","data":"`+strings.Repeat("x", 101)+`"}`), func(r *http.Request) {
			r.ContentLength = -1
			r.Header.Set("Content-Type", "application/cloudevents+json")
		}), 413, "100 bytes"},
		"compressed":     {with(request("x"), func(r *http.Request) { r.Header.Set("Content-Encoding", "gzip") }), 415, "uncompressed"},
		"batch":          {with(request("[]"), func(r *http.Request) { r.Header.Set("Content-Type", "application/cloudevents-batch+json") }), 415, "one event"},
		"no event":       {httptest.NewRequest(http.MethodPost, "/", strings.NewReader("hello")), 400, "CloudEvent"},
		"no id":          {with(request("{}"), func(r *http.Request) { r.Header.Del("Ce-Id") }), 400, "id"},
		"bad structured": {with(request("{"), func(r *http.Request) { r.Header.Set("Content-Type", "application/cloudevents+json") }), 400, "CloudEvent"},
		"broken body":    {with(request("{}"), func(r *http.Request) { r.Body = io.NopCloser(io.MultiReader(strings.NewReader("{"), broken{})) }), 400, "cable"},
		"GET":            {httptest.NewRequest(http.MethodGet, "/", nil), 405, "POST"},
	} {
		w := post(h, c.r)
		if w.Code != c.want || !strings.Contains(w.Body.String(), c.says) {
			t.Errorf("%s: %d %q, want %d with %q", name, w.Code, w.Body, c.want, c.says)
		}
		if h.held.Load() != 0 {
			t.Fatalf("%s: %d bytes stay reserved", name, h.held.Load())
		}
	}
}

type broken struct{}

func (broken) Read([]byte) (int, error) { return 0, errors.New("cable pulled") }

func TestBytesInFlightAreBounded(t *testing.T) {
	entered, release := make(chan struct{}), make(chan struct{})
	h := newHost(t, Config{MaxBody: 100, MaxInFlightBytes: 250}, quiet, func(context.Context, ce.Event) error {
		entered <- struct{}{}
		<-release
		return nil
	})
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			if w := post(h, request(strings.Repeat("x", 100))); w.Code != 200 {
				t.Errorf("%d %s", w.Code, w.Body)
			}
		})
		<-entered
	}
	for range 10 { // a refused one takes no room
		if w := post(h, request(strings.Repeat("x", 100))); w.Code != 429 {
			t.Errorf("the third of 100 bytes within 250: %d", w.Code)
		}
	}
	close(release)
	wg.Wait()
	wg.Go(func() { <-entered })
	if w := post(h, request(strings.Repeat("x", 100))); w.Code != 200 {
		t.Errorf("after the others ended: %d", w.Code)
	}
	wg.Wait()
}

func TestProbesShareThePort(t *testing.T) {
	h := newHost(t, Config{}, quiet, func(context.Context, ce.Event) error { return nil })
	post(h, request("{}"))
	for path, says := range map[string]string{"/readyz": "ok", "/health/readiness": "ok", "/health/liveness": "ok", "/statusz": "process",
		"/metrics": `tandem_function_requests_total{code="200"} 1`} {
		w := post(h, httptest.NewRequest(http.MethodGet, path, nil))
		if w.Code != 200 || !strings.Contains(w.Body.String(), says) {
			t.Errorf("%s: %d %s", path, w.Code, w.Body)
		}
	}
	if _, err := New(Config{}, h.server, function(nil), quiet); err == nil {
		t.Error("two hosts report to one registry under the same names")
	}
}

func TestKnativeEnvironment(t *testing.T) {
	env := func(pairs ...string) func(string) string {
		return func(name string) string {
			for i := 0; i < len(pairs); i += 2 {
				if pairs[i] == name {
					return pairs[i+1]
				}
			}
			return ""
		}
	}
	for _, c := range []struct {
		listen, want string
		getenv       func(string) string
	}{
		{"127.0.0.1:9000", "127.0.0.1:9000", env()},
		{"", "127.0.0.1:4711", env("PORT", "4711")},
		{"10.1.1.1:80", "10.1.1.1:4711", env("PORT", "4711")},
		{"", ":4711", env("PORT", "4711", "KUBERNETES_SERVICE_HOST", "10.0.0.1")},
	} {
		got, err := Knative(Config{Listen: c.listen}, c.getenv)
		if err != nil || got.Listen != c.want {
			t.Errorf("%q becomes %q (%v), want %q", c.listen, got.Listen, err, c.want)
		}
	}
	if got, err := Knative(Config{Sink: "http://a"}, env("K_SINK", "http://b")); err != nil || got.Sink != "http://b" {
		t.Errorf("sink %q, %v", got.Sink, err)
	}
	for _, port := range []string{"http", "0", "65536", "-1"} {
		if _, err := Knative(Config{}, env("PORT", port)); err == nil {
			t.Errorf("port %s is taken", port)
		}
	}
}

func TestValidateNamesTheKey(t *testing.T) {
	for key, c := range map[string]Config{
		"listen": {Listen: "8080"}, "sink": {Sink: "broker"}, "max-body": {MaxBody: -1}, "timeout": {Timeout: -1}, "drain": {Drain: -1},
		"max-in-flight-bytes": {MaxBody: 100, MaxInFlightBytes: 99},
	} {
		if err := c.Validate(); err == nil || !strings.HasPrefix(err.Error(), key+": ") {
			t.Errorf("%+v: %v", c, err)
		}
	}
	if err := (Config{}).Validate(); err != nil {
		t.Errorf("the zero value: %v", err)
	}
	if _, err := New(Config{}, nil, nil, nil); err == nil {
		t.Error("nothing at all is accepted")
	}
}
