package knative

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/segmentio/kafka-go"

	"github.com/tandem-dc/tandem/shared/kafkaconn"
	"github.com/tandem-dc/tandem/shared/retry"
)

// DispatcherOptions are what a cluster brings besides the KafkaSource itself.
type DispatcherOptions struct {
	// Sink gives the URL for the next request to spec.sink.
	Sink func() (string, error)
	// DeadLetterSink is where spec.delivery.deadLetterSink leads: a URL giver or a
	// KafkaSink. Both nil: nowhere.
	DeadLetterURL  func() (string, error)
	DeadLetterSink *KafkaSink
	// Kafka says how to reach the brokers; Brokers come from the manifests.
	Kafka kafkaconn.Config
	// DataPlane defaults to ShippedDataPlane.
	DataPlane DataPlane
	// Pods is how many dispatcher pods share the partitions, each with limits of
	// its own: at most spec.consumers. Default 1, since one pod has room for 20
	// consumers.
	Pods int
	Log  *slog.Logger
}

// Dispatcher delivers the records of one KafkaSource. It is started and stopped
// any number of times; what is counted goes on.
type Dispatcher struct {
	meta ObjectMeta
	plan plan
	o    DispatcherOptions
	log  *slog.Logger
	counters

	mu  sync.Mutex
	run *dispatch // nil while stopped
}

// NewDispatcher checks the source; Start does the work.
func NewDispatcher(source *KafkaSource, o DispatcherOptions) (*Dispatcher, error) {
	p, err := source.Spec.plan()
	if err != nil {
		return nil, fmt.Errorf("KafkaSource %s: %w", source.Metadata.Name, err)
	}
	if o.Sink == nil || o.Log == nil {
		return nil, fmt.Errorf("KafkaSource %s: DispatcherOptions.Sink and Log are required", source.Metadata.Name)
	}
	if p.net != nil && p.net.TLS.Enable && !o.Kafka.TLS.Enabled {
		return nil, fmt.Errorf("KafkaSource %s: spec.net.tls is set: give the files in Kafka.TLS", source.Metadata.Name)
	}
	if o.DataPlane == (DataPlane{}) {
		o.DataPlane = ShippedDataPlane()
	}
	o.Pods = min(max(o.Pods, 1), p.consumers)
	o.Kafka.Brokers = p.brokers
	return &Dispatcher{meta: source.Metadata, plan: p, o: o, log: o.Log.With("kafkasource", source.Metadata.Name)}, nil
}

// Stats returns the counts so far.
func (d *Dispatcher) Stats() Stats { return d.stats() }

// dispatch is one life of a Dispatcher.
type dispatch struct {
	*Dispatcher
	client     *kafka.Client
	disconnect func()
	sink, dead sender
	pods       []*pod
	partitions []*partition

	pollCtx  context.Context // ends when no more records may be taken
	stopPoll context.CancelFunc
	sendCtx  context.Context // ends when deliveries are cut off
	cutOff   context.CancelFunc
	polls    sync.WaitGroup // fetchers, pollers, committer
	sends    sync.WaitGroup // deliveries
}

type partition struct {
	topic  string
	id     int
	reader *kafka.Reader
	ch     chan kafka.Message // fetched, not yet polled
	track  *tracker

	mu    sync.Mutex // for ordered delivery
	queue []kafka.Message
	busy  bool
}

// Start waits for the topics, resumes at the committed offsets and delivers in
// the background. A group without an offset gets its initial one committed at
// once, as the controller does.
func (d *Dispatcher) Start(ctx context.Context) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.run != nil {
		return fmt.Errorf("KafkaSource %s is started already", d.meta.Name)
	}
	r, err := d.open(ctx)
	if err != nil {
		return fmt.Errorf("start KafkaSource %s: %w", d.meta.Name, err)
	}
	r.start()
	d.run = r
	return nil
}

