package pipeline_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/segmentio/kafka-go"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/tandem-dc/tandem/capture/binlog"
	"github.com/tandem-dc/tandem/capture/pipeline"
	"github.com/tandem-dc/tandem/capture/publish"
	"github.com/tandem-dc/tandem/shared/coord"
	"github.com/tandem-dc/tandem/shared/event"
	"github.com/tandem-dc/tandem/shared/kafkace"
	"github.com/tandem-dc/tandem/shared/writeset"
	"github.com/tandem-dc/tandem/testbench/servers"
)

func TestMain(m *testing.M) { os.Exit(servers.Main(m)) }

// world is what a pipeline lives in, with a binlog made up by the test.
type world struct {
	t      testing.TB
	etcd   *servers.Etcd
	kafka  *servers.Kafka
	cli    *clientv3.Client
	script *script
	log    *syncBuffer
}

func newWorld(t testing.TB) *world {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	w := &world{t: t, log: &syncBuffer{}, script: &script{grew: make(chan struct{})}}
	var err error
	if w.etcd, err = servers.StartEtcd(ctx, t.TempDir()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = w.etcd.Close() })
	if w.kafka, err = servers.StartKafka(ctx, servers.KafkaOptions{Dir: t.TempDir()}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = w.kafka.Close() })
	if w.cli, err = coord.Open(coord.Config{Endpoints: []string{w.etcd.Endpoint()}}, w.logger()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = w.cli.Close()
		if t.Failed() {
			t.Logf("log:\n%s", w.log.tail(4000))
		}
	})
	return w
}

func (w *world) logger() *slog.Logger { return slog.New(slog.NewTextHandler(w.log, nil)) }

func (w *world) config() pipeline.Config {
	return pipeline.Config{
		DC: "a", Target: "b", Holder: "test", Kafka: w.kafka.Config(), Partitions: 4,
		Publish: publish.Config{Connections: 4}, Start: "earliest", Heartbeat: 20 * time.Millisecond,
		LeaseTTL: coord.MinTTL, SaveEvery: 5 * time.Millisecond, Drain: 10 * time.Second, Pause: 20 * time.Millisecond,
	}
}

// start runs a pipeline; the returned function ends it and waits.
func (w *world) start(cfg pipeline.Config) (*pipeline.Pipeline, func()) {
	w.t.Helper()
	metrics, err := pipeline.NewMetrics(prometheus.NewRegistry())
	if err != nil {
		w.t.Fatal(err)
	}
	p, err := pipeline.New(cfg, pipeline.Deps{Etcd: w.cli, Database: w.script, Metrics: metrics, Log: w.logger()})
	if err != nil {
		w.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- p.Run(ctx) }()
	stop := sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			w.t.Errorf("Run: %v", err)
		}
	})
	w.t.Cleanup(stop)
	return p, stop
}

// until waits for cond; what describes it.
func (w *world) until(what string, cond func() bool) {
	w.t.Helper()
	deadline := time.After(time.Minute)
	for !cond() {
		select {
		case <-deadline:
			w.t.Fatalf("waited in vain: %s", what)
		case <-time.After(2 * time.Millisecond):
		}
	}
}

// events reads the topic to its end: transactions by sequence, checked to be
// the same event whenever a number comes again, and the heartbeats.
func (w *world) events(topic string, partitions int) (map[uint64]event.Meta, []event.Meta) {
	w.t.Helper()
	txns, beats := map[uint64]event.Meta{}, []event.Meta(nil)
	for _, msg := range readTopic(w.t, w.kafka.Bootstrap(), topic, partitions) {
		m, err := kafkace.FromMessage(&msg)
		if err != nil {
			w.t.Fatalf("event: %v", err)
		}
		if m.Type == event.TypeHeartbeat {
			beats = append(beats, m)
			continue
		}
		if _, err := event.DecodeTransaction(msg.Value); err != nil {
			w.t.Fatalf("event %s: %v", m.ID, err)
		}
		if old, ok := txns[m.Sequence]; ok && (old.ID != m.ID || old.Epoch != m.Epoch || !old.Time.Equal(m.Time)) {
			w.t.Fatalf("sequence %d was %s of epoch %d and is %s of epoch %d", m.Sequence, old.ID, old.Epoch, m.ID, m.Epoch)
		}
		txns[m.Sequence] = m
	}
	return txns, beats
}

