package publish

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/segmentio/kafka-go"
)

// ErrStopped is returned by Publish and Flush once Run has ended.
var ErrStopped = errors.New("publish: stopped")

// Record is one event on its way. ID is for error messages only.
type Record struct {
	ID      string
	Message kafka.Message // Topic, Partition and Time are set by the Producer
}

// Producer sends records until the broker has acknowledged them.
//
// Lifecycle: New, Run in a goroutine, Publish from one goroutine, Flush, end
// Run's context.
type Producer struct {
	cfg     Config
	to      Target
	codec   kafka.CompressionCodec
	log     *slog.Logger
	leaders *leaders
	notify  chan struct{}

	mu       sync.Mutex
	work     sync.Cond // an idle connection may have something to do
	room     sync.Cond // the frontier moved, or there is no hope
	queue    queue
	armed    time.Time // when the pending wake-up call comes
	ended    error     // why Run ended, nil while it may run
	links    int
	trouble  error     // the newest failure since the last acknowledgement
	reported time.Time // when trouble was logged last
}

// Run sends until ctx ends (nil) or the broker refuses for good (why). What was
// not acknowledged by then may or may not be in the log.
func (p *Producer) Run(ctx context.Context) error {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	defer context.AfterFunc(ctx, p.wakeAll)()
	var wg sync.WaitGroup
	for i := range p.cfg.Connections {
		wg.Go(func() {
			if err := p.worker(ctx, i); err != nil {
				stop(err)
			}
		})
	}
	wg.Wait()
	p.mu.Lock()
	defer p.mu.Unlock()
	err := p.ended
	if err == nil {
		p.ended = ErrStopped
	}
	p.work.Broadcast()
	p.room.Broadcast()
	return err
}

// Publish queues r and returns its index, counted from 1. It blocks while too
// much is in flight.
func (p *Producer) Publish(ctx context.Context, r Record) (uint64, error) {
	size := frame(&r.Message)
	p.mu.Lock()
	defer p.mu.Unlock()
	err := p.until(ctx, func() bool { return p.queue.hasRoom(size) })
	if err != nil {
		return 0, err
	}
	index := p.queue.push(record{id: r.ID, msg: r.Message, size: size, queued: time.Now()})
	p.work.Signal()
	return index, nil
}

// Flush waits until everything published so far is acknowledged.
func (p *Producer) Flush(ctx context.Context) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	goal := p.queue.last
	return p.until(ctx, func() bool { return p.queue.frontier >= goal })
}

// until waits for cond, which changes only with room. p.mu is held.
func (p *Producer) until(ctx context.Context, cond func() bool) error {
	if cond() && p.ended == nil {
		return nil
	}
	defer context.AfterFunc(ctx, p.wakeAll)()
	for {
		switch {
		case p.ended != nil:
			return p.ended
		case cond():
			return nil
		case ctx.Err() != nil:
			return context.Cause(ctx)
		}
		p.room.Wait()
	}
}

func (p *Producer) wakeAll() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.work.Broadcast()
	p.room.Broadcast()
}

// Acked returns the newest index up to which every record is acknowledged.
func (p *Producer) Acked() uint64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.queue.frontier
}

// Notify receives after Acked has moved; several moves may share one value.
func (p *Producer) Notify() <-chan struct{} { return p.notify }

// Stats is a snapshot for humans and gauges.
type Stats struct {
	Connections int   `json:"connections"`
	InFlight    int   `json:"in_flight"`
	Bytes       int64 `json:"in_flight_bytes"`
}

// Stats returns what is open and in flight now.
func (p *Producer) Stats() Stats {
	p.mu.Lock()
	defer p.mu.Unlock()
	return Stats{p.links, int(p.queue.last - p.queue.frontier), p.queue.bytes}
}

// Healthy returns nil if the newest attempt to reach the broker worked, else
// what is wrong.
func (p *Producer) Healthy() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.ended != nil:
		return p.ended
	case p.trouble != nil:
		return p.trouble
	case p.links == 0:
		return fmt.Errorf("topic %s: no connection is open yet", p.to.Topic)
	}
	return nil
}

// worker keeps one connection open and busy. It returns nil when ctx ends.
func (p *Producer) worker(ctx context.Context, id int) error {
	var fresh time.Time
	for ctx.Err() == nil {
		var l *link
		// One attempt is a connection and the first batch over it, so that a broker
		// which accepts connections but no batch is met with longer and longer pauses.
		err := p.to.Backoff.Do(ctx, func(ctx context.Context) error {
			var err error
			if l, err = p.connect(ctx, id, fresh); err == nil {
				p.opened(l)
				if err = p.serve(ctx, l, true); err == nil {
					return nil
				}
				p.closed(l)
			}
			fresh = time.Now()
			return p.failed(ctx, err)
		})
		if err != nil {
			break
		}
		err = p.serve(ctx, l, false)
		p.closed(l)
		fresh = time.Now()
		if p.failed(ctx, err) != nil && Permanent(err) {
			break
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.ended
}

// serve sends batches over l until one fails, or with once until one succeeds.
func (p *Producer) serve(ctx context.Context, l *link, once bool) error {
	for {
		b, messages := p.next(ctx)
		if b == nil {
			return context.Cause(ctx)
		}
		err := p.check(b)
		if err == nil {
			err = l.send(messages, p.codec, p.cfg.WriteTimeout)
		}
		if err = p.settle(b, err); err != nil {
			return err
		}
		if once {
			return nil
		}
	}
}
