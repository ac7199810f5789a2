package e2e_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/segmentio/kafka-go"

	"github.com/tandem-dc/tandem/shared/event"
	"github.com/tandem-dc/tandem/shared/kafkace"
)

// expect is a dead letter that must be at a side, in its table and in its topic.
type expect struct {
	kind, reason string // substring
	holds        string // of the payload
}

// parked waits for dead letters that a transaction left. id is beyond which they are.
func (w *world) parked(t *testing.T, side int, beyond string, want ...expect) {
	t.Helper()
	t.Cleanup(func() {
		if t.Failed() {
			w.letters(t, side)
		}
	})
	for _, x := range want {
		eventually(t, 20*time.Second, w.shows(side, fmt.Sprintf(
			"SELECT COUNT(*) FROM tandem.dead_letter WHERE id>%s AND kind LIKE '%s' AND state='open' AND reason LIKE '%%%s%%' AND payload LIKE '%%%s%%' AND published_at IS NOT NULL",
			beyond, x.kind, x.reason, x.holds), "1"))
	}
	if n, err := w.ask(t.Context(), side, "SELECT COUNT(*) FROM tandem.dead_letter WHERE id>"+beyond); err != nil || n != fmt.Sprint(len(want)) {
		t.Errorf("%s dead letters, want %d; %v", n, len(want), err)
		w.letters(t, side)
	}
}

// announced waits until the dead-letter topic of a side has such records.
func announced(t *testing.T, p *topic, want ...expect) {
	t.Helper()
	var all []kafka.Message
	for _, x := range want {
		eventually(t, 20*time.Second, func(ctx context.Context) error {
			more, err := p.more(ctx)
			if all = append(all, more...); err != nil {
				return err
			}
			for i := range all {
				if strings.Contains(header(&all[i], "ce_reason"), x.reason) && strings.Contains(string(all[i].Value), x.holds) {
					return nil
				}
			}
			var seen []string
			for i := range all {
				seen = append(seen, fmt.Sprintf("%s %s: %.100s", header(&all[i], "ce_type"), header(&all[i], "ce_reason"), all[i].Value))
			}
			return fmt.Errorf("topic %s has no record with reason %q that holds %q, but %q", p.name, x.reason, x.holds, seen)
		})
	}
}

func (w *world) newestLetter(t *testing.T, side int) string {
	t.Helper()
	id, err := w.ask(t.Context(), side, "SELECT COALESCE(MAX(id),0) FROM tandem.dead_letter")
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// A table that the target lacks: the transaction is kept whole, later ones on its
// rows with it, and all others go on.
func TestBadUnknownTable(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		fine := w.table(t, tables, "fine", "%s (id INT PRIMARY KEY, v VARCHAR(20))")
		name := fmt.Sprintf("%s.unknown_%d", odd, named.Add(1))
		w.hush(t, 0, "CREATE TABLE "+name+" (id INT PRIMARY KEY, v VARCHAR(20))")
		w.drain(t)
		newest := w.newestLetter(t, 1)
		topic := openTopic(t, w.Sides[1].Kafka.Config(), event.DeadLetterTopic(w.Sides[1].Name), false)
		w.write(t, 0, "INSERT INTO "+name+" VALUES (1, 'precious')", "INSERT INTO "+fine+" VALUES (1, 'goes on')")
		if err := w.as(t, 0, "", []string{"BEGIN", "INSERT INTO " + fine + " VALUES (2, 'whole or not at all')", "INSERT INTO " + name + " VALUES (2, 'companion')", "COMMIT"}); err != nil {
			t.Fatal(err)
		}
		// The first touches a row of the second letter, so it cannot go before that.
		w.write(t, 0, "UPDATE "+fine+" SET v='later' WHERE id=2", "INSERT INTO "+fine+" VALUES (3, 'goes on')")
		w.drain(t)
		// Without the table nobody knows its key, so any row of it may be one that an earlier letter holds: the second is
		// blocked by the first, unless both were tried at once, since they do not depend on each other.
		want := []expect{{"poison", "does not exist here", "precious"}, {"%", "", "companion"}, {"blocked", "", "later"}}
		w.parked(t, 1, newest, want...)
		announced(t, topic, want...)
		eventually(t, time.Second, w.shows(1, "SELECT GROUP_CONCAT(CONCAT(id, ' ', v) ORDER BY id) FROM "+fine, "1 goes on,3 goes on"))
		w.hush(t, 0, "DELETE FROM "+fine+" WHERE id=2") // equal again for other tests
	})
}

