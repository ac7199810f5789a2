package knative

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/segmentio/kafka-go"
)

// Constants of the dispatcher's two verticles.
const (
	unorderedPollTimeout = 500 * time.Millisecond
	orderedPollTimeout   = 1000 * time.Millisecond
	orderedPollPeriod    = 200 * time.Millisecond
)

// pod is one consumer: the partitions it owns and what it has in flight.
type pod struct {
	*dispatch
	partitions []*partition
	fetched    chan struct{} // holds a token after a record has been fetched
	freed      chan struct{} // holds a token after a delivery has ended
	flying     atomic.Int64
	turn       int // partition to look at first, so that none starves
}

// fetch brings the records of p within reach of polls.
func (o *pod) fetch(p *partition) {
	failing := false
	for {
		msg, err := p.reader.FetchMessage(o.pollCtx)
		if err != nil {
			if o.pollCtx.Err() != nil {
				return
			}
			if !failing {
				failing = true
				o.log.Warn("fetch failed, it is tried until it works", "topic", p.topic, "partition", p.id, "error", err)
			}
			if !sleep(o.pollCtx, 100*time.Millisecond) {
				return
			}
			continue
		}
		failing = false
		select {
		case p.ch <- msg:
		case <-o.pollCtx.Done():
			return
		}
		signal(o.fetched)
	}
}

func signal(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}

func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

type record struct {
	partition *partition
	msg       kafka.Message
}

// poll returns up to max.poll.records of the partitions that take says yes to,
// as soon as there is one; none at the timeout or at the end.
func (o *pod) poll(timeout time.Duration, take func(*partition) bool) []record {
	limit := time.NewTimer(timeout)
	defer limit.Stop()
	for {
		var got []record
		for i := range o.partitions {
			p := o.partitions[(o.turn+i)%len(o.partitions)]
			if take(p) {
				got = drain(p, got, o.o.DataPlane.MaxPollRecords)
			}
		}
		o.turn = (o.turn + 1) % len(o.partitions)
		if len(got) > 0 {
			o.received.Add(uint64(len(got)))
			for i := range got {
				got[i].partition.track.receive(got[i].msg.Offset)
			}
			return got
		}
		select {
		case <-o.fetched:
		case <-limit.C:
			return nil
		case <-o.pollCtx.Done():
			return nil
		}
	}
}

func drain(p *partition, got []record, limit int) []record {
	for len(got) < limit {
		select {
		case msg := <-p.ch:
			got = append(got, record{p, msg})
		default:
			return got
		}
	}
	return got
}

func all(*partition) bool { return true }

// pollUnordered polls whenever fewer than max.poll.records are in flight, and
// sends all that a poll brought at once.
func (o *pod) pollUnordered() {
	for o.pollCtx.Err() == nil {
		if o.flying.Load() >= int64(o.o.DataPlane.MaxPollRecords) {
			select {
			case <-o.freed:
			case <-o.pollCtx.Done():
			}
			continue
		}
		for _, r := range o.poll(unorderedPollTimeout, all) {
			o.begin()
			o.sends.Go(func() {
				defer o.end()
				o.deliver(r.partition, &r.msg)
			})
		}
	}
}

func (o *pod) begin() {
	o.inFlight.Add(1)
	o.noteInFlight(o.flying.Add(1))
}

func (o *pod) end() {
	o.inFlight.Add(-1)
	o.flying.Add(-1)
	signal(o.freed)
}

// pollOrdered polls on a timer, if any partition's queue is empty; each
// partition sends one event at a time.
func (o *pod) pollOrdered() {
	tick := time.NewTicker(orderedPollPeriod)
	defer tick.Stop()
	for {
		if o.anyIdle() {
			for _, r := range o.poll(orderedPollTimeout, (*partition).idle) {
				o.enqueue(r)
			}
			// A tick during a poll does nothing.
			select {
			case <-tick.C:
			default:
			}
		}
		select {
		case <-tick.C:
		case <-o.pollCtx.Done():
			return
		}
	}
}

func (o *pod) anyIdle() bool {
	for _, p := range o.partitions {
		if p.idle() {
			return true
		}
	}
	return false
}

// idle reports whether nothing is queued; an event may be in flight.
func (p *partition) idle() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.queue) == 0
}

func (o *pod) enqueue(r record) {
	p := r.partition
	p.mu.Lock()
	defer p.mu.Unlock()
	p.queue = append(p.queue, r.msg)
	if !p.busy {
		p.busy = true
		o.sends.Go(func() { o.work(p) })
	}
}

// work delivers the queue of p, one by one, until it is empty or polling ends.
func (o *pod) work(p *partition) {
	for {
		p.mu.Lock()
		if len(p.queue) == 0 || o.pollCtx.Err() != nil {
			p.busy, p.queue = false, nil
			p.mu.Unlock()
			return
		}
		msg := p.queue[0]
		p.queue = p.queue[1:]
		p.mu.Unlock()
		o.begin()
		o.deliver(p, &msg)
		o.end()
	}
}
