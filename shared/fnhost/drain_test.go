package fnhost

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	ce "github.com/cloudevents/sdk-go/v2"
)

// pipes is a listener in memory, so that connections live in virtual time.
type pipes struct {
	conns chan net.Conn
	dials atomic.Int32
	once  sync.Once
	done  chan struct{}
}

func newPipes() *pipes { return &pipes{conns: make(chan net.Conn), done: make(chan struct{})} }

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.done:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error   { p.once.Do(func() { close(p.done) }); return nil }
func (p *pipes) Addr() net.Addr { return &net.TCPAddr{} }

func (p *pipes) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	client, server := net.Pipe()
	select {
	case p.conns <- server:
		p.dials.Add(1)
		return client, nil
	case <-p.done:
		return nil, errors.New("connection refused")
	}
}

// caller sends events to a host that runs on pipes.
type caller struct {
	http  *http.Client
	pipes *pipes
	stop  context.CancelFunc
	end   chan error
}

func start(t *testing.T, h *Host, http2 bool) *caller {
	t.Helper()
	p := newPipes()
	tr := &http.Transport{DialContext: p.dial, Protocols: new(http.Protocols)}
	tr.Protocols.SetHTTP1(!http2)
	tr.Protocols.SetUnencryptedHTTP2(http2)
	ctx, cancel := context.WithCancel(t.Context())
	c := &caller{http: &http.Client{Transport: tr}, pipes: p, stop: cancel, end: make(chan error, 1)}
	go func() { c.end <- h.Serve(ctx, p) }()
	t.Cleanup(func() { cancel(); tr.CloseIdleConnections() })
	return c
}

// send returns the status, or 0 when the connection fails.
func (c *caller) send(body string) int {
	r, _ := http.NewRequest(http.MethodPost, "http://host/", strings.NewReader(body))
	r.Header = request("").Header
	return c.do(r)
}

func (c *caller) ready() int {
	r, _ := http.NewRequest(http.MethodGet, "http://host/readyz", nil)
	return c.do(r)
}

func (c *caller) do(r *http.Request) int {
	resp, err := c.http.Do(r)
	if err != nil {
		return 0
	}
	defer resp.Body.Close()
	_, _ = io.Copy(io.Discard, resp.Body)
	return resp.StatusCode
}

func eachProtocol(t *testing.T, run func(t *testing.T, http2 bool)) {
	for name, http2 := range map[string]bool{"http1": false, "h2c": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { run(t, http2) })
		})
	}
}

func TestDrain(t *testing.T) {
	eachProtocol(t, func(t *testing.T, http2 bool) {
		h := newHost(t, Config{Drain: 3 * time.Second, Finish: 20 * time.Second}, quiet, func(ctx context.Context, _ ce.Event) error {
			select {
			case <-time.After(10 * time.Second):
				return nil
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		})
		c := start(t, h, http2)
		if code := c.ready(); code != 200 {
			t.Fatalf("not ready at the start: %d", code)
		}
		results := make(chan int, 2)
		go func() { results <- c.send("early") }()
		synctest.Wait()
		c.stop()
		time.Sleep(2 * time.Second)
		if code := c.ready(); code != 503 {
			t.Errorf("ready while draining: %d", code)
		}
		go func() { results <- c.send("late") }() // within the grace: senders learn slowly
		time.Sleep(2 * time.Second)
		fresh := *c
		fresh.http = &http.Client{Transport: c.http.Transport.(*http.Transport).Clone()}
		if code := fresh.send("after"); code != 0 {
			t.Errorf("an event after the grace is answered %d", code)
		}
		begin := time.Now()
		for range 2 {
			if code := <-results; code != 200 {
				t.Errorf("an event in flight is answered %d", code)
			}
		}
		if err := <-c.end; err != nil {
			t.Error(err)
		}
		if took := time.Since(begin); took > 9*time.Second {
			t.Errorf("ended %v after the grace; the last event took 8 s more", took)
		}
	})
}

func TestDrainIsBounded(t *testing.T) {
	eachProtocol(t, func(t *testing.T, http2 bool) {
		var cause error
		h := newHost(t, Config{Drain: time.Second, Finish: 5 * time.Second, Timeout: time.Hour}, quiet, func(ctx context.Context, _ ce.Event) error {
			<-ctx.Done()
			cause = context.Cause(ctx)
			return cause
		})
		c := start(t, h, http2)
		result := make(chan int, 1)
		go func() { result <- c.send("{}") }()
		synctest.Wait()
		begin := time.Now()
		c.stop()
		err := <-c.end
		if err == nil || !strings.Contains(err.Error(), "cut off") {
			t.Errorf("error %v", err)
		}
		if took := time.Since(begin); took < 6*time.Second || took > 7*time.Second {
			t.Errorf("ended after %v", took)
		}
		if !errors.Is(cause, errStop) {
			t.Errorf("the function's context ended by %v", cause)
		}
		if code := <-result; code == 200 {
			t.Error("an event that was cut off counts as handled")
		}
	})
}

// A function that does not heed its context must not keep the process.
func TestDeafFunctionDoesNotBlockTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		h := newHost(t, Config{Finish: time.Second}, quiet, func(context.Context, ce.Event) error { <-release; return nil })
		c := start(t, h, false)
		answered := make(chan int, 1)
		go func() { answered <- c.send("{}") }()
		synctest.Wait()
		begin := time.Now()
		c.stop()
		if err := <-c.end; err == nil {
			t.Error("ended well")
		}
		if code := <-answered; code != 0 {
			t.Errorf("the caller got %d", code)
		}
		if took := time.Since(begin); took > 3*time.Second {
			t.Errorf("took %v", took)
		}
		close(release)
	})
}

