package knative_test

import (
	"context"
	"encoding/base64"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/segmentio/kafka-go"

	"github.com/tandem-dc/tandem/shared/event"
	"github.com/tandem-dc/tandem/shared/kafkace"
	"github.com/tandem-dc/tandem/testbench/knative"
)

func TestEventsArriveInBinaryModeWithPartitionAndOffset(t *testing.T) {
	b, s := newBroker(t), newSink(t, nil)
	b.send(8)
	d := start(t, b.source(nil), knative.DispatcherOptions{Sink: s.url})
	s.untilCount(t, 8)
	seen := map[string]bool{}
	for i, r := range s.got {
		h := r.Header
		seen[h.Get("Ce-Knativekafkapartition")+"/"+h.Get("Ce-Knativekafkaoffset")] = true
		if r.Method != http.MethodPost || h.Get("Content-Type") != "application/json" || h.Get("Ce-Specversion") != "1.0" ||
			h.Get("Ce-Type") != event.TypeTransaction || len(h.Get("Ce-Sequence")) != 20 || h.Get("Ce-Origindc") != "west" {
			t.Errorf("%s %v", r.Method, h)
		}
		if want := `{"n":` + strings.TrimPrefix(h.Get("Ce-Id"), "id-") + `}`; s.bod[i] != want {
			t.Errorf("body %s, want %s", s.bod[i], want)
		}
	}
	if len(seen) != 8 || !seen["0/0"] || !seen["3/1"] {
		t.Errorf("stamps %v", seen)
	}
	s.until(t, "counts", func() bool { st := d.Stats(); return st.Delivered == 8 && st.InFlight == 0 })
	if st := d.Stats(); st.Received != 8 || st.Retried+st.Wrapped+st.Discarded+st.Lost != 0 {
		t.Errorf("%+v", st)
	}
}

func TestTransientAnswersAreRetried(t *testing.T) {
	b := newBroker(t)
	var mu sync.Mutex
	tries := map[string]int{}
	s := newSink(t, func(r *http.Request) int {
		mu.Lock()
		defer mu.Unlock()
		id := r.Header.Get("Ce-Id")
		tries[id]++
		return []int{503, 429, 409, 200}[tries[id]-1]
	})
	b.send(3)
	d := start(t, b.source(nil), knative.DispatcherOptions{Sink: s.url})
	s.until(t, "delivery", func() bool { return d.Stats().Delivered == 3 })
	if st := d.Stats(); st.Retried != 9 || st.Lost != 0 {
		t.Errorf("%+v", st)
	}
}

func TestADeadSinkIsRetriedUntilItLives(t *testing.T) {
	b, s := newBroker(t), newSink(t, nil)
	b.send(1)
	var up sync.Map
	url := func() (string, error) {
		if _, ok := up.Load("up"); ok {
			return s.URL, nil
		}
		return "http://127.0.0.1:1", nil
	}
	retry := 1000
	d := start(t, b.source(func(k *knative.KafkaSource) { k.Spec.Delivery.Retry = &retry }), knative.DispatcherOptions{Sink: url})
	s.until(t, "retries", func() bool { return d.Stats().Retried >= 3 })
	up.Store("up", true)
	s.untilCount(t, 1)
}

// The offset of an event that nobody took is committed: it is never seen again.
func TestEventsAreLostWhenTheDeadLetterSinkFails(t *testing.T) {
	for _, c := range []struct {
		name string
		dead bool
	}{{"no dead-letter sink", false}, {"a dead-letter sink that fails", true}} {
		t.Run(c.name, func(t *testing.T) {
			b := newBroker(t)
			s := newSink(t, func(*http.Request) int { return http.StatusUnprocessableEntity })
			b.send(4)
			o := knative.DispatcherOptions{Sink: s.url}
			source := b.source(func(k *knative.KafkaSource) {
				k.Spec.Delivery.DeadLetterSink = &knative.Destination{URI: "http://dead"}
			})
			if c.dead {
				o.DeadLetterURL = newSink(t, func(*http.Request) int { return http.StatusServiceUnavailable }).url
			}
			d := start(t, source, o)
			s.until(t, "loss", func() bool { return d.Stats().Lost == 4 })
			if err := d.Stop(t.Context()); err != nil {
				t.Fatal(err)
			}
			n := len(s.ids())
			if err := d.Start(t.Context()); err != nil {
				t.Fatal(err)
			}
			b.send(1)
			s.until(t, "the next event", func() bool { return d.Stats().Lost == 5 })
			if got := len(s.ids()) - n; got != 1 {
				t.Errorf("%d requests after the restart, want only that of the new event", got)
			}
		})
	}
}

