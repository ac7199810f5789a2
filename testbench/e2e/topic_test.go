package e2e_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"testing"
	"time"

	"github.com/segmentio/kafka-go"

	"github.com/tandem-dc/tandem/shared/kafkaconn"
)

// topic is a topic as tests see it: from a place on, they read what is there.
type topic struct {
	client *kafka.Client
	name   string
	next   []int64 // by partition
}

// openTopic begins at the end of a topic, or at its beginning.
func openTopic(t *testing.T, c kafkaconn.Config, name string, fromStart bool) *topic {
	t.Helper()
	client, closeIdle, err := c.Client()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(closeIdle)
	ctx, cancel := context.WithTimeout(t.Context(), sqlLimit)
	defer cancel()
	m, err := client.Metadata(ctx, &kafka.MetadataRequest{Topics: []string{name}})
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Topics[0].Error; err != nil {
		t.Fatalf("topic %s: %v", name, err)
	}
	p := &topic{client: client, name: name, next: make([]int64, len(m.Topics[0].Partitions))}
	if !fromStart {
		if p.next, err = p.ends(ctx); err != nil {
			t.Fatal(err)
		}
	}
	return p
}

func (p *topic) ends(ctx context.Context) ([]int64, error) {
	var ask []kafka.OffsetRequest
	for i := range p.next {
		ask = append(ask, kafka.LastOffsetOf(i))
	}
	res, err := p.client.ListOffsets(ctx, &kafka.ListOffsetsRequest{Topics: map[string][]kafka.OffsetRequest{p.name: ask}})
	if err != nil {
		return nil, err
	}
	ends := make([]int64, len(p.next))
	for _, x := range res.Topics[p.name] {
		if x.Error != nil {
			return nil, x.Error
		}
		ends[x.Partition] = x.LastOffset
	}
	return ends, nil
}

// more reads what has come since the last call.
func (p *topic) more(ctx context.Context) ([]kafka.Message, error) {
	ends, err := p.ends(ctx)
	if err != nil {
		return nil, err
	}
	var all []kafka.Message
	for i, end := range ends {
		for p.next[i] < end {
			got, err := p.fetch(ctx, i)
			if err != nil {
				return nil, fmt.Errorf("topic %s, partition %d at %d: %w", p.name, i, p.next[i], err)
			}
			all = append(all, got...)
		}
	}
	return all, nil
}

func (p *topic) fetch(ctx context.Context, partition int) ([]kafka.Message, error) {
	res, err := p.client.Fetch(ctx, &kafka.FetchRequest{
		Topic: p.name, Partition: partition, Offset: p.next[partition], MinBytes: 1, MaxBytes: 8 << 20, MaxWait: time.Second,
	})
	if err != nil {
		return nil, err
	}
	if res.Error != nil {
		return nil, res.Error
	}
	var all []kafka.Message
	for {
		r, err := res.Records.ReadRecord()
		if errors.Is(err, io.EOF) {
			return all, nil
		}
		if err != nil {
			return all, err
		}
		if r.Offset < p.next[partition] {
			continue // the batch begins before what was asked for
		}
		m := kafka.Message{Topic: p.name, Partition: partition, Offset: r.Offset, Headers: r.Headers, Time: r.Time}
		if r.Value != nil {
			if m.Value, err = io.ReadAll(r.Value); err != nil {
				return all, err
			}
		}
		all = append(all, m)
		p.next[partition] = r.Offset + 1
	}
}

// put adds a record by hand.
func (p *topic) put(t *testing.T, m kafka.Message) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), sqlLimit)
	defer cancel()
	res, err := p.client.Produce(ctx, &kafka.ProduceRequest{Topic: p.name, RequiredAcks: kafka.RequireAll, Records: kafka.NewRecordReader(
		kafka.Record{Time: time.Now(), Key: kafka.NewBytes(m.Key), Value: kafka.NewBytes(m.Value), Headers: m.Headers})})
	if err == nil {
		err = res.Error
	}
	if err != nil {
		t.Fatalf("put a record into %s: %v", p.name, err)
	}
}

// header returns the value of a record's header, "" if there is none.
func header(m *kafka.Message, name string) string {
	for _, h := range m.Headers {
		if h.Key == name {
			return string(h.Value)
		}
	}
	return ""
}