func TestTimeoutOfOneEvent(t *testing.T) {
	eachProtocol(t, func(t *testing.T, http2 bool) {
		h := newHost(t, Config{Timeout: 45 * time.Second}, quiet, func(ctx context.Context, _ ce.Event) error {
			<-ctx.Done()
			return ctx.Err()
		})
		c := start(t, h, http2)
		begin := time.Now()
		if code := c.send("{}"); code != 503 || time.Since(begin) != 45*time.Second {
			t.Errorf("%d after %v", code, time.Since(begin))
		}
		// The limits of that request do not outlive it.
		time.Sleep(50 * time.Second)
		if code := c.ready(); code != 200 {
			t.Errorf("the next request on the connection: %d", code)
		}
		c.stop()
		<-c.end
	})
}

func TestCallerThatGoesAwayEndsTheContext(t *testing.T) {
	eachProtocol(t, func(t *testing.T, http2 bool) {
		ended := make(chan error, 1)
		h := newHost(t, Config{}, quiet, func(ctx context.Context, _ ce.Event) error {
			<-ctx.Done()
			ended <- ctx.Err()
			return ctx.Err()
		})
		c := start(t, h, http2)
		ctx, cancel := context.WithCancel(t.Context())
		r, _ := http.NewRequestWithContext(ctx, http.MethodPost, "http://host/", strings.NewReader("{}"))
		r.Header = request("").Header
		go c.do(r)
		synctest.Wait()
		begin := time.Now()
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) || time.Since(begin) > time.Second {
			t.Errorf("%v after %v", err, time.Since(begin))
		}
		c.stop()
		<-c.end
	})
}

func TestSlowCallersAreDropped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t, Config{}, quiet, func(context.Context, ce.Event) error { return nil })
		p := newPipes()
		ctx, cancel := context.WithCancel(t.Context())
		end := make(chan error, 1)
		go func() { end <- h.Serve(ctx, p) }()
		for name, c := range map[string]struct {
			text  string
			limit time.Duration
		}{
			"half a header": {"POST / HTTP/1.1\r\nHost: x\r\nCe-", 6 * time.Second},
			"half a body":   {"POST / HTTP/1.1\r\nHost: x\r\nCe-Specversion: 1.0\r\nCe-Id: 1\r\nCe-Type: t\r\nCe-Source: s\r\nContent-Length: 10\r\n\r\nabc", readTimeout + 6*time.Second},
		} {
			conn, err := p.dial(ctx, "", "")
			if err != nil {
				t.Fatal(err)
			}
			begin := time.Now()
			if _, err := io.WriteString(conn, c.text); err != nil {
				t.Fatal(err)
			}
			_, _ = io.Copy(io.Discard, bufio.NewReader(conn))
			if took := time.Since(begin); took > c.limit {
				t.Errorf("%s held a connection for %v", name, took)
			}
			conn.Close()
		}
		cancel()
		if err := <-end; err != nil {
			t.Error(err)
		}
	})
}

func TestMoreStreamsThanTheDefaultOfHTTP2(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const n = 1000
		release := make(chan struct{})
		h := newHost(t, Config{}, quiet, func(context.Context, ce.Event) error { <-release; return nil })
		c := start(t, h, true)
		if c.ready() != 200 { // one connection first, which all then share
			t.Fatal("not ready")
		}
		var wg sync.WaitGroup
		for range n {
			wg.Go(func() {
				if code := c.send("{}"); code != 200 {
					t.Errorf("answered %d", code)
				}
			})
		}
		synctest.Wait()
		if held := h.held.Load(); held != n*2 {
			t.Errorf("%d of %d events are with the function", held/2, n)
		}
		if dials := c.pipes.dials.Load(); dials != 1 {
			t.Errorf("over %d connections", dials)
		}
		close(release)
		wg.Wait()
		c.stop()
		if err := <-c.end; err != nil {
			t.Error(err)
		}
	})
}

func TestBrokenListenerIsAnError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t, Config{}, quiet, func(context.Context, ce.Event) error { return nil })
		p := newPipes()
		p.Close()
		if err := h.Serve(t.Context(), p); err == nil || !errors.Is(err, net.ErrClosed) {
			t.Errorf("error %v", err)
		}
	})
}

func TestRunOnTCP(t *testing.T) {
	h := newHost(t, Config{Listen: "127.0.0.1:0"}, quiet, func(context.Context, ce.Event) error { return nil })
	if err := h.Listen(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	end := make(chan error, 1)
	go func() { end <- h.Run(ctx) }()
	for _, http2 := range []bool{false, true} {
		tr := &http.Transport{Protocols: new(http.Protocols)}
		tr.Protocols.SetHTTP1(!http2)
		tr.Protocols.SetUnencryptedHTTP2(http2)
		r, _ := http.NewRequest(http.MethodPost, "http://"+h.Addr(), strings.NewReader("{}"))
		r.Header = request("").Header
		resp, err := (&http.Client{Transport: tr}).Do(r)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != 200 || (resp.ProtoMajor == 2) != http2 {
			t.Errorf("%s: %d", resp.Proto, resp.StatusCode)
		}
		tr.CloseIdleConnections()
	}
	cancel()
	if err := <-end; err != nil {
		t.Error(err)
	}
}
