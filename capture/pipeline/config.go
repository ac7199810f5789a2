// Package pipeline answers how the transactions of one datacenter get to one
// target without loss: lease, checkpoint, reader, numbers, producer,
// checkpoint again.
//
// The order of shutdown is the order of the data: the reader stops, what it
// handed over is sent and acknowledged, the checkpoint is written, the lease goes
// back. Being killed instead costs nothing but a repetition: what lies
// behind the checkpoint is read again and gets the same numbers and ids.
package pipeline

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/tandem-dc/tandem/capture/binlog"
	"github.com/tandem-dc/tandem/capture/checkpoint"
	"github.com/tandem-dc/tandem/capture/publish"
	"github.com/tandem-dc/tandem/shared/event"
	"github.com/tandem-dc/tandem/shared/kafkaconn"
)

// Config describes one stream. Durations without a value take the default in parentheses.
type Config struct {
	DC     string // the source
	Target string // name of the datacenter that receives
	Holder string // who we are, for people who look at the lease

	Kafka      kafkaconn.Config
	Topic      string // event.Topic(DC) if empty
	Partitions int    // of the topic, if it has to be created; 0: it must exist
	Replicas   int    // likewise
	Publish    publish.Config

	// Rules names what decides which transactions are sent. A stream that may have
	// sent something beyond its checkpoint does not go on under others: it would give the same numbers to other transactions.
	Rules string

	Start     string        // where a stream without a checkpoint begins; see Database
	Heartbeat time.Duration // between heartbeat events (1 s)
	LeaseTTL  time.Duration // a standby takes over after so long (10 s)
	SaveEvery time.Duration // at least between two checkpoints (200 ms)
	// Drain bounds how long a shutdown waits for acknowledgements; 0: not at
	// all, and what was sent since the last checkpoint is sent again.
	Drain time.Duration
	// Pause before the next attempt after an error that somebody has to repair (15 s).
	Pause time.Duration
	// HistoryKeys bounds the memory for row keys, in keys (1,048,576; about 50 bytes each).
	HistoryKeys int
}

const (
	defaultHeartbeat   = time.Second
	defaultLeaseTTL    = 10 * time.Second
	defaultSaveEvery   = 200 * time.Millisecond
	defaultPause       = 15 * time.Second
	defaultHistoryKeys = 1 << 20
)

// Source reads a binlog. *binlog.Reader is one. Run returns when ctx ends or
// the binlog cannot be read on, having handed over whole items only.
type Source interface {
	Run(ctx context.Context, from binlog.Position, out chan<- binlog.Item) error
}

// Database is the server whose binlog is read.
type Database interface {
	// Open checks that the server logs what replication needs, and returns a
	// reader and the server's id for the source attribute.
	Open(ctx context.Context) (Source, string, error)
	// Resolve turns the start setting into a position.
	Resolve(ctx context.Context, start string) (binlog.Position, error)
}

// Deps are what a Pipeline works with; it closes none of them.
type Deps struct {
	Etcd     *clientv3.Client
	Database Database
	Metrics  *Metrics
	Log      *slog.Logger
}

// New returns a Pipeline that does nothing until Run.
func New(cfg Config, deps Deps) (*Pipeline, error) {
	if deps.Etcd == nil || deps.Database == nil || deps.Metrics == nil || deps.Log == nil {
		return nil, errors.New("pipeline: etcd, database, metrics and log are needed")
	}
	for _, dc := range []string{cfg.DC, cfg.Target} {
		if err := event.CheckName(dc); err != nil {
			return nil, fmt.Errorf("pipeline: %w", err)
		}
	}
	setDefault(&cfg.Topic, event.Topic(cfg.DC))
	setDefault(&cfg.Start, "latest")
	setDefault(&cfg.Heartbeat, defaultHeartbeat)
	setDefault(&cfg.LeaseTTL, defaultLeaseTTL)
	setDefault(&cfg.SaveEvery, defaultSaveEvery)
	setDefault(&cfg.Pause, defaultPause)
	setDefault(&cfg.HistoryKeys, defaultHistoryKeys)
	if cfg.Publish.Connections == 0 {
		cfg.Publish.Connections = connectionsPeer
		if cfg.Target == cfg.DC {
			cfg.Publish.Connections = connectionsLocal
		}
	}
	if err := cfg.Publish.Validate(); err != nil {
		return nil, fmt.Errorf("pipeline: %w", err)
	}
	dialer, err := cfg.Kafka.Dialer()
	if err != nil {
		return nil, fmt.Errorf("pipeline: %w", err)
	}
	store, err := checkpoint.New(deps.Etcd, cfg.DC, cfg.Target)
	if err != nil {
		return nil, err
	}
	p := &Pipeline{cfg: cfg, deps: deps, dialer: dialer, store: store, log: deps.Log.With("target", cfg.Target)}
	p.state.set(Standby, nil)
	return p, deps.Metrics.watch(p)
}

// Connections that New chooses. One batch is in flight on each, so a peer some
// 200 ms away needs many: with 64, a batch can leave every 4 ms, and each
// connection stays so sparse that one late segment delays little.
const (
	connectionsLocal = 4
	connectionsPeer  = 64
)

func setDefault[T comparable](v *T, d T) {
	var zero T
	if *v == zero {
		*v = d
	}
}