// Stop takes no more records, waits for the requests under way until ctx ends,
// then cuts them off; what waits for a retry is left for the next start. The
// finished offsets are committed.
func (d *Dispatcher) Stop(ctx context.Context) error {
	r := d.take()
	if r == nil {
		return nil
	}
	r.stopPoll()
	r.polls.Wait() // first: they begin sends
	done := make(chan struct{})
	go func() {
		r.sends.Wait()
		close(done)
	}()
	select {
	case <-done:
	case <-ctx.Done():
	}
	r.cutOff()
	<-done
	commit, cancel := context.WithTimeout(context.WithoutCancel(ctx), commitTimeout)
	defer cancel()
	// The first try may meet a connection that died with a restarted broker.
	err := retry.Policy{Min: 50 * time.Millisecond, Max: 500 * time.Millisecond}.Do(commit, r.commit)
	return errors.Join(err, r.close())
}

// Kill stops as a crash does: requests are cut off and no offset is committed,
// so a new start repeats up to a commit interval of events.
func (d *Dispatcher) Kill() error {
	r := d.take()
	if r == nil {
		return nil
	}
	r.stopPoll()
	r.cutOff()
	r.polls.Wait() // first: they begin sends
	r.sends.Wait()
	return r.close()
}

func (d *Dispatcher) take() *dispatch {
	d.mu.Lock()
	defer d.mu.Unlock()
	r := d.run
	d.run = nil
	return r
}

func (r *dispatch) close() error {
	var errs []error
	for _, p := range r.partitions {
		errs = append(errs, p.reader.Close())
	}
	errs = append(errs, r.sink.close(), r.dead.close())
	r.disconnect()
	r.stopPoll()
	r.cutOff()
	return errors.Join(errs...)
}

func (r *dispatch) start() {
	for _, p := range r.partitions {
		p.reader = r.reader(p)
	}
	for _, pod := range r.pods {
		for _, p := range pod.partitions {
			r.polls.Go(func() { pod.fetch(p) })
		}
		if r.plan.ordered {
			r.polls.Go(pod.pollOrdered)
		} else {
			r.polls.Go(pod.pollUnordered)
		}
	}
	r.polls.Go(r.commitLoop)
}

// deliver brings one record to its end. It returns without finishing it only
// when the dispatcher is stopped.
func (r *dispatch) deliver(p *partition, msg *kafka.Message) {
	o, wrapped, err := fromRecord(msg, r.meta, r.plan.overrides)
	if err != nil {
		r.discarded.Add(1)
		r.log.Error("record discarded", "topic", msg.Topic, "partition", msg.Partition, "offset", msg.Offset, "error", err)
		p.track.finish(msg.Offset)
		return
	}
	if wrapped {
		r.wrapped.Add(1)
	}
	retried := func() { r.retried.Add(1) }
	err = r.plan.retry.deliver(r.sendCtx, r.pollCtx.Done(), r.sink, o, retried)
	if refused := (*failure)(nil); errors.As(err, &refused) {
		r.log.Error("event not delivered", "topic", msg.Topic, "partition", msg.Partition, "offset", msg.Offset, "error", err)
		err = r.plan.retry.deliver(r.sendCtx, r.pollCtx.Done(), r.dead, o.dead(refused), retried)
		switch {
		case err == nil:
			r.deadLettered.Add(1)
		case errors.As(err, &refused):
			r.lost.Add(1)
			r.log.Error("event LOST: no dead-letter sink took it and its offset is committed",
				"topic", msg.Topic, "partition", msg.Partition, "offset", msg.Offset, "error", err)
		default:
			return
		}
	} else if err != nil {
		return
	} else {
		r.delivered.Add(1)
	}
	p.track.finish(msg.Offset)
}

func (r *dispatch) reader(p *partition) *kafka.Reader {
	dialer, err := r.o.Kafka.Dialer()
	if err != nil {
		dialer = kafka.DefaultDialer // open has checked it
	}
	reader := kafka.NewReader(kafka.ReaderConfig{
		Brokers: r.plan.brokers, Dialer: dialer, Topic: p.topic, Partition: p.id,
		MinBytes: 1, MaxBytes: r.o.DataPlane.MaxPartitionFetchBytes,
		// As fetch.max.wait.ms: the broker answers at once when it has something.
		MaxWait:        500 * time.Millisecond,
		ReadBackoffMin: 10 * time.Millisecond, ReadBackoffMax: 500 * time.Millisecond,
		IsolationLevel: kafka.ReadCommitted,
	})
	start, _ := p.track.position()
	// Before the first fetch it cannot fail.
	_ = reader.SetOffset(start)
	return reader
}
