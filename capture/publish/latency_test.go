package publish

import (
	"context"
	"io"
	"log/slog"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/twmb/franz-go/pkg/kfake"
)

// longLine dials through n with a fixed delay each way.
type longLine struct {
	n     *kfake.VirtualNetwork
	delay time.Duration
	wg    sync.WaitGroup
}

func (l *longLine) dial(ctx context.Context, network, address string) (net.Conn, error) {
	far, err := l.n.DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	client, near := net.Pipe()
	l.relay(far, near)
	l.relay(near, far)
	return client, nil
}

func (l *longLine) relay(dst, src net.Conn) {
	type chunk struct {
		due  time.Time
		data []byte
	}
	line := make(chan chunk, 1<<16)
	l.wg.Go(func() {
		defer close(line)
		for {
			buf := make([]byte, 32<<10)
			n, err := src.Read(buf)
			if err != nil {
				return
			}
			line <- chunk{time.Now().Add(l.delay), buf[:n]}
		}
	})
	l.wg.Go(func() {
		defer dst.Close()
		for c := range line {
			time.Sleep(time.Until(c.due))
			if _, err := dst.Write(c.data); err != nil {
				_, _ = io.Copy(io.Discard, src)
				return
			}
		}
	})
}

// Over a line of 100 ms each way and at 500 events a second, an event is
// acknowledged one round trip after it was published, give or take what it waits for a free
// connection. A Writer that keeps one batch in flight would need two.
func TestAcknowledgedWithinOneRoundTrip(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var vn kfake.VirtualNetwork
		c := cluster(t, kfake.ListenFn(vn.Listen))
		defer c.Close()
		line := &longLine{n: &vn, delay: 100 * time.Millisecond}
		p, err := New(Config{Connections: 32, Linger: 2 * time.Millisecond, Hedge: 400 * time.Millisecond},
			Target{Dialer: &kafka.Dialer{DialFunc: line.dial}, Brokers: c.ListenAddrs(), Topic: topic}, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- p.Run(ctx) }()
		time.Sleep(2 * time.Second) // connect and warm up, on the fake clock
		if got := p.Stats().Connections; got != 32 {
			t.Fatalf("%d connections are open before the first event", got)
		}

		const n = 1000
		sent := make([]time.Time, n)
		var slowest time.Duration
		acked := make(chan struct{})
		go func() {
			defer close(acked)
			for done := uint64(0); done < n; {
				<-p.Notify()
				for now := p.Acked(); done < now; done++ {
					slowest = max(slowest, time.Since(sent[done]))
				}
			}
		}()
		for i := range n {
			sent[i] = time.Now()
			if _, err := p.Publish(ctx, rec(i+1)); err != nil {
				t.Fatal(err)
			}
			time.Sleep(2 * time.Millisecond)
		}
		<-acked
		if slowest > 215*time.Millisecond {
			t.Errorf("the slowest event took %v, a round trip is 200ms", slowest)
		}
		t.Logf("slowest: %v", slowest)
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		c.Close()
		line.wg.Wait()
	})
}

// When idle, an event leaves at once: the linger time is for company only.
func TestIdleProducerDoesNotLinger(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var vn kfake.VirtualNetwork
		c := cluster(t, kfake.ListenFn(vn.Listen))
		defer c.Close()
		p, err := New(Config{Connections: 2, Linger: time.Minute},
			Target{Dialer: &kafka.Dialer{DialFunc: vn.DialContext}, Brokers: c.ListenAddrs(), Topic: topic}, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- p.Run(ctx) }()
		for i := range 10 {
			before := time.Now()
			if _, err := p.Publish(ctx, rec(i)); err != nil {
				t.Fatal(err)
			}
			if err := p.Flush(ctx); err != nil {
				t.Fatal(err)
			}
			if d := time.Since(before); d > 0 {
				t.Errorf("event %d took %v on a network without delay", i, d)
			}
		}
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}
