package knative

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/segmentio/kafka-go"
)

const (
	commitTimeout = 5 * time.Second
	topicPoll     = 100 * time.Millisecond
)

// open connects, finds the partitions and where to begin in each.
func (d *Dispatcher) open(ctx context.Context) (_ *dispatch, err error) {
	client, disconnect, err := d.o.Kafka.Client()
	if err != nil {
		return nil, err
	}
	r := &dispatch{Dispatcher: d, client: client, disconnect: disconnect, dead: noSink{}}
	r.pollCtx, r.stopPoll = context.WithCancel(context.WithoutCancel(ctx))
	r.sendCtx, r.cutOff = context.WithCancel(context.WithoutCancel(ctx))
	r.sink = newHTTPSender(d.o.Sink, d.plan.sink.name(), d.o.DataPlane.MaxPoolSize)
	switch {
	case d.o.DeadLetterURL != nil:
		r.dead = newHTTPSender(d.o.DeadLetterURL, d.plan.dead.name(), d.o.DataPlane.MaxPoolSize)
	case d.o.DeadLetterSink != nil:
		c := d.o.Kafka
		c.Brokers = d.o.DeadLetterSink.brokers()
		if r.dead, err = newTopicSender(c, d.o.DeadLetterSink); err != nil {
			r.dead = noSink{}
		}
	}
	if err == nil {
		err = r.assign(ctx)
	}
	if err != nil {
		return nil, errors.Join(err, r.close())
	}
	return r, nil
}

// assign fills in partitions and pods.
func (r *dispatch) assign(ctx context.Context) error {
	for _, topic := range r.plan.topics {
		n, err := r.partitionCount(ctx, topic)
		if err != nil {
			return err
		}
		starts, err := r.startOffsets(ctx, topic, n)
		if err != nil {
			return err
		}
		for id, start := range starts {
			p := &partition{topic: topic, id: id, track: newTracker(start)}
			p.ch = make(chan kafka.Message, r.o.DataPlane.MaxPollRecords)
			r.partitions = append(r.partitions, p)
		}
	}
	for range min(r.o.Pods, len(r.partitions)) {
		r.pods = append(r.pods, &pod{dispatch: r, fetched: make(chan struct{}, 1), freed: make(chan struct{}, 1)})
	}
	for i, p := range r.partitions {
		pod := r.pods[i%len(r.pods)]
		pod.partitions = append(pod.partitions, p)
	}
	return nil
}

// partitionCount waits until topic exists.
func (r *dispatch) partitionCount(ctx context.Context, topic string) (int, error) {
	for {
		m, err := r.client.Metadata(ctx, &kafka.MetadataRequest{Topics: []string{topic}})
		if err == nil && len(m.Topics) == 1 && m.Topics[0].Error == nil && len(m.Topics[0].Partitions) > 0 {
			return len(m.Topics[0].Partitions), nil
		}
		if err == nil && len(m.Topics) == 1 {
			err = m.Topics[0].Error
		}
		if !sleep(ctx, topicPoll) {
			return 0, fmt.Errorf("topic %s on %v (create it?): %w", topic, r.plan.brokers, errors.Join(context.Cause(ctx), err))
		}
	}
}

// startOffsets returns where to begin in each partition: the committed offset,
// or the initial one, which it commits.
func (r *dispatch) startOffsets(ctx context.Context, topic string, n int) ([]int64, error) {
	ids := make([]int, n)
	requests := make([]kafka.OffsetRequest, n)
	for i := range n {
		ids[i], requests[i] = i, kafka.LastOffsetOf(i)
		if r.plan.earliest {
			requests[i] = kafka.FirstOffsetOf(i)
		}
	}
	committed, err := r.committed(ctx, topic, ids)
	if err != nil {
		return nil, err
	}
	listed, err := r.client.ListOffsets(ctx, &kafka.ListOffsetsRequest{Topics: map[string][]kafka.OffsetRequest{topic: requests}})
	if err != nil {
		return nil, fmt.Errorf("offsets of topic %s: %w", topic, err)
	}
	starts := make([]int64, n)
	initial := map[int]int64{}
	for _, p := range listed.Topics[topic] {
		if p.Error != nil {
			return nil, fmt.Errorf("offsets of topic %s: %w", topic, p.Error)
		}
		starts[p.Partition] = p.LastOffset
		if r.plan.earliest {
			starts[p.Partition] = p.FirstOffset
		}
		if at, ok := committed[p.Partition]; ok {
			starts[p.Partition] = at
		} else {
			initial[p.Partition] = starts[p.Partition]
		}
	}
	return starts, r.commitTopic(ctx, topic, initial)
}

// committed asks for the group's offsets; a coordinator may need a moment.
func (r *dispatch) committed(ctx context.Context, topic string, ids []int) (map[int]int64, error) {
	for {
		res, err := r.client.OffsetFetch(ctx, &kafka.OffsetFetchRequest{GroupID: r.plan.group, Topics: map[string][]int{topic: ids}})
		if err == nil {
			err = res.Error
		}
		found := map[int]int64{}
		if err == nil {
			for _, p := range res.Topics[topic] {
				err = errors.Join(err, p.Error)
				if p.CommittedOffset >= 0 {
					found[p.Partition] = p.CommittedOffset
				}
			}
		}
		if err == nil || errors.Is(err, kafka.GroupIdNotFound) { // some brokers say so until the first commit
			return found, nil
		}
		if k := kafka.Error(0); errors.As(err, &k) && !k.Temporary() || !sleep(ctx, topicPoll) {
			return nil, fmt.Errorf("committed offsets of group %s: %w", r.plan.group, errors.Join(context.Cause(ctx), err))
		}
	}
}

func (r *dispatch) commitLoop() {
	tick := time.NewTicker(r.o.DataPlane.CommitInterval)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-r.pollCtx.Done():
			return
		}
		ctx, cancel := context.WithTimeout(r.pollCtx, commitTimeout)
		err := r.commit(ctx)
		cancel()
		if err != nil && r.pollCtx.Err() == nil {
			r.log.Warn("offsets not committed, the next tick tries again", "error", err)
		}
	}
}

// commit stores how far each partition is finished without a gap.
func (r *dispatch) commit(ctx context.Context) error {
	var errs []error
	for _, topic := range r.plan.topics {
		offsets := map[int]int64{}
		for _, p := range r.partitions {
			if at, ok := p.track.due(); ok && p.topic == topic {
				offsets[p.id] = at
			}
		}
		if err := r.commitTopic(ctx, topic, offsets); err != nil {
			errs = append(errs, err)
			continue
		}
		for _, p := range r.partitions {
			if at, ok := offsets[p.id]; ok && p.topic == topic {
				p.track.setCommitted(at)
			}
		}
	}
	return errors.Join(errs...)
}

func (r *dispatch) commitTopic(ctx context.Context, topic string, offsets map[int]int64) error {
	if len(offsets) == 0 {
		return nil
	}
	var list []kafka.OffsetCommit
	for id, at := range offsets {
		list = append(list, kafka.OffsetCommit{Partition: id, Offset: at})
	}
	// Generation -1 and no member: a group that is used for its offsets only.
	res, err := r.client.OffsetCommit(ctx, &kafka.OffsetCommitRequest{
		GroupID: r.plan.group, GenerationID: -1, Topics: map[string][]kafka.OffsetCommit{topic: list},
	})
	if err == nil {
		for _, p := range res.Topics[topic] {
			err = errors.Join(err, p.Error)
		}
	}
	if err != nil {
		return fmt.Errorf("commit offsets of group %s: %w", r.plan.group, err)
	}
	r.commits.Add(1)
	return nil
}
