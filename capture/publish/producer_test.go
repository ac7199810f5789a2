package publish

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"github.com/tandem-dc/tandem/shared/retry"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const topic = "binlog-a"

type cleaner interface {
	Helper()
	Fatalf(string, ...any)
	Errorf(string, ...any)
}

func cluster(t cleaner, opts ...kfake.Opt) *kfake.Cluster {
	t.Helper()
	c, err := kfake.NewCluster(append([]kfake.Opt{kfake.NumBrokers(1), kfake.SeedTopics(8, topic)}, opts...)...)
	if err != nil {
		t.Fatalf("kfake: %v", err)
	}
	return c
}

// rig is a running producer and what it needs to be stopped.
type rig struct {
	*Producer
	log  *bytes.Buffer
	stop func() error
}

func start(t cleaner, brokers []string, cfg Config, edit ...func(*Target)) *rig {
	t.Helper()
	r := &rig{log: &bytes.Buffer{}}
	to := Target{Dialer: &kafka.Dialer{}, Brokers: brokers, Topic: topic, Backoff: retry.Policy{Min: time.Millisecond, Max: 20 * time.Millisecond}}
	for _, f := range edit {
		f(&to)
	}
	p, err := New(cfg, to, slog.New(slog.NewTextHandler(&syncWriter{w: r.log}, nil)))
	if err != nil {
		t.Fatalf("New: %v", err)
	}
	r.Producer = p
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- p.Run(ctx) }()
	r.stop = sync.OnceValue(func() error {
		cancel()
		return <-done
	})
	return r
}

type syncWriter struct {
	mu sync.Mutex
	w  io.Writer
}

func (s *syncWriter) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.w.Write(b)
}

func publishN(t cleaner, p *Producer, from, n int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	for i := from; i < from+n; i++ {
		if _, err := p.Publish(ctx, rec(i)); err != nil {
			t.Fatalf("publish %d: %v", i, err)
		}
	}
}

func rec(i int) Record {
	id := fmt.Sprintf("e%d", i)
	return Record{ID: id, Message: kafka.Message{Value: []byte(id), Headers: []kafka.Header{{Key: "ce_id", Value: []byte(id)}}}}
}

func flush(t cleaner, p *Producer) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	if err := p.Flush(ctx); err != nil {
		t.Fatalf("flush: %v", err)
	}
}

// stored counts how often each value is in the topic.
func stored(t cleaner, broker string) map[string]int {
	t.Helper()
	got := map[string]int{}
	for part := range 8 {
		conn, err := kafka.DialLeader(context.Background(), "tcp", broker, topic, part)
		if err != nil {
			t.Fatalf("dial: %v", err)
		}
		_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
		first, last, err := conn.ReadOffsets()
		if err != nil {
			t.Fatalf("offsets: %v", err)
		}
		_, _ = conn.Seek(first, kafka.SeekAbsolute)
		for first < last {
			m, err := conn.ReadMessage(10 << 20)
			if err != nil {
				t.Fatalf("read: %v", err)
			}
			got[string(m.Value)]++
			first = m.Offset + 1
		}
		_ = conn.Close()
	}
	return got
}

func checkStored(t cleaner, broker string, n int) {
	t.Helper()
	got := stored(t, broker)
	for i := 1; i <= n; i++ {
		if got[fmt.Sprintf("e%d", i)] == 0 {
			t.Fatalf("e%d of %d is missing", i, n)
		}
	}
}

func TestPublishAcknowledgesAll(t *testing.T) {
	for _, compression := range []string{"none", "snappy", "zstd"} {
		t.Run(compression, func(t *testing.T) {
			c := cluster(t)
			defer c.Close()
			r := start(t, c.ListenAddrs(), Config{Connections: 3, Compression: compression})
			defer r.stop()
			publishN(t, r.Producer, 1, 2000)
			flush(t, r.Producer)
			if got := r.Acked(); got != 2000 {
				t.Errorf("acknowledged up to %d", got)
			}
			if err := r.Healthy(); err != nil {
				t.Errorf("not healthy: %v", err)
			}
			checkStored(t, c.ListenAddrs()[0], 2000)
			if err := r.stop(); err != nil {
				t.Errorf("Run: %v", err)
			}
			if _, err := r.Publish(t.Context(), rec(1)); !errors.Is(err, ErrStopped) {
				t.Errorf("publish after the end: %v", err)
			}
		})
	}
}

