package apply

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/segmentio/kafka-go"

	"github.com/tandem-dc/tandem/shared/event"
	"github.com/tandem-dc/tandem/shared/kafkace"
)

// DeadLetters is where refused events are published. Publish returns nil once the
// event is there for good; m holds the refused event's attributes and the reason. It may
// be called again for the same event.
type DeadLetters interface {
	Publish(ctx context.Context, m event.Meta, data []byte) error
}

// KafkaLetters publishes to a topic.
type KafkaLetters struct {
	client *kafka.Client
	topic  string
	close  func()
}

// NewKafkaLetters opens a client; it does no I/O.
func NewKafkaLetters(c Config) (*KafkaLetters, error) {
	c = c.filled()
	client, done, err := c.Kafka.Client()
	if err != nil {
		return nil, fmt.Errorf("dead letters: %w", err)
	}
	return &KafkaLetters{client: client, topic: c.Dead.Topic, close: done}, nil
}

// Close closes idle connections.
func (k *KafkaLetters) Close() { k.close() }

// Publish returns when all in-sync replicas have the event.
func (k *KafkaLetters) Publish(ctx context.Context, m event.Meta, data []byte) error {
	m.Type = event.TypeDeadLetter
	m.Reason = clip(m.Reason, maxReason)
	msg := kafkace.ToMessage(&m, data)
	res, err := k.client.Produce(ctx, &kafka.ProduceRequest{
		Topic: k.topic, Partition: 0, RequiredAcks: kafka.RequireAll,
		Records: kafka.NewRecordReader(kafka.Record{Time: time.Now(), Key: kafka.NewBytes(msg.Key), Value: kafka.NewBytes(msg.Value), Headers: msg.Headers}),
	})
	if err == nil {
		err = res.Error
	}
	if err != nil {
		return fmt.Errorf("publish %s to topic %s: %w", m.ID, k.topic, err)
	}
	return nil
}

// announce tells the publisher that dead letters wait.
func (f *Function) announce() {
	select {
	case f.parked <- struct{}{}:
	default:
	}
}

const publishBatch = 100

// publisher sends dead letters that are not in the topic yet, oldest first. It
// blocks nobody: what cannot be sent is tried again at the next sweep.
func (f *Function) publisher(ctx context.Context) {
	if f.letters == nil {
		return
	}
	for {
		select {
		case <-ctx.Done():
			return
		case <-f.parked:
		}
		for {
			n, err := f.publish(ctx)
			if err != nil && ctx.Err() == nil {
				f.log.Log(ctx, slog.LevelWarn, "dead letters are not published yet", "err", err)
			}
			if err != nil || n < publishBatch {
				break
			}
		}
	}
}

func (f *Function) publish(ctx context.Context) (int, error) {
	rows, err := f.side.QueryContext(ctx, "SELECT id FROM tandem.dead_letter WHERE published_at IS NULL ORDER BY id LIMIT ?", publishBatch)
	if err != nil {
		return 0, fmt.Errorf("read dead letters: %w", err)
	}
	defer rows.Close()
	var ids []uint64
	for rows.Next() {
		var id uint64
		if err := rows.Scan(&id); err != nil {
			return 0, fmt.Errorf("read dead letters: %w", err)
		}
		ids = append(ids, id)
	}
	if err := rows.Err(); err != nil {
		return 0, fmt.Errorf("read dead letters: %w", err)
	}
	for _, id := range ids {
		if err := f.publishOne(ctx, id); err != nil {
			return 0, err
		}
	}
	return len(ids), nil
}

func (f *Function) publishOne(ctx context.Context, id uint64) error {
	ctx, cancel := context.WithTimeout(ctx, f.cfg.Dead.Timeout)
	defer cancel()
	var attrs, payload []byte
	var reason string
	if err := f.side.QueryRowContext(ctx, "SELECT attrs, payload, reason FROM tandem.dead_letter WHERE id = ?", id).Scan(&attrs, &payload, &reason); err != nil {
		return fmt.Errorf("read dead letter %d: %w", id, err)
	}
	m, err := decodeAttrs(attrs)
	if err != nil {
		return err
	}
	m.Reason = reason
	if err := f.letters.Publish(ctx, m, payload); err != nil {
		return err
	}
	if _, err := f.side.ExecContext(ctx, "UPDATE tandem.dead_letter SET published_at = CURRENT_TIMESTAMP(6) WHERE id = ?", id); err != nil {
		return fmt.Errorf("mark dead letter %d as published: %w", id, err)
	}
	return nil
}
