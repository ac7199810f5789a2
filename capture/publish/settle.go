package publish

import (
	"context"
	"errors"
	"time"

	"github.com/segmentio/kafka-go"

	"github.com/tandem-dc/tandem/shared/retry"
)

// How often a failure that lasts is logged again.
const reportEvery = 10 * time.Second

// next waits for something to send; nil when ctx ends.
func (p *Producer) next(ctx context.Context) (*batch, []kafka.Message) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for ctx.Err() == nil {
		now := time.Now()
		b, again := p.queue.take(now)
		if b != nil {
			if len(p.queue.waiting)+len(p.queue.retry) > 0 {
				p.work.Signal()
			}
			return b, messages(b, now)
		}
		p.arm(now, again)
		p.work.Wait()
	}
	return nil, nil
}

// arm has an idle connection woken after d, unless an earlier call is pending.
func (p *Producer) arm(now time.Time, d time.Duration) {
	at := now.Add(d)
	if d == 0 || !p.armed.IsZero() && !p.armed.After(at) {
		return
	}
	p.armed = at
	time.AfterFunc(d, func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.armed.Equal(at) {
			p.armed = time.Time{}
		}
		p.work.Signal()
	})
}

// messages copies the batch for one attempt. All carry the time of sending:
// the broker ages its log by it, and a commit time would expire what was
// sent late.
func messages(b *batch, now time.Time) []kafka.Message {
	out := make([]kafka.Message, len(b.records))
	for i := range b.records {
		out[i] = b.records[i].msg
		out[i].Time, out[i].Topic, out[i].Partition = now, "", 0
	}
	return out
}

// check refuses what the broker is known to refuse; a compressed record may be
// smaller than it looks.
func (p *Producer) check(b *batch) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if b.acked || len(b.records) > 1 || p.codec != nil || p.to.MaxMessageBytes == 0 {
		return nil
	}
	if batchOverhead+content(&b.records[0].msg) > p.to.MaxMessageBytes {
		return kafka.MessageSizeTooLarge
	}
	return nil
}

// settle books the outcome of one attempt. Its error means that the connection
// must not be used again: kafka-go leaves the rest of a refusal unread.
func (p *Producer) settle(b *batch, err error) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case err == nil:
		if p.queue.ack(b, time.Now()) {
			p.room.Broadcast()
			select {
			case p.notify <- struct{}{}:
			default:
			}
		}
		p.recovered()
	case tooLarge(err) && b.first != b.last:
		p.queue.split(b)
	case tooLarge(err) && !b.acked:
		r := b.records[0]
		p.queue.fail(b)
		p.end(&SizeError{ID: r.id, Topic: p.to.Topic, Size: batchOverhead + content(&r.msg), Limit: p.to.MaxMessageBytes})
		return p.ended
	default:
		p.queue.fail(b)
		if !errors.Is(err, context.Canceled) {
			p.trouble = explain(err, p.to.Topic)
		}
	}
	p.work.Signal()
	return err
}

func (p *Producer) recovered() {
	if p.trouble != nil && !p.reported.IsZero() {
		p.log.Info("publishing works again", "topic", p.to.Topic)
	}
	p.trouble, p.reported = nil, time.Time{}
}

// end makes err the outcome of Run.
func (p *Producer) end(err error) {
	if p.ended == nil {
		p.ended = err
		p.log.Error("publishing stopped", "topic", p.to.Topic, "error", err)
	}
	p.work.Broadcast()
	p.room.Broadcast()
}

// failed books why a connection could not be opened or was given up, and
// returns err for the backoff.
func (p *Producer) failed(ctx context.Context, err error) error {
	if err == nil || ctx.Err() != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	err = explain(err, p.to.Topic)
	if Permanent(err) {
		p.end(err)
		return retry.Permanent(err)
	}
	if p.links == 0 {
		p.trouble = err
	}
	if p.trouble != nil && time.Since(p.reported) > reportEvery {
		p.reported = time.Now()
		p.log.Warn("publishing fails, trying again", "topic", p.to.Topic, "in_flight", p.queue.last-p.queue.frontier, "error", p.trouble)
	}
	return err
}

func (p *Producer) opened(l *link) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.queue.roundTrip == 0 {
		p.queue.measured(l.roundTrip)
	}
	p.links++
}

func (p *Producer) closed(l *link) {
	l.close()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.links--
}