func readTopic(t testing.TB, broker, topic string, partitions int) []kafka.Message {
	t.Helper()
	var out []kafka.Message
	for part := range partitions {
		conn, err := kafka.DialLeader(context.Background(), "tcp", broker, topic, part)
		if err != nil {
			t.Fatal(err)
		}
		_ = conn.SetDeadline(time.Now().Add(30 * time.Second))
		first, last, err := conn.ReadOffsets()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := conn.Seek(first, kafka.SeekAbsolute); err != nil {
			t.Fatal(err)
		}
		for first < last {
			batch := conn.ReadBatch(1, 10<<20)
			for first < last {
				m, err := batch.ReadMessage()
				if err != nil {
					break
				}
				first = m.Offset + 1
				out = append(out, m)
			}
			if err := batch.Close(); err != nil && !errors.Is(err, io.EOF) {
				t.Fatal(err)
			}
		}
		_ = conn.Close()
	}
	return out
}

// script is a server whose binlog the test writes.
type script struct {
	mu      sync.Mutex
	items   []binlog.Item
	txns    []string // ids in order
	grew    chan struct{}
	openErr error
	flaky   bool // readers fail now and then
	failed  int  // how often they did
	purged  int  // items before this one are gone
}

func position(n int) binlog.Position {
	return binlog.Position{GTIDSet: fmt.Sprintf("s:1-%d", n), File: "f", Pos: uint32(n + 4)}
}

// commit appends n transactions, with rows of few keys, and some that are not to be sent.
func (s *script) commit(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for range n {
		if rand.N(4) == 0 {
			s.items = append(s.items, binlog.Item{Position: position(len(s.items) + 1), Time: time.Now(), Skipped: binlog.Filtered})
		}
		at := len(s.items) + 1
		id := "s:" + strconv.Itoa(at)
		s.txns = append(s.txns, id)
		key := uint64(rand.N(10))
		s.items = append(s.items, binlog.Item{Position: position(at), Time: time.Now(), Txn: &binlog.Txn{
			Payload: event.Transaction{
				Server: "1", GTID: id, File: "f", Pos: uint32(at + 4),
				Tables: []event.Table{{DB: "shop", Name: "t", Columns: []event.Column{{Name: "id", Type: event.Int}}, Key: []int{0}}},
				Rows:   []event.Row{{Op: event.Insert, After: []event.Value{event.Of(strconv.Itoa(int(key)))}}},
			},
			CommitTime: time.Unix(1700000000, int64(at)*1000), Keys: []writeset.Key{{Hash: key, Index: 1}}, End: position(at), Size: 100,
		}})
	}
	close(s.grew)
	s.grew = make(chan struct{})
}

func (s *script) edit(f func(*script)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f(s)
}

func (s *script) ids() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.txns...)
}

func (s *script) Open(context.Context) (pipeline.Source, string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s, "1", s.openErr
}

func (s *script) Resolve(_ context.Context, start string) (binlog.Position, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch start {
	case "earliest":
		return position(0), nil
	case "latest":
		return position(len(s.items)), nil
	}
	return binlog.Position{}, fmt.Errorf("unknown start")
}

func (s *script) Run(ctx context.Context, from binlog.Position, out chan<- binlog.Item) error {
	at := int(from.Pos) - 4
	for {
		s.mu.Lock()
		var next *binlog.Item
		if at < len(s.items) {
			item := s.items[at]
			next = &item
		}
		grew, flaky, purged := s.grew, s.flaky, s.purged
		s.mu.Unlock()
		if at < purged {
			return &pipeline.RefusedError{Problem: "the server has purged it", Remedy: "copy the data again"}
		}
		if flaky && rand.N(60) == 0 {
			s.edit(func(s *script) { s.failed++ })
			return errors.New("connection reset by the test")
		}
		if next == nil {
			select {
			case <-ctx.Done():
				return context.Cause(ctx)
			case <-grew:
			case <-time.After(10 * time.Millisecond): // the server's own heartbeat
				select {
				case out <- binlog.Item{Position: position(at), Time: time.Now(), Skipped: binlog.Idle}:
				case <-ctx.Done():
					return context.Cause(ctx)
				}
			}
			continue
		}
		select {
		case out <- *next:
			at++
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

type syncBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

func (b *syncBuffer) tail(n int) string {
	s := b.String()
	return s[max(0, len(s)-n):]
}

func (s *script) end() binlog.Position {
	s.mu.Lock()
	defer s.mu.Unlock()
	return position(len(s.items))
}
