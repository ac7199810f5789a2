package pipeline

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/tandem-dc/tandem/capture/binlog"
	"github.com/tandem-dc/tandem/capture/checkpoint"
	"github.com/tandem-dc/tandem/capture/publish"
	"github.com/tandem-dc/tandem/shared/coord"
	"github.com/tandem-dc/tandem/shared/event"
	"github.com/tandem-dc/tandem/shared/kafkaconn"
	"github.com/tandem-dc/tandem/shared/writeset"
)

// readAhead is how many items the reader may be ahead of the encoder. An item
// can be large, so it only evens out the goroutines.
const readAhead = 16

// run is one attempt: from the checkpoint on until something fails.
type run struct {
	*Pipeline
	fence    clientv3.Cmp
	source   string // CloudEvents source for events that have no transaction
	epoch    uint64
	history  *writeset.History
	producer *publish.Producer
	progress *progress
	applied  []event.Mark // what the source had applied of others by the newest item
	loaded   point        // where the attempt began

	saving sync.Mutex
	stored point // what the checkpoint in etcd says
	ended  bool  // the last one is written
}

// attempt carries the stream until something fails or ctx ends. moved reports
// whether the checkpoint did.
func (p *Pipeline) attempt(ctx context.Context, fence clientv3.Cmp) (moved bool, err error) {
	source, server, err := p.deps.Database.Open(ctx)
	if err != nil {
		return false, err
	}
	cp, err := p.begin(ctx, fence)
	if err != nil {
		return false, err
	}
	producer, err := p.newProducer(ctx)
	if err != nil {
		return false, err
	}
	start := point{sequence: cp.Sequence, position: cp.Position}
	r := &run{
		Pipeline: p, fence: fence, source: event.Source(p.cfg.DC, server), epoch: cp.Epoch,
		history: writeset.NewHistory(cp.Sequence, p.cfg.HistoryKeys), producer: producer,
		progress: newProgress(start), loaded: start, stored: start,
	}
	p.state.attach(cp.Epoch, r.progress, producer)
	p.log.Info("stream begins", "epoch", cp.Epoch, "sequence", cp.Sequence, "position", cp.Position)
	err = r.carry(ctx, source)
	return r.stored.differs(r.loaded), err
}

// begin loads the checkpoint, or stores the first one of a new epoch: before any
// event is sent, so that even a stream that dies at once numbers the same way
// when it is read again.
func (p *Pipeline) begin(ctx context.Context, fence clientv3.Cmp) (checkpoint.Checkpoint, error) {
	cp, ok, err := p.store.Load(ctx)
	if err != nil {
		return cp, err
	}
	if ok {
		return p.resume(ctx, fence, cp)
	}
	position, err := p.deps.Database.Resolve(ctx, p.cfg.Start)
	if err != nil {
		return cp, fmt.Errorf("start %q: %w", p.cfg.Start, err)
	}
	cp = checkpoint.Checkpoint{Epoch: uint64(time.Now().UnixMicro()), Position: position, Rules: p.cfg.Rules}
	if err := p.store.Save(ctx, fence, cp); err != nil {
		return cp, err
	}
	p.log.Info("a new stream starts", "start", p.cfg.Start, "epoch", cp.Epoch, "position", position)
	return cp, nil
}

// resume goes on from cp. From here on something may be sent beyond it, which
// it has to say before.
func (p *Pipeline) resume(ctx context.Context, fence clientv3.Cmp, cp checkpoint.Checkpoint) (checkpoint.Checkpoint, error) {
	if cp.Rules != p.cfg.Rules && !cp.Settled {
		return cp, &RefusedError{
			Problem: fmt.Sprintf("the rules of what is sent have changed from %q to %q, and capture did not stop in order before: "+
				"what was sent after its checkpoint would be sent again under other numbers, and the target would take other transactions for repeats", cp.Rules, p.cfg.Rules),
			Remedy: "start it with the rules of before, let it run for a moment, stop it with SIGTERM, and then change them",
		}
	}
	if cp.Rules == p.cfg.Rules && !cp.Settled {
		return cp, nil
	}
	if cp.Rules != p.cfg.Rules {
		p.log.Info("what is sent is decided by other rules from here on", "before", cp.Rules, "now", p.cfg.Rules, "sequence", cp.Sequence)
	}
	cp.Rules, cp.Settled = p.cfg.Rules, false
	return cp, p.store.Save(ctx, fence, cp)
}

const brokerTimeout = 30 * time.Second

func (p *Pipeline) newProducer(ctx context.Context) (*publish.Producer, error) {
	ctx, cancel := context.WithTimeout(ctx, brokerTimeout)
	defer cancel()
	if p.cfg.Partitions > 0 {
		if err := kafkaconn.EnsureTopic(ctx, p.cfg.Kafka, p.cfg.Topic, p.cfg.Partitions, max(1, p.cfg.Replicas)); err != nil {
			return nil, err
		}
	}
	limit, err := kafkaconn.MaxMessageBytes(ctx, p.cfg.Kafka, p.cfg.Topic)
	if err != nil {
		return nil, err
	}
	return publish.New(p.cfg.Publish, publish.Target{
		Dialer: p.dialer, Brokers: p.cfg.Kafka.Brokers, Topic: p.cfg.Topic, MaxMessageBytes: limit,
	}, p.log)
}

