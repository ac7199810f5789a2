// Package tail answers what goes over a topic: it follows a topic and prints
// its events for people, or as JSON for programs.
package tail

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strconv"
	"sync"
	"time"

	"github.com/segmentio/kafka-go"
	"golang.org/x/sync/errgroup"

	"github.com/tandem-dc/tandem/shared/kafkaconn"
	"github.com/tandem-dc/tandem/shared/retry"
)

// Config says what is followed.
type Config struct {
	Kafka kafkaconn.Config
	Topic string
	// From is where to begin in each partition: "earliest", "latest", an offset,
	// or "-N" for the last N records.
	From   string
	Follow bool // go on when the end is reached; false: stop at the end as it was at the start
}

// Printer writes one record. It is called by one goroutine at a time, and does
// not keep the message.
type Printer interface {
	Print(w io.Writer, m *kafka.Message) error
}

const (
	// One answer of a broker, compressed; a larger batch still comes whole.
	fetchBytes = 1 << 20
	// How long a broker holds a request while nothing comes: the delay of ctrl-C
	// at a broker that hangs is this and a little more.
	fetchWait = 500 * time.Millisecond
	// Bounds one request and its answer.
	fetchTimeout = 10 * time.Second
)

// Run prints the topic's records to out, each partition in its order, until ctx
// ends (which is no error) or, without Follow, the end is reached. At any time
// it holds one answer per partition. While brokers do not answer it tries on
// and says so in log.
func Run(ctx context.Context, c Config, p Printer, out io.Writer, log *slog.Logger) error {
	client, done, err := c.Kafka.Client()
	if err != nil {
		return err
	}
	defer done()
	parts, err := partitions(ctx, client, c)
	if err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return fmt.Errorf("topic %s on %v: %w", c.Topic, c.Kafka.Brokers, err)
	}
	f := &follower{client: client, topic: c.Topic, follow: c.Follow, printer: p, out: out, log: log}
	g, ctx := errgroup.WithContext(ctx)
	for _, part := range parts {
		g.Go(func() error { return f.run(ctx, part) })
	}
	err = g.Wait()
	if errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

// partition is where reading one begins, and where the end was at the start.
type partition struct {
	id        int
	next, end int64
}

func partitions(ctx context.Context, client *kafka.Client, c Config) ([]partition, error) {
	ctx, cancel := context.WithTimeout(ctx, fetchTimeout)
	defer cancel()
	m, err := client.Metadata(ctx, &kafka.MetadataRequest{Topics: []string{c.Topic}})
	if err != nil {
		return nil, err
	}
	if len(m.Topics) != 1 {
		return nil, kafka.UnknownTopicOrPartition
	}
	if err := m.Topics[0].Error; err != nil {
		return nil, err
	}
	var ask []kafka.OffsetRequest
	for _, p := range m.Topics[0].Partitions {
		ask = append(ask, kafka.FirstOffsetOf(p.ID), kafka.LastOffsetOf(p.ID))
	}
	offsets, err := client.ListOffsets(ctx, &kafka.ListOffsetsRequest{Topics: map[string][]kafka.OffsetRequest{c.Topic: ask}})
	if err != nil {
		return nil, err
	}
	var parts []partition
	for _, o := range offsets.Topics[c.Topic] {
		if o.Error != nil {
			return nil, fmt.Errorf("partition %d: %w", o.Partition, o.Error)
		}
		next, err := begin(c.From, o.FirstOffset, o.LastOffset)
		if err != nil {
			return nil, fmt.Errorf("partition %d: %w", o.Partition, err)
		}
		parts = append(parts, partition{id: o.Partition, next: next, end: o.LastOffset})
	}
	return parts, nil
}

// begin turns From into an offset between first and last.
func begin(from string, first, last int64) (int64, error) {
	switch from {
	case "", "latest":
		return last, nil
	case "earliest":
		return first, nil
	}
	n, err := strconv.ParseInt(from, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("--from %q is none of earliest, latest, an offset, -N", from)
	}
	if n < 0 {
		return max(first, last+n), nil
	}
	if n < first || n > last {
		return 0, fmt.Errorf("offset %d is not there: the partition holds %d to %d", n, first, last)
	}
	return n, nil
}

type follower struct {
	client *kafka.Client
	topic  string
	follow bool
	log    *slog.Logger

	mu      sync.Mutex // guards the output
	printer Printer
	out     io.Writer
}

func (f *follower) run(ctx context.Context, p partition) error {
	policy := retry.Policy{Min: 200 * time.Millisecond, Max: 3 * time.Second}
	for f.follow || p.next < p.end {
		reported := false
		err := policy.Do(ctx, func(ctx context.Context) error {
			err := f.fetch(ctx, &p)
			if err != nil && !retry.IsPermanent(err) && ctx.Err() == nil && !reported {
				f.log.Warn("no answer, trying on", "partition", p.id, "error", err)
				reported = true
			}
			return err
		})
		if ctx.Err() != nil {
			return context.Canceled
		}
		if err != nil {
			return fmt.Errorf("topic %s, partition %d, offset %d: %w", f.topic, p.id, p.next, err)
		}
	}
	return nil
}

// fetch prints one answer of the broker and moves p on.
func (f *follower) fetch(ctx context.Context, p *partition) error {
	ctx, cancel := context.WithTimeout(ctx, fetchTimeout)
	defer cancel()
	r, err := f.client.Fetch(ctx, &kafka.FetchRequest{
		Topic: f.topic, Partition: p.id, Offset: p.next, MinBytes: 1, MaxBytes: fetchBytes, MaxWait: fetchWait,
	})
	if err != nil {
		return err
	}
	if errors.Is(r.Error, kafka.OffsetOutOfRange) {
		return retry.Permanent(fmt.Errorf("the record is gone, the oldest is %d: %w", r.LogStartOffset, r.Error))
	}
	if r.Error != nil {
		return r.Error
	}
	moved := false
	for {
		rec, err := r.Records.ReadRecord()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return fmt.Errorf("read the answer: %w", err)
		}
		m, err := f.message(p.id, rec)
		if err != nil {
			return fmt.Errorf("read a record: %w", err)
		}
		if m.Offset < p.next { // a batch comes whole, though asked for from its middle
			continue
		}
		if !f.follow && m.Offset >= p.end {
			p.next = m.Offset
			return nil
		}
		if err := f.print(m); err != nil {
			return retry.Permanent(err)
		}
		p.next, moved = m.Offset+1, true
	}
	if !moved && p.next < r.HighWatermark {
		p.next++ // the broker keeps a note of its own there, such as the end of a transaction
	}
	return nil
}

func (f *follower) message(partition int, r *kafka.Record) (*kafka.Message, error) {
	m := &kafka.Message{Topic: f.topic, Partition: partition, Offset: r.Offset, Headers: r.Headers, Time: r.Time}
	var err error
	if r.Key != nil {
		if m.Key, err = kafka.ReadAll(r.Key); err != nil {
			return nil, err
		}
	}
	if r.Value != nil {
		if m.Value, err = kafka.ReadAll(r.Value); err != nil {
			return nil, err
		}
	}
	return m, nil
}

func (f *follower) print(m *kafka.Message) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.printer.Print(f.out, m); err != nil {
		return fmt.Errorf("write: %w", err)
	}
	return nil
}
