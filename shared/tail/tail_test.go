package tail_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/alecthomas/kong"
	"github.com/segmentio/kafka-go"

	"github.com/tandem-dc/tandem/shared/event"
	"github.com/tandem-dc/tandem/shared/kafkace"
	"github.com/tandem-dc/tandem/shared/tail"
	"github.com/tandem-dc/tandem/testbench/servers"
)

func TestMain(m *testing.M) { os.Exit(servers.Main(m)) }

func start(t *testing.T, kind servers.KafkaKind, partitions int) *servers.Kafka {
	t.Helper()
	k, err := servers.StartKafka(t.Context(), servers.KafkaOptions{Kind: kind, Topics: map[string]int{"binlog-beijing": partitions}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := k.Close(); err != nil {
			t.Error(err)
		}
	})
	return k
}

// publish sends events with these sequences to a partition as one batch.
func publish(t *testing.T, k *servers.Kafka, partition int, sequences ...uint64) {
	t.Helper()
	client, done, err := k.Config().Client()
	if err != nil {
		t.Fatal(err)
	}
	defer done()
	var records []kafka.Record
	for _, seq := range sequences {
		m := event.Meta{ID: fmt.Sprint("u:", seq), Source: "/tandem/beijing/mysql/u", Type: event.TypeTransaction, Origin: "beijing", Epoch: 1, Sequence: seq, LastCommitted: seq - 1}
		msg := kafkace.ToMessage(&m, (&event.Transaction{}).AppendJSON(nil))
		records = append(records, kafka.Record{Value: kafka.NewBytes(msg.Value), Headers: msg.Headers})
	}
	r, err := client.Produce(t.Context(), &kafka.ProduceRequest{
		Topic: "binlog-beijing", Partition: partition, RequiredAcks: kafka.RequireAll, Compression: kafka.Zstd, Records: kafka.NewRecordReader(records...),
	})
	if err == nil {
		err = r.Error
	}
	if err != nil {
		t.Fatal(err)
	}
}

// command parses a command line as the CLI does.
func command(t *testing.T, k *servers.Kafka, args ...string) *tail.Command {
	t.Helper()
	var c tail.Command
	p, err := kong.New(&c)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.Parse(append([]string{"--brokers", k.Bootstrap(), "--topic", "binlog-beijing"}, args...)); err != nil {
		t.Fatal(err)
	}
	c.Out, c.Err = io.Discard, t.Output()
	return &c
}

var sequence = regexp.MustCompile(`transaction 1/(\d+) `)

func sequences(out string) (all []string) {
	for _, m := range sequence.FindAllStringSubmatch(out, -1) {
		all = append(all, m[1])
	}
	return all
}

func TestFrom(t *testing.T) {
	servers.EachKafka(t, func(t *testing.T, kind servers.KafkaKind) {
		k := start(t, kind, 1)
		publish(t, k, 0, 1, 2, 3) // one batch, which comes whole whatever is asked for
		publish(t, k, 0, 4)
		for from, want := range map[string]string{"earliest": "1 2 3 4", "latest": "", "1": "2 3 4", "4": "", "-2": "3 4", "-9": "1 2 3 4"} {
			var out bytes.Buffer
			c := command(t, k, "--from="+from, "--follow=false")
			c.Out = &out
			if err := c.Execute(t.Context()); err != nil {
				t.Errorf("from %s: %v", from, err)
			}
			if got := strings.Join(sequences(out.String()), " "); got != want {
				t.Errorf("from %s prints %q, want %q", from, got, want)
			}
		}
	})
}

func TestRefuses(t *testing.T) {
	k := start(t, servers.Embedded, 1)
	for want, args := range map[string][]string{
		"holds 0 to 0":          {"--from=5"},
		"none of earliest":      {"--from=yesterday"},
		"Unknown Topic":         {"--topic=binlog-nowhere"},
		"sasl.mechanism":        {"--sasl.user=me"},
		"tls.ca":                {"--tls.ca=/nowhere"},
		"address-map: \"b\" is": {"--address-map=a:1=b"},
	} {
		if err := command(t, k, args...).Execute(t.Context()); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: want an error that says %q, got %v", args, want, err)
		}
	}
}

// buffer is read while it is written.
type buffer struct {
	mu      sync.Mutex
	b       bytes.Buffer
	written chan struct{} // signalled after each write
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	select {
	case b.written <- struct{}{}:
	default:
	}
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

func (b *buffer) await(t *testing.T, n int) []string {
	t.Helper()
	limit := time.After(20 * time.Second)
	for {
		if got := sequences(b.String()); len(got) >= n {
			return got
		}
		select {
		case <-b.written:
		case <-limit:
			t.Fatalf("only %v came", sequences(b.String()))
		}
	}
}

func TestFollow(t *testing.T) {
	servers.EachKafka(t, func(t *testing.T, kind servers.KafkaKind) {
		k := start(t, kind, 3)
		publish(t, k, 0, 1)
		out := &buffer{written: make(chan struct{}, 1)}
		c := command(t, k, "--from=earliest")
		c.Out = out
		ctx, interrupt := context.WithCancel(t.Context())
		defer interrupt()
		ended := make(chan error, 1)
		go func() { ended <- c.Execute(ctx) }()
		out.await(t, 1)
		publish(t, k, 1, 2, 3)
		publish(t, k, 2, 4)
		out.await(t, 4)

		if err := k.Restart(t.Context()); err != nil {
			t.Fatal(err)
		}
		publish(t, k, 0, 5)
		got := out.await(t, 5)
		slices.Sort(got)
		if strings.Join(got, " ") != "1 2 3 4 5" {
			t.Errorf("printed %v", got)
		}
		interrupt()
		if err := <-ended; err != nil {
			t.Errorf("an interrupt gives %v", err)
		}
	})
}

// A pipe that is closed at the other end must end the command.
func TestOutputThatFails(t *testing.T) {
	k := start(t, servers.Embedded, 1)
	publish(t, k, 0, 1)
	r, w := io.Pipe()
	r.Close()
	c := command(t, k, "--from=earliest")
	c.Out = w
	if err := c.Execute(t.Context()); err == nil || !strings.Contains(err.Error(), "closed pipe") {
		t.Errorf("got %v", err)
	}
}
