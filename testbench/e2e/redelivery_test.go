package e2e_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/segmentio/kafka-go"

	"github.com/tandem-dc/tandem/shared/event"
	"github.com/tandem-dc/tandem/testbench/knative"
)

// An event that comes again, or a whole topic, changes nothing: not even where
// the row has moved on since.
func TestRedelivery(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		name := w.table(t, tables, "again", "%s (id INT PRIMARY KEY, v INT NOT NULL)")
		w.drain(t)
		before := w.losses(t)
		for side := range w.Sides {
			n := 10 * side
			w.write(t, side,
				fmt.Sprintf("INSERT INTO %s VALUES (%d, 1), (%d, 1), (%d, 1)", name, n, n+1, n+2),
				fmt.Sprintf("UPDATE %s SET v=2 WHERE id=%d", name, n),
				fmt.Sprintf("DELETE FROM %s WHERE id=%d", name, n+1),
				fmt.Sprintf("UPDATE %s SET v=3 WHERE id=%d", name, n+2))
		}
		w.drain(t)
		const want = "0:2 2:3 10:2 12:3"
		content := "SELECT GROUP_CONCAT(CONCAT(id, ':', v) ORDER BY id SEPARATOR ' ') FROM " + name
		for side, s := range w.Sides {
			topic := openTopic(t, s.Kafka.Config(), event.Topic(s.Peer.Name), true)
			records, err := topic.more(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			posted := 0
			for i := range records {
				if header(&records[i], "ce_type") == event.TypeTransaction && strings.Contains(string(records[i].Value), `"again_`) {
					post(t, s.Runtime.Instances("apply")[0].URL(), &records[i])
					post(t, s.Runtime.Instances("apply")[0].URL(), &records[i])
					posted++
				}
			}
			if posted < 4 {
				t.Errorf("%s: only %d of 4 transactions are in the topic", s.Name, posted)
			}
			eventually(t, time.Second, w.shows(side, content, want))
			replay(t, w, side, len(records))
			eventually(t, time.Second, w.shows(side, content, want))
		}
		w.drain(t)
		w.clean(t, before)
		w.equal(t, tables)
	})
}

// replay has a new consumer group deliver the peer's topic from its beginning.
func replay(t *testing.T, w *world, side, records int) {
	t.Helper()
	s, consumers, retries := w.Sides[side], 8, 100
	source := &knative.KafkaSource{Metadata: knative.ObjectMeta{Name: "replay", Namespace: "tandem"}, Spec: knative.KafkaSourceSpec{
		BootstrapServers: []string{s.Kafka.Bootstrap()}, Topics: []string{event.Topic(s.Peer.Name)}, ConsumerGroup: fmt.Sprintf("replay-%d", named.Add(1)),
		Consumers: &consumers, InitialOffset: "earliest", Ordering: "unordered", Sink: knative.Destination{URI: "http://apply"},
		Delivery: &knative.Delivery{Retry: &retries, BackoffPolicy: "linear", BackoffDelay: "PT0.05S", Timeout: "PT30S"},
	}}
	d, err := knative.NewDispatcher(source, knative.DispatcherOptions{
		Sink:  func() (string, error) { return s.Runtime.Instances("apply")[0].URL(), nil },
		Kafka: s.Kafka.Config(), Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := d.Kill(); err != nil {
			t.Error(err)
		}
	}()
	eventually(t, time.Minute, func(context.Context) error {
		if n := d.Stats().Delivered; n < uint64(records) {
			return fmt.Errorf("%d of %d records are delivered again", n, records)
		}
		return nil
	})
	if x := d.Stats(); x.Lost+x.Discarded+x.DeadLettered > 0 {
		t.Errorf("%s: the replay ends with %+v", s.Name, x)
	}
}

// post sends a record's event as the dispatcher does, which must be taken.
func post(t *testing.T, url string, m *kafka.Message) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), sqlLimit)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(m.Value))
	if err != nil {
		t.Fatal(err)
	}
	for _, h := range m.Headers {
		if attribute, ok := strings.CutPrefix(h.Key, "ce_"); ok {
			req.Header.Set("ce-"+attribute, string(h.Value))
		} else {
			req.Header.Set(h.Key, string(h.Value))
		}
	}
	res, err := plain.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if body, _ := io.ReadAll(res.Body); res.StatusCode/100 != 2 {
		t.Errorf("a redelivered event is answered %d: %s", res.StatusCode, body)
	}
}

// plain keeps no connections, which would outlive the test.
var plain = &http.Client{Timeout: sqlLimit, Transport: &http.Transport{DisableKeepAlives: true}}
