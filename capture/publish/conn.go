package publish

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"time"

	"github.com/segmentio/kafka-go"
)

// dial opens a connection to addr for topic and partition, ready for its first request (TLS
// and SASL done). It obeys ctx and timeout throughout, where kafka-go would
// let a silent broker hold up its SASL exchange for ever. The connection is
// closed when life ends.
func dial(life context.Context, d *kafka.Dialer, timeout time.Duration, open func(ctx context.Context, d *kafka.Dialer) (*kafka.Conn, error)) (*kafka.Conn, func(), error) {
	ctx, cancel := context.WithTimeout(life, timeout)
	defer cancel()
	own := *d
	base := d.DialFunc
	if base == nil {
		base = (&net.Dialer{}).DialContext
	}
	var unwatch []func() bool
	own.DialFunc = func(dialCtx context.Context, network, address string) (net.Conn, error) {
		raw, err := base(dialCtx, network, address)
		if err != nil {
			return nil, err
		}
		unwatch = append(unwatch, context.AfterFunc(ctx, func() { _ = raw.Close() }))
		return raw, nil
	}
	conn, err := open(ctx, &own)
	inTime := true
	for _, stop := range unwatch {
		inTime = stop() && inTime
	}
	if err == nil && !inTime {
		_ = conn.Close()
		err = context.Cause(ctx)
	}
	if err != nil {
		return nil, nil, err
	}
	unbind := context.AfterFunc(life, func() { _ = conn.Close() })
	return conn, func() { unbind(); _ = conn.Close() }, nil
}

// leaders remembers who leads each partition, so that many connections ask once.
type leaders struct {
	to      Target
	timeout time.Duration

	turns chan struct{}     // filled by whoever uses the rest
	parts []kafka.Partition // by id
	asked time.Time
	turn  int
}

// of returns the partition for the worker'th connection, asking the brokers if
// the answer at hand was got before fresh.
func (l *leaders) of(ctx context.Context, worker int, fresh time.Time) (kafka.Partition, error) {
	select {
	case l.turns <- struct{}{}:
		defer func() { <-l.turns }()
	case <-ctx.Done():
		return kafka.Partition{}, context.Cause(ctx)
	}
	if l.parts == nil || l.asked.Before(fresh) {
		parts, err := l.ask(ctx)
		if err != nil {
			return kafka.Partition{}, err
		}
		l.parts, l.asked = parts, time.Now()
	}
	p := l.parts[worker%len(l.parts)]
	if p.Error != nil || p.Leader.Host == "" {
		l.parts = nil
		return p, fmt.Errorf("topic %s: partition %d has no leader: %w", l.to.Topic, p.ID, errors.Join(kafka.LeaderNotAvailable, p.Error))
	}
	return p, nil
}

func (l *leaders) ask(ctx context.Context) ([]kafka.Partition, error) {
	addr := l.to.Brokers[l.turn%len(l.to.Brokers)]
	conn, done, err := dial(ctx, l.to.Dialer, l.timeout, func(ctx context.Context, d *kafka.Dialer) (*kafka.Conn, error) {
		return d.DialContext(ctx, "tcp", addr)
	})
	if err != nil {
		l.turn++
		return nil, fmt.Errorf("broker %s: %w", addr, err)
	}
	defer done()
	parts, err := partitions(conn, l.to.Topic, l.timeout)
	if err != nil {
		l.turn++
		return nil, fmt.Errorf("broker %s: %w", addr, explain(err, l.to.Topic))
	}
	return parts, nil
}

func partitions(conn *kafka.Conn, topic string, timeout time.Duration) ([]kafka.Partition, error) {
	if err := conn.SetDeadline(time.Now().Add(timeout)); err != nil {
		return nil, err
	}
	parts, err := conn.ReadPartitions(topic)
	if err != nil {
		return nil, err
	}
	if len(parts) == 0 {
		return nil, kafka.UnknownTopicOrPartition
	}
	slices.SortFunc(parts, func(a, b kafka.Partition) int { return a.ID - b.ID })
	return parts, nil
}

// link is one open connection to the leader of one partition.
type link struct {
	conn      *kafka.Conn
	close     func()
	addr      string
	roundTrip time.Duration
}

// connect opens and warms a link: kafka-go asks a new connection for its API
// versions, and that round trip must not fall on the first batch.
func (p *Producer) connect(ctx context.Context, worker int, fresh time.Time) (*link, error) {
	part, err := p.leaders.of(ctx, worker, fresh)
	if err != nil {
		return nil, err
	}
	addr := net.JoinHostPort(part.Leader.Host, strconv.Itoa(part.Leader.Port))
	conn, done, err := dial(ctx, p.to.Dialer, p.cfg.WriteTimeout, func(ctx context.Context, d *kafka.Dialer) (*kafka.Conn, error) {
		return d.DialPartition(ctx, "tcp", addr, part)
	})
	if err != nil {
		return nil, fmt.Errorf("broker %s: %w", addr, err)
	}
	begin := time.Now()
	if _, err := partitions(conn, p.to.Topic, p.cfg.WriteTimeout); err != nil {
		done()
		return nil, fmt.Errorf("broker %s: %w", addr, explain(err, p.to.Topic))
	}
	if err := conn.SetRequiredAcks(-1); err != nil {
		done()
		return nil, err
	}
	// One trip for the versions and one for the partitions.
	return &link{conn: conn, close: done, addr: addr, roundTrip: time.Since(begin) / 2}, nil
}

// send writes b and waits for all in-sync replicas.
func (l *link) send(messages []kafka.Message, codec kafka.CompressionCodec, timeout time.Duration) error {
	if err := l.conn.SetDeadline(time.Now().Add(timeout)); err != nil {
		return fmt.Errorf("broker %s: %w", l.addr, err)
	}
	if _, err := l.conn.WriteCompressedMessages(codec, messages...); err != nil {
		return fmt.Errorf("broker %s: %w", l.addr, err)
	}
	return nil
}
