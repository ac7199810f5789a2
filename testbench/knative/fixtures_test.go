package knative_test

import (
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/twmb/franz-go/pkg/kfake"

	"github.com/tandem-dc/tandem/shared/event"
	"github.com/tandem-dc/tandem/shared/kafkace"
	"github.com/tandem-dc/tandem/testbench/knative"
)

const topic = "binlog-west"

// broker is an embedded Kafka with a topic of four partitions.
type broker struct {
	t    *testing.T
	addr string
	w    *kafka.Writer
	sent int
}

func newBroker(t *testing.T, topics ...string) *broker {
	t.Helper()
	c, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(4, append(topics, topic)...))
	if err != nil {
		t.Fatal(err)
	}
	b := &broker{t: t, addr: c.ListenAddrs()[0]}
	transport := &kafka.Transport{}
	b.w = &kafka.Writer{
		Addr: kafka.TCP(b.addr), Transport: transport, Topic: topic, RequiredAcks: kafka.RequireAll,
		BatchTimeout: time.Millisecond, Balancer: &kafka.RoundRobin{},
	}
	t.Cleanup(func() {
		b.w.Close()
		transport.CloseIdleConnections()
		c.Close()
	})
	return b
}

func (b *broker) send(n int) {
	b.t.Helper()
	var messages []kafka.Message
	for range n {
		b.sent++
		m := event.Meta{
			ID: fmt.Sprintf("id-%d", b.sent), Source: event.Source("west", "s1"), Type: event.TypeTransaction, Time: time.Now(),
			Origin: "west", Epoch: 1, Sequence: uint64(b.sent), PartitionKey: fmt.Sprint(b.sent),
		}
		messages = append(messages, kafkace.ToMessage(&m, fmt.Appendf(nil, `{"n":%d}`, b.sent)))
	}
	b.raw(messages...)
}

func (b *broker) raw(messages ...kafka.Message) {
	b.t.Helper()
	if err := b.w.WriteMessages(b.t.Context(), messages...); err != nil {
		b.t.Fatal(err)
	}
}

func (b *broker) source(edit func(*knative.KafkaSource)) *knative.KafkaSource {
	retry, consumers := 3, 4
	s := &knative.KafkaSource{Metadata: knative.ObjectMeta{Name: "apply", Namespace: "tandem"}}
	s.Spec = knative.KafkaSourceSpec{
		BootstrapServers: []string{b.addr}, Topics: []string{topic}, ConsumerGroup: "group", Consumers: &consumers,
		InitialOffset: "earliest", Ordering: "unordered", Sink: knative.Destination{URI: "http://sink"},
		Delivery: &knative.Delivery{Retry: &retry, BackoffPolicy: "linear", BackoffDelay: "PT0.01S", Timeout: "PT5S"},
	}
	if edit != nil {
		edit(s)
	}
	return s
}

func start(t *testing.T, s *knative.KafkaSource, o knative.DispatcherOptions) *knative.Dispatcher {
	t.Helper()
	o.Log = slog.New(slog.NewTextHandler(t.Output(), nil))
	d, err := knative.NewDispatcher(s, o)
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Kill(); err != nil {
			t.Error(err)
		}
	})
	return d
}

// sink is a function that answers as it is told and remembers what it got.
type sink struct {
	*httptest.Server
	answer func(r *http.Request) int

	mu  sync.Mutex
	got []*http.Request
	bod []string
	ch  chan struct{}
}

func newSink(t *testing.T, answer func(r *http.Request) int) *sink {
	s := &sink{answer: answer, ch: make(chan struct{}, 1)}
	if answer == nil {
		s.answer = func(*http.Request) int { return http.StatusOK }
	}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		s.mu.Lock()
		s.got, s.bod = append(s.got, r), append(s.bod, string(body))
		s.mu.Unlock()
		status := s.answer(r)
		w.WriteHeader(status)
		if status >= 300 {
			fmt.Fprint(w, strings.Repeat("refused ", 200))
		}
		select {
		case s.ch <- struct{}{}:
		default:
		}
	}))
	t.Cleanup(s.Close)
	return s
}

func (s *sink) url() (string, error) { return s.URL, nil }

func (s *sink) ids() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []string
	for _, r := range s.got {
		out = append(out, r.Header.Get("Ce-Id"))
	}
	return out
}

// until waits for a condition that changes with requests or with time.
func (s *sink) until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	limit := time.After(20 * time.Second)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-s.ch:
		case <-tick.C:
		case <-limit:
			t.Fatalf("waited 20s for %s; the sink has %d requests", what, len(s.ids()))
		}
	}
}

func (s *sink) untilCount(t *testing.T, n int) {
	t.Helper()
	s.until(t, fmt.Sprintf("%d requests", n), func() bool { return len(s.ids()) >= n })
}

func (s *sink) untilInFlight(t *testing.T, d *knative.Dispatcher, n int64) {
	t.Helper()
	s.until(t, "requests in flight", func() bool { return d.Stats().InFlight >= n })
}