func TestDeadLettersSayWhy(t *testing.T) {
	b := newBroker(t, "deadletter-east")
	s := newSink(t, func(*http.Request) int { return http.StatusUnprocessableEntity })
	b.send(1)
	dead := &knative.KafkaSink{Metadata: knative.ObjectMeta{Name: "deadletter"}}
	dead.Spec.Topic, dead.Spec.BootstrapServers = "deadletter-east", []string{b.addr}
	source := b.source(func(k *knative.KafkaSource) {
		k.Spec.Delivery.DeadLetterSink = &knative.Destination{Ref: &knative.Reference{Kind: "KafkaSink", Name: "deadletter"}}
	})
	d := start(t, source, knative.DispatcherOptions{Sink: s.url, DeadLetterSink: dead})
	s.until(t, "the dead letter", func() bool { return d.Stats().DeadLettered == 1 })

	reader := kafka.NewReader(kafka.ReaderConfig{Brokers: []string{b.addr}, Topic: "deadletter-east", GroupID: "g", StartOffset: kafka.FirstOffset, MaxWait: 100 * time.Millisecond})
	defer reader.Close()
	msg, err := reader.ReadMessage(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	e, err := kafkace.CloudEvent(&msg)
	if err != nil {
		t.Fatal(err)
	}
	x := e.Extensions()
	body, err := base64.StdEncoding.DecodeString(fmt.Sprint(x["knativeerrordata"]))
	if x["knativeerrorcode"] != "422" || x["knativeerrordest"] != "http://sink" || err != nil || len(body) != 1024 || !strings.HasPrefix(string(body), "refused") {
		t.Errorf("extensions %v, body of %d bytes, %v", x, len(body), err)
	}
	if e.ID() != "id-1" || string(e.Data()) != `{"n":1}` {
		t.Errorf("event %s %s", e.ID(), e.Data())
	}
}

func TestRecordsThatAreNoEventsAreWrapped(t *testing.T) {
	b, s := newBroker(t), newSink(t, nil)
	b.raw(kafka.Message{Key: []byte("k"), Value: []byte("plain"), Headers: []kafka.Header{{Key: "X-Trace", Value: []byte("7")}, {Key: "content-type", Value: []byte("text/plain")}}})
	d := start(t, b.source(nil), knative.DispatcherOptions{Sink: s.url})
	s.untilCount(t, 1)
	h := s.got[0].Header
	if h.Get("Ce-Type") != "dev.knative.kafka.event" || h.Get("Ce-Id") != "partition:0/offset:0" || h.Get("Ce-Kafkaheaderxtrace") != "7" ||
		h.Get("Ce-Key") != "k" || h.Get("Content-Type") != "text/plain" || s.bod[0] != "plain" ||
		h.Get("Ce-Source") != "/apis/v1/namespaces/tandem/kafkasources/apply#"+topic {
		t.Errorf("%v %s", h, s.bod[0])
	}
	if st := d.Stats(); st.Wrapped != 1 {
		t.Errorf("%+v", st)
	}
}

func TestUnorderedKeepsPollingUpToMaxPollRecords(t *testing.T) {
	b := newBroker(t)
	release := make(chan struct{})
	s := newSink(t, func(*http.Request) int { <-release; return http.StatusOK })
	b.send(100)
	plane := knative.ShippedDataPlane()
	plane.MaxPollRecords = 10
	d := start(t, b.source(nil), knative.DispatcherOptions{Sink: s.url, DataPlane: plane})
	s.until(t, "a full pipe", func() bool { return d.Stats().InFlight >= 10 })
	// Everything is in the log and nothing is answered: were there no limit, it
	// would go on. The next events show that it did not.
	b.send(1)
	n := d.Stats().InFlight
	close(release)
	s.untilCount(t, 101)
	if most := d.Stats().MaxInFlight; n < 10 || most > 19 {
		t.Errorf("%d in flight while full, at most %d; want 10 to 19", n, most)
	}
}

func TestOrderedSendsOnePerPartitionAndPollsOnATimer(t *testing.T) {
	b := newBroker(t)
	var mu sync.Mutex
	busy, most := map[string]int{}, 0
	s := newSink(t, func(r *http.Request) int {
		p := r.Header.Get("Ce-Knativekafkapartition")
		mu.Lock()
		busy[p]++
		most = max(most, busy[p])
		mu.Unlock()
		defer func() {
			mu.Lock()
			busy[p]--
			mu.Unlock()
		}()
		return http.StatusOK
	})
	b.send(40)
	start(t, b.source(func(k *knative.KafkaSource) { k.Spec.Ordering = "ordered" }), knative.DispatcherOptions{Sink: s.url})
	s.untilCount(t, 40)
	last := map[string]string{}
	for _, r := range s.got {
		p, o := r.Header.Get("Ce-Knativekafkapartition"), fmt.Sprintf("%5s", r.Header.Get("Ce-Knativekafkaoffset"))
		if last[p] >= o {
			t.Errorf("partition %s: offset %s after %s", p, o, last[p])
		}
		last[p] = o
	}
	if most != 1 {
		t.Errorf("%d requests at once for one partition", most)
	}
}

// A steady stream shows the ordered timer: a poll that returned leaves the next
// events lying for up to 200 ms.
func TestUnorderedIsFasterThanOrdered(t *testing.T) {
	median := func(ordering string) time.Duration {
		b := newBroker(t)
		s := newSink(t, nil)
		start(t, b.source(func(k *knative.KafkaSource) { k.Spec.Ordering = ordering }), knative.DispatcherOptions{Sink: s.url})
		var waits []time.Duration
		tick := time.NewTicker(30 * time.Millisecond)
		defer tick.Stop()
		for i := range 12 {
			<-tick.C
			b.send(1)
			began := time.Now()
			s.untilCount(t, i+1)
			waits = append(waits, time.Since(began))
		}
		slices.Sort(waits)
		return waits[len(waits)/2]
	}
	ordered, unordered := median("ordered"), median("unordered")
	t.Logf("median from acknowledged to received: unordered %v, ordered %v", unordered, ordered)
	if ordered < 2*unordered || ordered < 60*time.Millisecond {
		t.Errorf("unordered %v, ordered %v", unordered, ordered)
	}
}

func TestRestartResumesAtTheCommittedOffsets(t *testing.T) {
	b := newBroker(t)
	s := newSink(t, nil)
	b.send(20)
	d := start(t, b.source(nil), knative.DispatcherOptions{Sink: s.url})
	s.until(t, "delivery", func() bool { return d.Stats().Delivered == 20 })
	if err := d.Stop(t.Context()); err != nil { // commits
		t.Fatal(err)
	}
	b.send(10)
	if err := d.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.until(t, "delivery", func() bool { return d.Stats().Delivered == 30 })
	if err := d.Kill(); err != nil { // commits nothing
		t.Fatal(err)
	}
	if err := d.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.until(t, "the replay", func() bool { return d.Stats().Delivered == 40 })
	count := map[string]int{}
	for _, id := range s.ids() {
		count[id]++
	}
	for i := 1; i <= 30; i++ {
		want := 1
		if i > 20 {
			want = 2
		}
		if got := count[fmt.Sprintf("id-%d", i)]; got != want {
			t.Errorf("event %d came %d times, want %d", i, got, want)
		}
	}
}

func TestOffsetsAreCommittedOnATimer(t *testing.T) {
	b, s := newBroker(t), newSink(t, nil)
	b.send(4)
	plane := knative.ShippedDataPlane()
	plane.CommitInterval = 20 * time.Millisecond
	d := start(t, b.source(nil), knative.DispatcherOptions{Sink: s.url, DataPlane: plane})
	initial := uint64(1) // of the offsets that the controller sets
	s.until(t, "a commit", func() bool { return d.Stats().Commits > initial && d.Stats().Delivered == 4 })
	s.until(t, "all commits", func() bool {
		res, err := (&kafka.Client{Addr: kafka.TCP(b.addr), Transport: b.w.Transport}).OffsetFetch(t.Context(),
			&kafka.OffsetFetchRequest{GroupID: "group", Topics: map[string][]int{topic: {0, 1, 2, 3}}})
		if err != nil {
			t.Fatal(err)
		}
		sum := int64(0)
		for _, p := range res.Topics[topic] {
			sum += p.CommittedOffset
		}
		return sum == 4
	})
}

func TestLatestSkipsWhatWasThereBefore(t *testing.T) {
	b, s := newBroker(t), newSink(t, nil)
	b.send(4)
	d := start(t, b.source(func(k *knative.KafkaSource) { k.Spec.InitialOffset = "" }), knative.DispatcherOptions{Sink: s.url})
	b.send(1)
	s.untilCount(t, 1)
	if ids := s.ids(); ids[0] != "id-5" || d.Stats().Received != 1 {
		t.Errorf("got %v", ids)
	}
}

func TestPodsShareThePartitions(t *testing.T) {
	b := newBroker(t)
	release := make(chan struct{})
	s := newSink(t, func(*http.Request) int { <-release; return http.StatusOK })
	b.send(100)
	plane := knative.ShippedDataPlane()
	plane.MaxPollRecords = 5
	d := start(t, b.source(nil), knative.DispatcherOptions{Sink: s.url, DataPlane: plane, Pods: 4})
	s.until(t, "four full pods", func() bool { return d.Stats().InFlight >= 20 })
	close(release)
	s.untilCount(t, 100)
}

func TestLargeEventsPassASmallFetchSize(t *testing.T) {
	b, s := newBroker(t), newSink(t, nil)
	m := event.Meta{ID: "big", Source: "/s", Type: event.TypeTransaction}
	data := slices.Repeat([]byte("0123456789"), 70_000) // ten times max.partition.fetch.bytes
	b.raw(kafkace.ToMessage(&m, data))
	b.send(8)
	start(t, b.source(nil), knative.DispatcherOptions{Sink: s.url})
	s.untilCount(t, 9)
	for i, r := range s.got {
		if r.Header.Get("Ce-Id") == "big" && s.bod[i] != string(data) {
			t.Errorf("body of %d bytes", len(s.bod[i]))
		}
	}
}

func TestStopLeavesWhatIsUnderwayForTheNextStart(t *testing.T) {
	b := newBroker(t)
	release := make(chan struct{})
	s := newSink(t, func(r *http.Request) int {
		select {
		case <-release:
			return http.StatusOK
		case <-r.Context().Done():
			return http.StatusServiceUnavailable
		}
	})
	b.send(4)
	d := start(t, b.source(nil), knative.DispatcherOptions{Sink: s.url})
	s.untilInFlight(t, d, 4)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := d.Stop(ctx); err != nil {
		t.Fatal(err)
	}
	if st := d.Stats(); st.Delivered+st.Lost != 0 || st.InFlight != 0 {
		t.Errorf("%+v", st)
	}
	close(release)
	if err := d.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.until(t, "delivery", func() bool { return d.Stats().Delivered == 4 })
}

func TestStartNamesAMissingTopic(t *testing.T) {
	b := newBroker(t)
	o := knative.DispatcherOptions{Sink: func() (string, error) { return "", nil }, Log: slog.New(slog.DiscardHandler)}
	d, err := knative.NewDispatcher(b.source(func(k *knative.KafkaSource) { k.Spec.Topics = []string{"binlog-nowhere"} }), o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if err := d.Start(ctx); err == nil || !strings.Contains(err.Error(), "binlog-nowhere") {
		t.Errorf("error %v does not name the topic", err)
	}
}