// carry runs the parts and ends them in the order of the data. It returns
// the first failure.
func (r *run) carry(ctx context.Context, source Source) error {
	// The producer and the checkpoint outlive ctx: they have to finish what was read.
	work, stopWork := context.WithCancel(context.WithoutCancel(ctx))
	defer stopWork()
	intake, stopIntake := context.WithCancelCause(ctx)
	defer stopIntake(nil)

	var parts sync.WaitGroup
	part := func(f func(context.Context) error) {
		parts.Go(func() {
			if err := f(work); err != nil {
				stopIntake(err)
			}
		})
	}
	part(r.producer.Run)
	part(r.watch)
	part(r.save)

	r.Pipeline.state.set(Running, nil)
	err := r.intake(intake, source)
	if cause := context.Cause(intake); cause != nil {
		err = cause
	}
	if r.cfg.Drain > 0 && !errors.Is(err, coord.ErrLost) && !errors.Is(err, checkpoint.ErrDeposed) {
		drain, cancel := context.WithTimeout(work, r.cfg.Drain)
		defer cancel()
		flushed := r.producer.Flush(drain)
		r.acknowledge()
		if last := r.last(drain, flushed == nil); last != nil || flushed != nil {
			r.log.Warn("not everything was acknowledged before the stop; it will be sent again", "error", errors.Join(flushed, last))
		}
	}
	stopWork()
	parts.Wait()
	return err
}

// intake runs the reader and hands on what it reads until one of them fails.
func (r *run) intake(ctx context.Context, source Source) error {
	ctx, stop := context.WithCancel(ctx)
	items := make(chan binlog.Item, readAhead)
	ended := make(chan error, 1)
	go func() { ended <- source.Run(ctx, r.loaded.position, items) }()
	err := r.forward(ctx, items, ended)
	stop()
	for {
		select {
		case <-items: // the reader may be in the middle of handing over
			continue
		case last := <-ended:
			if err != nil {
				return err
			}
			return last
		}
	}
}

func (r *run) forward(ctx context.Context, items <-chan binlog.Item, ended chan error) error {
	beat := time.NewTicker(r.cfg.Heartbeat)
	defer beat.Stop()
	if err := r.heartbeat(ctx); err != nil {
		return err
	}
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case err := <-ended:
			if err == nil && ctx.Err() == nil {
				err = errors.New("binlog: the reader ended without an error")
			}
			ended <- err
			return r.rest(ctx, items)
		case item := <-items:
			if err := r.item(ctx, item); err != nil {
				return err
			}
		case <-beat.C:
			if err := r.heartbeat(ctx); err != nil {
				return err
			}
		}
	}
}

// rest forwards what the reader had handed over before it failed. Reading it
// again could fail at the same place, and then it would never get out.
func (r *run) rest(ctx context.Context, items <-chan binlog.Item) error {
	for {
		select {
		case item := <-items:
			if err := r.item(ctx, item); err != nil {
				return err
			}
		default:
			return nil
		}
	}
}

// watch books acknowledgements as they come.
func (r *run) watch(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-r.producer.Notify():
			r.acknowledge()
		}
	}
}

func (r *run) acknowledge() {
	now := time.Now()
	r.progress.acked(r.producer.Acked(), func(handed time.Time) { r.deps.Metrics.published(r.cfg.Target, now.Sub(handed)) })
}

// save writes the checkpoint now and then; an etcd that does not answer is
// asked again until the lease is lost.
func (r *run) save(ctx context.Context) error {
	tick := time.NewTicker(r.cfg.SaveEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			if err := r.checkpoint(ctx); errors.Is(err, checkpoint.ErrDeposed) {
				return err
			}
		}
	}
}

// checkpoint stores how far everything is acknowledged, if that is news.
func (r *run) checkpoint(ctx context.Context) error {
	r.saving.Lock()
	defer r.saving.Unlock()
	_, done := r.progress.points()
	if r.ended || !done.differs(r.stored) {
		return nil
	}
	return r.write(ctx, done, false)
}

// last stores the checkpoint of a stream that sends no more; flushed: all that
// it sent is acknowledged.
func (r *run) last(ctx context.Context, flushed bool) error {
	r.saving.Lock()
	defer r.saving.Unlock()
	r.ended = true
	_, done := r.progress.points()
	return r.write(ctx, done, flushed)
}

// write stores done. r.saving is held.
func (r *run) write(ctx context.Context, done point, settled bool) error {
	err := r.store.Save(ctx, r.fence, checkpoint.Checkpoint{
		Epoch: r.epoch, Sequence: done.sequence, Position: done.position, Rules: r.cfg.Rules, Settled: settled,
	})
	if err != nil && ctx.Err() != nil {
		return err
	}
	if first := r.state.stored(time.Now(), err); err != nil && first {
		r.log.Warn("the checkpoint cannot be stored, trying on", "error", err)
	}
	if err == nil {
		r.stored = done
	}
	return err
}
