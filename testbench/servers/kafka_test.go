package servers_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/segmentio/kafka-go"

	"github.com/tandem-dc/tandem/testbench/servers"
)

func TestKafkaKeepsWhatItAcknowledged(t *testing.T) {
	servers.EachKafka(t, func(t *testing.T, kind servers.KafkaKind) {
		t.Parallel()
		k := startKafka(t, servers.KafkaOptions{Kind: kind, Topics: map[string]int{"events": 1}})
		addr := k.Bootstrap()
		produce(t, k, "one")
		if err := k.Kill(); err != nil {
			t.Fatal(err)
		}
		restart(t, k)
		produce(t, k, "two")
		restart(t, k)
		produce(t, k, "three")
		if got := strings.Join(consume(t, k, 3), " "); got != "one two three" {
			t.Errorf("the log holds %q", got)
		}
		if k.Bootstrap() != addr {
			t.Errorf("address went from %s to %s", addr, k.Bootstrap())
		}
	})
}

func TestPausedKafkaHangs(t *testing.T) {
	servers.EachKafka(t, func(t *testing.T, kind servers.KafkaKind) {
		t.Parallel()
		k := startKafka(t, servers.KafkaOptions{Kind: kind, Topics: map[string]int{"events": 1}})
		conn := lead(t, k)
		defer conn.Close()
		if err := k.Pause(); err != nil {
			t.Fatal(err)
		}
		deadline(t, conn, 300*time.Millisecond)
		if _, err := conn.ReadLastOffset(); !timedOut(err) {
			t.Errorf("a paused broker answers: %v", err)
		}
		if err := k.Resume(); err != nil {
			t.Fatal(err)
		}
		produce(t, k, "one")
	})
}

func TestKafkaMakesNoTopicAndBoundsMessages(t *testing.T) {
	servers.EachKafka(t, func(t *testing.T, kind servers.KafkaKind) {
		t.Parallel()
		k := startKafka(t, servers.KafkaOptions{Kind: kind, Topics: map[string]int{"events": 1}, MaxMessageBytes: 5000})
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		client, closeIdle, err := k.Config().Client()
		if err != nil {
			t.Fatal(err)
		}
		defer closeIdle()
		m, err := client.Metadata(ctx, &kafka.MetadataRequest{Topics: []string{"nobody-made-this"}})
		if err != nil {
			t.Fatal(err)
		}
		if !errors.Is(m.Topics[0].Error, kafka.UnknownTopicOrPartition) {
			t.Errorf("an unknown topic: %v", m.Topics[0].Error)
		}
		answer, err := client.Produce(ctx, &kafka.ProduceRequest{Topic: "events", RequiredAcks: kafka.RequireAll,
			Records: kafka.NewRecordReader(kafka.Record{Value: kafka.NewBytes(make([]byte, 6000))})})
		if err != nil {
			t.Fatal(err)
		}
		if !errors.Is(answer.Error, kafka.MessageSizeTooLarge) {
			t.Errorf("6000 bytes where 5000 are allowed: %v", answer.Error)
		}
	})
}

func startKafka(t *testing.T, o servers.KafkaOptions) *servers.Kafka {
	t.Helper()
	began := time.Now()
	k, err := servers.StartKafka(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%s kafka started in %v", k.Kind, time.Since(began))
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("its log ends:\n%s", k.Tail(20))
		}
		if err := k.Close(); err != nil {
			t.Error(err)
		}
	})
	return k
}

func restart(t *testing.T, s interface{ Restart(context.Context) error }) {
	t.Helper()
	began := time.Now()
	if err := s.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Logf("restart took %v", time.Since(began))
}

func lead(t *testing.T, k *servers.Kafka) *kafka.Conn {
	t.Helper()
	d, err := k.Config().Dialer()
	if err != nil {
		t.Fatal(err)
	}
	var conn *kafka.Conn
	// After a restart the partition has no leader for a moment.
	wait(t, func() error {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		conn, err = d.DialLeader(ctx, "tcp", k.Bootstrap(), "events", 0)
		return err
	})
	return conn
}

func produce(t *testing.T, k *servers.Kafka, value string) {
	t.Helper()
	wait(t, func() error {
		conn := lead(t, k)
		defer conn.Close()
		deadline(t, conn, 10*time.Second)
		_, err := conn.WriteMessages(kafka.Message{Value: []byte(value)})
		return err
	})
}

func consume(t *testing.T, k *servers.Kafka, n int) (values []string) {
	t.Helper()
	conn := lead(t, k)
	defer conn.Close()
	deadline(t, conn, 20*time.Second)
	for len(values) < n {
		batch := conn.ReadBatchWith(kafka.ReadBatchConfig{MinBytes: 1, MaxBytes: 1 << 20})
		for {
			m, err := batch.ReadMessage()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			values = append(values, string(m.Value))
		}
		if err := batch.Close(); err != nil {
			t.Fatal(err)
		}
	}
	return values
}

func deadline(t *testing.T, conn *kafka.Conn, d time.Duration) {
	t.Helper()
	if err := conn.SetDeadline(time.Now().Add(d)); err != nil {
		t.Fatal(err)
	}
}

func timedOut(err error) bool {
	var timeout interface{ Timeout() bool }
	return errors.As(err, &timeout) && timeout.Timeout()
}

// wait tries until try succeeds, for 30 s at most.
func wait(t *testing.T, try func() error) {
	t.Helper()
	limit := time.NewTimer(30 * time.Second)
	defer limit.Stop()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		err := try()
		if err == nil {
			return
		}
		select {
		case <-limit.C:
			t.Fatal(fmt.Errorf("gave up after 30 s: %w", err))
		case <-tick.C:
		}
	}
}

func TestFullKafkaRefusesAndGoesOn(t *testing.T) {
	t.Parallel()
	k := startKafka(t, servers.KafkaOptions{Topics: map[string]int{"events": 1}})
	produce(t, k, "one")
	if err := k.SetFull(true); err != nil {
		t.Fatal(err)
	}
	conn := lead(t, k)
	defer conn.Close()
	deadline(t, conn, 10*time.Second)
	if _, err := conn.WriteMessages(kafka.Message{Value: []byte("lost")}); !errors.Is(err, kafka.KafkaStorageError) {
		t.Errorf("a full broker answers %v", err)
	}
	if err := k.SetFull(false); err != nil {
		t.Fatal(err)
	}
	produce(t, k, "two")
	if got := strings.Join(consume(t, k, 2), " "); got != "one two" {
		t.Errorf("the log holds %q", got)
	}
}