func TestRefusedBatchIsSentAgain(t *testing.T) {
	for _, e := range []*kerr.Error{kerr.KafkaStorageError, kerr.NotLeaderForPartition, kerr.RequestTimedOut, kerr.NotEnoughReplicasAfterAppend, kerr.UnknownServerError, kerr.CorruptMessage} {
		t.Run(e.Message, func(t *testing.T) {
			c := cluster(t)
			defer c.Close()
			h := c.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Err: e, Count: 5})
			defer h.Remove()
			r := start(t, c.ListenAddrs(), Config{Connections: 2})
			defer r.stop()
			publishN(t, r.Producer, 1, 500)
			flush(t, r.Producer)
			checkStored(t, c.ListenAddrs()[0], 500)
			if h.Hits() == 0 {
				t.Error("the fault was never met")
			}
		})
	}
}

// A broker whose disk is full answers KAFKA_STORAGE_ERROR for as long as it is.
func TestStorageErrorShowsAndRecovers(t *testing.T) {
	c := cluster(t)
	defer c.Close()
	h := c.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Err: kerr.KafkaStorageError, Count: -1})
	r := start(t, c.ListenAddrs(), Config{Connections: 2})
	defer r.stop()
	publishN(t, r.Producer, 1, 10)
	if err := h.Wait(t.Context(), 6); err != nil {
		t.Fatal(err)
	}
	if err := r.Healthy(); err == nil || !strings.Contains(err.Error(), "disk is full") {
		t.Errorf("while the broker cannot write, Healthy says %v", err)
	}
	if r.Acked() != 0 {
		t.Errorf("acknowledged %d", r.Acked())
	}
	h.Remove()
	flush(t, r.Producer)
	if err := r.Healthy(); err != nil {
		t.Errorf("after the repair: %v", err)
	}
	checkStored(t, c.ListenAddrs()[0], 10)
	_ = r.stop()
	if log := r.log.String(); !strings.Contains(log, "level=WARN") || !strings.Contains(log, "publishing works again") {
		t.Errorf("log:\n%s", log)
	}
}

func TestOversizeEventStopsWithARemedy(t *testing.T) {
	for _, limit := range []int{0, 2000} { // what the producer knows; the broker refuses in any case
		t.Run(fmt.Sprint(limit), func(t *testing.T) {
			c := cluster(t, kfake.BrokerConfigs(map[string]string{"message.max.bytes": "2000"}))
			defer c.Close()
			r := start(t, c.ListenAddrs(), Config{Connections: 2}, func(to *Target) { to.MaxMessageBytes = limit })
			defer r.stop()
			publishN(t, r.Producer, 1, 100)
			if _, err := r.Publish(t.Context(), Record{ID: "big", Message: kafka.Message{Value: bytes.Repeat([]byte("x"), 3000)}}); err != nil {
				t.Fatal(err)
			}
			publishN(t, r.Producer, 102, 1)
			err := r.Flush(t.Context())
			var size *SizeError
			if !errors.As(err, &size) || size.ID != "big" || size.Size < 3000 || size.Limit != limit {
				t.Fatalf("flush: %v", err)
			}
			if !strings.Contains(err.Error(), "max.message.bytes") {
				t.Errorf("no remedy in: %v", err)
			}
			if err := r.stop(); !errors.As(err, &size) || !Permanent(err) {
				t.Errorf("Run: %v", err)
			}
			if r.Acked() > 100 {
				t.Errorf("the frontier %d passed the event that was refused", r.Acked())
			}
			if n := stored(t, c.ListenAddrs()[0])[strings.Repeat("x", 3000)]; n != 0 {
				t.Errorf("it is in the log %d times", n)
			}
		})
	}
}

// Many small records in one batch that the broker takes for too large are
// sent one by one, not refused.
func TestBatchAboveAnUnknownLimitIsSplit(t *testing.T) {
	c := cluster(t, kfake.BrokerConfigs(map[string]string{"message.max.bytes": "600"}))
	defer c.Close()
	hold := c.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Err: kerr.KafkaStorageError, Count: 1})
	defer hold.Remove()
	r := start(t, c.ListenAddrs(), Config{Connections: 1})
	defer r.stop()
	publishN(t, r.Producer, 1, 300)
	flush(t, r.Producer)
	checkStored(t, c.ListenAddrs()[0], 300)
}

