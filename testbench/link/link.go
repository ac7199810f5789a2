// Package link answers how a test or a bench gets a wide area network between
// two servers of this machine: a TCP proxy that delays both directions and can be
// cut, hung and mended.
package link

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	toxiproxy "github.com/Shopify/toxiproxy/v2"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"github.com/tandem-dc/tandem/testbench/port"
)

// Options are the delays of a link.
type Options struct {
	// Latency is the mean delay of one direction, so a round trip takes twice as
	// long. Whole milliseconds; opening a connection is not delayed.
	Latency time.Duration
	// Jitter spreads each delay evenly over Latency +- Jitter. Data stays in
	// order, so a slow piece holds up those behind it, per connection.
	Jitter time.Duration
}

// Validate reports delays that a link cannot make.
func (o Options) Validate() error {
	switch {
	case o.Latency < 0 || o.Jitter < 0:
		return errors.New("latency and jitter of a link must not be negative")
	case o.Jitter > o.Latency:
		return fmt.Errorf("jitter %v of a link is larger than its latency %v", o.Jitter, o.Latency)
	case o.Latency%time.Millisecond != 0 || o.Jitter%time.Millisecond != 0:
		return fmt.Errorf("latency %v and jitter %v of a link must be whole milliseconds", o.Latency, o.Jitter)
	}
	return nil
}

// Link is one proxied way to an upstream address. Its address stays the same
// through cuts. Methods may be called concurrently.
type Link struct {
	mu    sync.Mutex
	proxy *toxiproxy.Proxy
	cut   bool
	hung  bool
	ended bool
}

// streams are both directions of a connection. Toxiproxy's toxics act on one, by
// default on what the upstream sends, which would leave a push undelayed.
var streams = []string{"upstream", "downstream"}

// New starts a link to upstream (host:port), which need not listen yet. The
// delays are in place before the first connection.
func New(upstream string, o Options) (*Link, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	server := toxiproxy.NewServer(toxiproxy.NewMetricsContainer(prometheus.NewRegistry()), zerolog.Nop())
	for attempt := 1; ; attempt++ {
		p, err := port.Reserve()
		if err != nil {
			return nil, err
		}
		proxy := toxiproxy.NewProxy(server, "link", port.Addr(p), upstream)
		for _, stream := range streams {
			if _, err := proxy.Toxics.AddToxicJson(latencyToxic(stream, o)); err != nil {
				return nil, fmt.Errorf("link to %s: %w", upstream, err)
			}
		}
		err = proxy.Start()
		if err == nil {
			return &Link{proxy: proxy}, nil
		}
		if attempt == 5 {
			return nil, fmt.Errorf("link to %s: %w", upstream, err)
		}
	}
}

func latencyToxic(stream string, o Options) *strings.Reader {
	return toxic("latency", stream, map[string]int64{"latency": o.Latency.Milliseconds(), "jitter": o.Jitter.Milliseconds()})
}

func toxic(kind, stream string, attributes map[string]int64) *strings.Reader {
	b, err := json.Marshal(map[string]any{
		"name": kind + "-" + stream, "type": kind, "stream": stream, "attributes": attributes,
	})
	if err != nil {
		panic("link: strings and numbers always marshal: " + err.Error())
	}
	return strings.NewReader(string(b))
}

// Addr is the host:port to dial instead of the upstream.
func (l *Link) Addr() string { return l.proxy.Listen }

// SetLatency changes the delays of open and new connections.
func (l *Link) SetLatency(o Options) error {
	if err := o.Validate(); err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	for _, stream := range streams {
		// Toxiproxy updates a toxic in place while connections read it: replace it instead.
		err := l.proxy.Toxics.RemoveToxic(ctx, "latency-"+stream)
		if err == nil {
			_, err = l.proxy.Toxics.AddToxicJson(latencyToxic(stream, o))
		}
		if err != nil {
			return fmt.Errorf("set the latency of the link to %s: %w", l.proxy.Upstream, err)
		}
	}
	return nil
}

// Cut closes every connection and refuses new ones, until Restore.
func (l *Link) Cut() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.cut = true
	l.proxy.Stop()
}

// Hang loses everything sent in either direction without closing a connection,
// as a partitioned network does, until Restore. New connections open and hear nothing.
func (l *Link) Hang() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.hung {
		return nil
	}
	l.hung = true
	for _, stream := range streams {
		if _, err := l.proxy.Toxics.AddToxicJson(toxic("timeout", stream, map[string]int64{"timeout": 0})); err != nil {
			return fmt.Errorf("hang the link to %s: %w", l.proxy.Upstream, err)
		}
	}
	return nil
}

// Restore undoes Cut and Hang. Connections that were hung are closed, since
// bytes of theirs are lost.
func (l *Link) Restore() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ended {
		return errors.New("the link is closed")
	}
	if l.hung {
		l.proxy.Stop()
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		for _, stream := range streams {
			if err := l.proxy.Toxics.RemoveToxic(ctx, "timeout-"+stream); err != nil {
				return fmt.Errorf("mend the link to %s: %w", l.proxy.Upstream, err)
			}
		}
	} else if !l.cut {
		return nil
	}
	l.cut, l.hung = false, false
	if err := l.proxy.Start(); err != nil {
		return fmt.Errorf("mend the link to %s: %w", l.proxy.Upstream, err)
	}
	return nil
}

// Close ends the link and its connections.
func (l *Link) Close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ended = true
	l.proxy.Stop()
}
