package link_test

import (
	"bufio"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/tandem-dc/tandem/testbench/link"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// upstream is a server that answers every byte with it, and notes when a byte came.
type upstream struct {
	addr string
	came chan time.Time
}

func startUpstream(t *testing.T) *upstream {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	u := &upstream{addr: l.Addr().String(), came: make(chan time.Time, 100)}
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			serving.Go(func() {
				defer c.Close()
				r := bufio.NewReader(c)
				for {
					b, err := r.ReadByte()
					if err != nil {
						return
					}
					u.came <- time.Now()
					if _, err := c.Write([]byte{b}); err != nil {
						return
					}
				}
			})
		}
	})
	t.Cleanup(func() { l.Close(); serving.Wait() })
	return u
}

func newLink(t *testing.T, u *upstream, o link.Options) *link.Link {
	t.Helper()
	l, err := link.New(u.addr, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.Close)
	return l
}

func dial(t *testing.T, l *link.Link) net.Conn {
	t.Helper()
	c, err := net.DialTimeout("tcp", l.Addr(), 5*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// ping sends one byte and gives the time of either direction.
func ping(t *testing.T, u *upstream, c net.Conn) (there, back time.Duration) {
	t.Helper()
	if err := c.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	if _, err := c.Write([]byte{1}); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	ended := time.Now()
	arrived := <-u.came
	return arrived.Sub(began), ended.Sub(arrived)
}

func TestBothDirectionsAreDelayed(t *testing.T) {
	const latency, slack = 40 * time.Millisecond, 35 * time.Millisecond
	u := startUpstream(t)
	l := newLink(t, u, link.Options{Latency: latency})
	c := dial(t, l)
	check := func(least time.Duration) {
		t.Helper()
		// The fastest of a few: a busy machine makes single ones slow.
		there, back := time.Hour, time.Hour
		for range 5 {
			a, b := ping(t, u, c)
			there, back = min(there, a), min(back, b)
		}
		t.Logf("there %v, back %v, round trip %v", there, back, there+back)
		for _, d := range []time.Duration{there, back} {
			if d < least || d > least+slack {
				t.Errorf("one direction took %v, want %v to %v", d, least, least+slack)
			}
		}
	}
	check(latency)
	if err := l.SetLatency(link.Options{Latency: 3 * latency}); err != nil {
		t.Fatal(err)
	}
	check(3 * latency)
	if err := l.SetLatency(link.Options{}); err != nil {
		t.Fatal(err)
	}
	check(0)
}

// Under the race detector: data is under way all the while.
func TestLatencyChangesUnderTraffic(t *testing.T) {
	u := startUpstream(t)
	l := newLink(t, u, link.Options{})
	c := dial(t, l)
	done := make(chan error, 1)
	go func() {
		for i := range 20 {
			if err := l.SetLatency(link.Options{Latency: time.Duration(i%3) * time.Millisecond}); err != nil {
				done <- err
				return
			}
		}
		done <- nil
	}()
	for changing := true; changing; {
		ping(t, u, c)
		select {
		case err := <-done:
			if err != nil {
				t.Fatal(err)
			}
			changing = false
		default:
		}
	}
	ping(t, u, c)
}

func TestJitterSpreads(t *testing.T) {
	u := startUpstream(t)
	c := dial(t, newLink(t, u, link.Options{Latency: 30 * time.Millisecond, Jitter: 30 * time.Millisecond}))
	least, most := time.Hour, time.Duration(0)
	for range 20 {
		there, _ := ping(t, u, c)
		least, most = min(least, there), max(most, there)
	}
	if most-least < 20*time.Millisecond {
		t.Errorf("20 delays of 0 to 60 ms lie between %v and %v", least, most)
	}
}

func TestCutDropsAndRefuses(t *testing.T) {
	u := startUpstream(t)
	l := newLink(t, u, link.Options{})
	c := dial(t, l)
	ping(t, u, c)
	addr := l.Addr()
	l.Cut()
	if _, err := c.Read(make([]byte, 1)); err == nil || os.IsTimeout(err) {
		t.Errorf("the open connection was not closed: %v", err)
	}
	if c, err := net.DialTimeout("tcp", addr, time.Second); err == nil {
		c.Close()
		t.Error("a cut link accepts")
	}
	if err := l.Restore(); err != nil {
		t.Fatal(err)
	}
	if l.Addr() != addr {
		t.Errorf("address went from %s to %s", addr, l.Addr())
	}
	ping(t, u, dial(t, l))
}

func TestHangLosesWithoutClosing(t *testing.T) {
	u := startUpstream(t)
	l := newLink(t, u, link.Options{Latency: time.Millisecond})
	old := dial(t, l)
	ping(t, u, old)
	if err := l.Hang(); err != nil {
		t.Fatal(err)
	}
	for _, c := range []net.Conn{old, dial(t, l)} {
		if err := c.SetDeadline(time.Now().Add(200 * time.Millisecond)); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Write([]byte{1}); err != nil {
			t.Errorf("write: %v", err)
		}
		if _, err := c.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("read on a hung link: %v", err)
		}
	}
	if len(u.came) != 0 {
		t.Error("a byte came through")
	}
	if err := l.Restore(); err != nil {
		t.Fatal(err)
	}
	if err := old.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := old.Read(make([]byte, 1)); err == nil || os.IsTimeout(err) {
		t.Errorf("a connection that lost bytes lives on: %v", err)
	}
	ping(t, u, dial(t, l))
}

func TestImpossibleDelaysAreRefused(t *testing.T) {
	for _, o := range []link.Options{
		{Latency: -time.Millisecond},
		{Latency: time.Millisecond, Jitter: 2 * time.Millisecond},
		{Latency: 1500 * time.Microsecond},
	} {
		if l, err := link.New("127.0.0.1:1", o); err == nil {
			l.Close()
			t.Errorf("%+v is accepted", o)
		}
	}
}
