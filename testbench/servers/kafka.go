package servers

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/tandem-dc/tandem/shared/kafkaconn"
)

// KafkaKind is a broker's implementation.
type KafkaKind string

const (
	Embedded KafkaKind = "embedded" // the Kafka protocol, served in this process
	Apache   KafkaKind = "apache"   // Apache Kafka in KRaft mode, one node, a child process
)

// KafkaOptions says what StartKafka starts.
type KafkaOptions struct {
	Kind KafkaKind // default Embedded
	Dir  string    // for log segments, settings and output, made if missing, kept by Close; default: a scratch directory
	// Topics are made before StartKafka returns: name to number of partitions. No
	// topic is ever made by its first use.
	Topics map[string]int
	// MaxMessageBytes bounds a batch of records. Default: Kafka's, 1048588.
	MaxMessageBytes int
}

// Kafka is a running broker with one node. It keeps what it has acknowledged
// through Kill, Stop and Restart.
type Kafka struct {
	Kind KafkaKind
	broker
	dir    string
	ownDir bool
}

// broker is what the kinds have in common: the verbs of every server.
type broker interface {
	// Bootstrap is host:port of the broker, the same through restarts.
	Bootstrap() string
	// Kill ends the broker as a crash does.
	Kill() error
	// Stop ends the broker in order.
	Stop() error
	// Pause lets the broker hang: connections stay open and nothing answers.
	Pause() error
	// Resume lets a paused broker go on.
	Resume() error
	// LogPath is the file that holds the broker's output.
	LogPath() string
	// Tail returns the last lines of that output.
	Tail(lines int) string

	restart(ctx context.Context) error
}

// StartKafka starts a broker and waits until it answers and has its topics.
// Errors hold the end of its log, or the command that installs it.
func StartKafka(ctx context.Context, o KafkaOptions) (*Kafka, error) {
	k := &Kafka{Kind: o.Kind, dir: o.Dir}
	if k.Kind == "" {
		k.Kind = Embedded
	}
	var err error
	if k.dir == "" {
		k.ownDir = true
		if k.dir, err = ScratchDir("kafka"); err != nil {
			return nil, err
		}
	}
	if err = os.MkdirAll(k.dir, 0o700); err == nil {
		switch k.Kind {
		case Embedded:
			k.broker, err = startEmbedded(k.dir, o.MaxMessageBytes)
		case Apache:
			k.broker, err = startApache(ctx, k.dir, o.MaxMessageBytes)
		default:
			err = fmt.Errorf("broker kind %q is neither %s nor %s", k.Kind, Embedded, Apache)
		}
	}
	for topic, partitions := range o.Topics {
		if err != nil {
			break
		}
		err = kafkaconn.EnsureTopic(ctx, k.Config(), topic, partitions, 1)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("start %s kafka: %w", k.Kind, err), k.Close())
	}
	return k, nil
}

// Config is how to connect to the broker without a link between.
func (k *Kafka) Config() kafkaconn.Config {
	return kafkaconn.Config{Brokers: []string{k.Bootstrap()}, DialTimeout: 5 * time.Second}
}

// Restart starts the broker again with the same data on the same port, and waits
// until it answers. One that still runs is stopped first.
func (k *Kafka) Restart(ctx context.Context) error {
	if err := k.Stop(); err != nil {
		return err
	}
	return k.restart(ctx)
}

// Close ends the broker without mercy and removes a scratch directory.
func (k *Kafka) Close() error {
	var errs []error
	if k.broker != nil {
		errs = append(errs, k.Kill())
	}
	if k.ownDir {
		errs = append(errs, os.RemoveAll(k.dir))
	}
	return errors.Join(errs...)
}

// SetFull makes the broker refuse everything that is produced, with
// KAFKA_STORAGE_ERROR, as one whose disk is full, until it is undone or the
// broker restarts. Only the embedded broker can be told so.
func (k *Kafka) SetFull(full bool) error {
	e, ok := k.broker.(*embedded)
	if !ok {
		return fmt.Errorf("a full disk cannot be simulated in %s kafka: give it a small file system", k.Kind)
	}
	return e.setFull(full)
}

// Dir holds the broker's data and output.
func (k *Kafka) Dir() string { return k.dir }

func kafkaLog(dir string) string { return filepath.Join(dir, "kafka.log") }