// A value that the target's column cannot hold.
func TestBadValue(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		name := fmt.Sprintf("%s.narrow_%d", odd, named.Add(1))
		w.hush(t, 0, "CREATE TABLE "+name+" (id INT PRIMARY KEY, v VARCHAR(50), n BIGINT)")
		w.hush(t, 1, "CREATE TABLE "+name+" (id INT PRIMARY KEY, v VARCHAR(5), n TINYINT)")
		w.drain(t)
		newest := w.newestLetter(t, 1)
		topic := openTopic(t, w.Sides[1].Kafka.Config(), event.DeadLetterTopic(w.Sides[1].Name), false)
		w.write(t, 0, "INSERT INTO "+name+" VALUES (1, 'fits', 1)", "INSERT INTO "+name+" VALUES (2, 'much too long', 1)",
			"INSERT INTO "+name+" VALUES (3, 'num', 1000)", "INSERT INTO "+name+" VALUES (4, 'fits', 4)")
		w.drain(t)
		want := []expect{{"poison", "Data too long for column", "much too long"}, {"poison", "Out of range value for column", "1000"}}
		w.parked(t, 1, newest, want...)
		announced(t, topic, want...)
		eventually(t, time.Second, w.shows(1, "SELECT GROUP_CONCAT(id ORDER BY id) FROM "+name, "1,4"))
	})
}

// Records that nobody should have put into the topic: each ends where a person can
// see it and why, and the stream goes on.
func TestBadEvent(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		const origin, target = 0, 1
		s := w.Sides[target]
		fine := w.table(t, tables, "fine", "%s (id INT PRIMARY KEY, v VARCHAR(20))")
		w.drain(t)
		newest, before := w.newestLetter(t, target), s.Runtime.Source("apply").Stats()
		letters := openTopic(t, s.Kafka.Config(), event.DeadLetterTopic(s.Name), false)
		stream := openTopic(t, s.Kafka.Config(), event.Topic(w.Sides[origin].Name), false)

		meta := event.Meta{
			ID: fmt.Sprint("bad-", time.Now().UnixNano()), Source: event.Source("elsewhere", "1"), Type: event.TypeTransaction, Subject: "x.y", Time: time.Now(),
			Origin: "elsewhere", Epoch: uint64(time.Now().UnixMicro()), Sequence: 1, PartitionKey: "1",
		}
		whole := (&event.Transaction{Server: "1", GTID: "g"}).AppendJSON(nil)
		good := kafkace.ToMessage(&meta, whole)
		stream.put(t, kafkace.ToMessage(&meta, []byte(`{"schema":"cut off in the mid`)))
		stream.put(t, changed(good, "ce_sequence", "no number", "A"))
		stream.put(t, changed(good, "ce_type", "com.example.other", "B"))
		stream.put(t, changed(good, "ce_epoch", "", "C"))
		stream.put(t, kafka.Message{Value: []byte("no event at all")})
		stream.put(t, kafka.Message{Headers: []kafka.Header{{Key: "content-type", Value: []byte("application/cloudevents+json")}}, Value: []byte(`{"specversion":`)})

		w.write(t, origin, "INSERT INTO "+fine+" VALUES (1, 'goes on')")
		w.drain(t)
		eventually(t, time.Second, w.shows(target, "SELECT COUNT(*) FROM "+fine, "1"))
		w.parked(t, target, newest, expect{"poison", "payload", "cut off in the mid"})
		announced(t, letters, expect{reason: "payload", holds: "cut off in the mid"}, expect{reason: "sequence", holds: "A"},
			expect{reason: "com.example.other", holds: "B"}, expect{reason: "epoch", holds: "C"}, expect{holds: "no event at all"})
		// What apply refused the dispatcher puts there as well; what no event can be made of, it drops, as KafkaSource does.
		eventually(t, 10*time.Second, func(context.Context) error {
			x := s.Runtime.Source("apply").Stats()
			if x.DeadLettered-before.DeadLettered < 4 || x.Lost != before.Lost {
				return fmt.Errorf("the dispatcher went from %+v to %+v", before, x)
			}
			return nil
		})
		w.equal(t, tables)
	})
}