func TestNoAccessIsPermanent(t *testing.T) {
	c := cluster(t)
	defer c.Close()
	h := c.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Err: kerr.TopicAuthorizationFailed, Count: -1})
	defer h.Remove()
	r := start(t, c.ListenAddrs(), Config{Connections: 2})
	defer r.stop()
	publishN(t, r.Producer, 1, 1)
	if err := r.Flush(t.Context()); err == nil || !strings.Contains(err.Error(), "WRITE") || !Permanent(err) {
		t.Errorf("flush: %v", err)
	}
}

func TestPublishBlocksWhenFull(t *testing.T) {
	c := cluster(t)
	defer c.Close()
	h := c.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Err: kerr.KafkaStorageError, Count: -1})
	r := start(t, c.ListenAddrs(), Config{Connections: 2, MaxInFlight: 10})
	defer r.stop()
	publishN(t, r.Producer, 1, 10)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := r.Publish(ctx, rec(11)); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("publish beyond the bound: %v", err)
	}
	h.Remove()
	publishN(t, r.Producer, 11, 20)
	flush(t, r.Producer)
	checkStored(t, c.ListenAddrs()[0], 30)
}

// A broker that takes requests and never answers costs the write timeout, and
// with later batches answered elsewhere only the hedge.
func TestSilentConnectionIsHedged(t *testing.T) {
	c := cluster(t)
	defer c.Close()
	silent := 0
	c.ControlKey(int16(kmsg.Produce), func(kmsg.Request) (kmsg.Response, error, bool) {
		silent++
		return nil, nil, true // dropped after this one use
	})
	r := start(t, c.ListenAddrs(), Config{Connections: 4, WriteTimeout: time.Hour, Hedge: 20 * time.Millisecond})
	defer r.stop()
	publishN(t, r.Producer, 1, 1)
	for i := 2; r.Acked() < 1; i++ {
		if i > 1000 {
			t.Fatal("the batch on the silent connection is still out")
		}
		publishN(t, r.Producer, i, 1)
		select {
		case <-r.Notify():
		case <-time.After(10 * time.Millisecond):
		}
	}
}

func TestUnreachableBrokerIsNotHealthy(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	_ = l.Close()
	r := start(t, []string{addr}, Config{})
	defer r.stop()
	publishN(t, r.Producer, 1, 1)
	deadline := time.After(10 * time.Second)
	for !strings.Contains(fmt.Sprint(r.Healthy()), addr) {
		select {
		case <-deadline:
			t.Fatalf("Healthy says %v", r.Healthy())
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// Whatever fails, everything published ends in the log, and what is reported as
// acknowledged when the producer dies is there already.
func TestPublishProperty(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := cluster(t)
		defer c.Close()
		faults := []*kerr.Error{kerr.KafkaStorageError, kerr.NotLeaderForPartition, kerr.RequestTimedOut, kerr.NotEnoughReplicasAfterAppend, kerr.UnknownServerError}
		plan := rapid.SliceOfN(rapid.IntRange(0, 12), 0, 40).Draw(t, "plan")
		var mu sync.Mutex
		c.ControlKey(int16(kmsg.Produce), func(kmsg.Request) (kmsg.Response, error, bool) {
			c.KeepControl()
			mu.Lock()
			defer mu.Unlock()
			if len(plan) == 0 {
				return nil, nil, false
			}
			step := plan[0]
			plan = plan[1:]
			switch {
			case step == 0:
				return nil, errors.New("connection dropped"), true
			case step == 1:
				return nil, nil, true // never answered
			case step-2 < len(faults):
				c.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Err: faults[step-2]})
			}
			return nil, nil, false
		})
		n := rapid.IntRange(1, 200).Draw(t, "records")
		die := rapid.IntRange(0, n).Draw(t, "dies after")
		cfg := Config{Connections: rapid.IntRange(1, 6).Draw(t, "connections"), MaxBatchBytes: 400, MaxInFlight: 64,
			WriteTimeout: 50 * time.Millisecond, Hedge: 5 * time.Millisecond, Linger: 100 * time.Microsecond}
		first := start(t, c.ListenAddrs(), cfg)
		defer first.stop()
		publishN(t, first.Producer, 1, die)
		if rapid.Bool().Draw(t, "let some arrive") && die > 0 {
			<-first.Notify()
		}
		acked := int(first.Acked())
		_ = first.stop()
		checkStored(t, c.ListenAddrs()[0], acked)

		second := start(t, c.ListenAddrs(), cfg)
		defer second.stop()
		publishN(t, second.Producer, acked+1, n-acked)
		flush(t, second.Producer)
		checkStored(t, c.ListenAddrs()[0], n)
	})
}
