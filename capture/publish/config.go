// Package publish answers how records get from capture into a Kafka topic:
// quickly over a long line, each at least once, with a frontier below which
// none is missing.
//
// kafka-go's Writer is not used: it sends the next batch although the one before
// was refused, and keeps one batch in flight per partition. Here every batch is sent until
// it is acknowledged, many are in flight over several connections, and the order
// of arrival is the receiver's business.
package publish

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/segmentio/kafka-go"

	"github.com/tandem-dc/tandem/shared/retry"
)

// Config bounds a Producer. Zero fields take the defaults that their tags name,
// except Connections, which New takes as 4.
type Config struct {
	Connections      int           `key:"connections" default:"0" help:"connections, each with one batch in flight; 0: 4 for the own datacenter, 64 for another"`
	Linger           time.Duration `key:"linger" default:"2ms" help:"longest wait for company while a batch is in flight; an idle producer sends at once"`
	MaxBatchBytes    int           `key:"max-batch-bytes" default:"524288" help:"size of a batch before compression, bytes; a larger event travels alone"`
	MaxInFlight      int           `key:"max-in-flight" default:"2048" help:"events sent or waiting beyond the newest gapless acknowledgement; reading the binlog pauses there"`
	MaxInFlightBytes int64         `key:"max-in-flight-bytes" default:"67108864" help:"bytes of events that wait for their acknowledgement; reading the binlog pauses there"`
	WriteTimeout     time.Duration `key:"write-timeout" default:"5s" help:"longest wait for an acknowledgement before the batch is sent again"`
	Hedge            time.Duration `key:"hedge" default:"400ms" help:"a batch without an answer for so long is sent over a second connection too, if later ones were answered; 0: never"`
	Compression      string        `key:"compression" default:"none" help:"none, snappy or zstd"`
}

// Validate reports settings that cannot work.
func (c Config) Validate() error {
	var errs []error
	for _, n := range []struct {
		key string
		v   int64
	}{
		{"connections", int64(c.Connections)}, {"linger", int64(c.Linger)}, {"max-batch-bytes", int64(c.MaxBatchBytes)},
		{"max-in-flight", int64(c.MaxInFlight)}, {"max-in-flight-bytes", c.MaxInFlightBytes},
		{"write-timeout", int64(c.WriteTimeout)}, {"hedge", int64(c.Hedge)},
	} {
		if n.v < 0 {
			errs = append(errs, fmt.Errorf("%s must not be negative", n.key))
		}
	}
	if c.Connections > maxConnections {
		errs = append(errs, fmt.Errorf("connections must be at most %d", maxConnections))
	}
	if _, err := codec(c.Compression); err != nil {
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

const maxConnections = 256

func codec(name string) (kafka.CompressionCodec, error) {
	switch name {
	case "", "none":
		return nil, nil
	case "snappy":
		return kafka.Snappy.Codec(), nil
	case "zstd":
		return kafka.Zstd.Codec(), nil
	}
	return nil, fmt.Errorf("compression %q is none of none, snappy, zstd", name)
}

func (c Config) withDefaults() Config {
	c.Connections = cmp.Or(c.Connections, 4)
	c.MaxBatchBytes = cmp.Or(c.MaxBatchBytes, 512<<10)
	c.MaxInFlight = cmp.Or(c.MaxInFlight, 2048)
	c.MaxInFlightBytes = cmp.Or(c.MaxInFlightBytes, 64<<20)
	c.WriteTimeout = cmp.Or(c.WriteTimeout, 5*time.Second)
	return c
}

// Target is the topic that a Producer writes to.
type Target struct {
	Dialer  *kafka.Dialer
	Brokers []string // host:port to ask for the leaders
	Topic   string   // must exist
	// MaxMessageBytes is the largest batch the topic accepts, in bytes as the
	// broker counts it; 0: unknown, the broker's own refusal decides.
	MaxMessageBytes int
	// Backoff between attempts of one connection; 100 ms to 5 s by default.
	Backoff retry.Policy
}

// New returns a Producer that does nothing until Run.
func New(cfg Config, to Target, log *slog.Logger) (*Producer, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("publish: %w", err)
	}
	if to.Dialer == nil || len(to.Brokers) == 0 || to.Topic == "" {
		return nil, errors.New("publish: dialer, brokers and topic are needed")
	}
	if to.Backoff == (retry.Policy{}) {
		to.Backoff = retry.Policy{Min: 100 * time.Millisecond, Max: 5 * time.Second}
	}
	c, _ := codec(cfg.Compression)
	cfg = cfg.withDefaults()
	if to.MaxMessageBytes > 0 {
		cfg.MaxBatchBytes = min(cfg.MaxBatchBytes, to.MaxMessageBytes)
	}
	p := &Producer{
		cfg: cfg, to: to, codec: c, log: log,
		leaders: &leaders{to: to, timeout: cfg.WriteTimeout, turns: make(chan struct{}, 1)},
		queue:   newQueue(cfg),
		notify:  make(chan struct{}, 1),
	}
	p.work.L, p.room.L = &p.mu, &p.mu
	return p, nil
}