// changed is a record with another attribute, none if the value is empty, and other data.
func changed(m kafka.Message, attribute, value, data string) kafka.Message {
	var headers []kafka.Header
	for _, h := range m.Headers {
		if h.Key == attribute {
			h.Value = []byte(value)
		}
		if h.Key != attribute || value != "" {
			headers = append(headers, h)
		}
	}
	m.Headers, m.Value = headers, []byte(`{"data":"`+data+`"}`)
	return m
}

// A transaction that is larger than what the broker takes: capture says what to
// do, and skips nothing; when the limit is raised all goes on.
func TestBadOversize(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		const limit = "1048588"
		name := w.table(t, tables, "large", "%s (id INT PRIMARY KEY, v LONGBLOB)")
		w.drain(t)
		before := w.losses(t)
		source := w.Sides[0]
		t.Cleanup(func() { w.setLimit(t, source.Name, limit) })
		saved := w.checkpoints(t, 0)
		stays := func() {
			for to, now := range w.checkpoints(t, 0) {
				if now.Sequence != saved[to].Sequence || now.Epoch != saved[to].Epoch {
					t.Errorf("the checkpoint of the stream to %s moved from %d to %d", to, saved[to].Sequence, now.Sequence)
				}
			}
		}
		w.write(t, 0, "INSERT INTO "+name+" VALUES (1, RANDOM_BYTES(1000))")
		w.drain(t)
		saved = w.checkpoints(t, 0)
		w.write(t, 0, "INSERT INTO "+name+" SELECT 2, "+blob(t, w, 0), "INSERT INTO "+name+" VALUES (3, 'after it')")
		// Both streams of the side stand; the one in the other direction goes on.
		for _, stream := range []string{source.Name, source.Peer.Name} {
			w.unready(t, 0, "stream to "+stream+": blocked", "max.message.bytes", "nothing was skipped")
		}
		w.write(t, 1, "INSERT INTO "+name+" VALUES (4, 'from the other side')")
		eventually(t, 20*time.Second, w.shows(0, "SELECT COUNT(*) FROM "+name+" WHERE id=4", "1"))
		eventually(t, time.Second, w.shows(1, "SELECT GROUP_CONCAT(id ORDER BY id) FROM "+name, "1,4"))
		stays()
		w.setLimit(t, source.Name, "8388608")
		eventually(t, 30*time.Second, w.shows(1, "SELECT GROUP_CONCAT(id ORDER BY id) FROM "+name, "1,2,3,4"))
		w.drain(t)
		w.ready(t)
		w.clean(t, before)
		w.equal(t, tables)
	})
}

// blob is an expression of two MiB.
func blob(t *testing.T, w *world, side int) string {
	t.Helper()
	v, err := w.ask(t.Context(), side, "SELECT REPEAT(SHA2(UUID(), 512), 2)")
	if err != nil {
		t.Fatal(err)
	}
	return "REPEAT('" + v + "', 8192)"
}

// setLimit changes what both brokers take in the topic of an origin.
func (w *world) setLimit(t *testing.T, origin, limit string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), sqlLimit)
	defer cancel()
	for _, s := range w.Sides {
		client, closeIdle, err := s.Kafka.Config().Client()
		if err != nil {
			t.Fatal(err)
		}
		res, err := client.IncrementalAlterConfigs(ctx, &kafka.IncrementalAlterConfigsRequest{Resources: []kafka.IncrementalAlterConfigsRequestResource{{
			ResourceType: kafka.ResourceTypeTopic, ResourceName: event.Topic(origin),
			Configs: []kafka.IncrementalAlterConfigsRequestConfig{{Name: "max.message.bytes", Value: limit, ConfigOperation: kafka.ConfigOperationSet}},
		}}})
		closeIdle()
		if err == nil {
			for _, r := range res.Resources {
				err = errors.Join(err, r.Error)
			}
		}
		if err != nil {
			t.Fatalf("set max.message.bytes in %s: %v", s.Name, err)
		}
	}
}
