package apply

import (
	"context"
	"errors"
	"fmt"
	"time"

	ce "github.com/cloudevents/sdk-go/v2/event"
	"github.com/cloudevents/sdk-go/v2/types"

	"github.com/tandem-dc/tandem/shared/event"
	"github.com/tandem-dc/tandem/shared/fnhost"
	"github.com/tandem-dc/tandem/shared/ledger"
)

// Handle takes one event. It returns nil once the event is applied, parked or
// stored, here or before; errors carry fnhost's marks. An event that carries a
// place in a stream is never refused: refusing it would leave a gap.
func (f *Function) Handle(ctx context.Context, e ce.Event) error {
	m, err := event.FromCloudEvent(&e)
	if err != nil {
		return f.refuse(ctx, legible(&e), e.Data(), err)
	}
	if m.Origin == f.cfg.DC {
		f.metrics.count(resultOwn)
		f.log.DebugContext(ctx, "an event of this datacenter came back", "id", m.ID)
		return nil
	}
	s, err := f.stream(ctx, m.Origin)
	if err != nil {
		return f.failed(fmt.Errorf("stream of %s: %w", m.Origin, err))
	}
	if m.Type == event.TypeHeartbeat {
		return f.heartbeat(ctx, s, m)
	}
	f.mu.Lock()
	behind := s.order.epoch < m.Epoch
	f.mu.Unlock()
	if behind {
		if err := f.advance(ctx, s, m.Epoch); err != nil {
			return f.failed(err)
		}
	}
	return f.transaction(ctx, s, m, e.Data())
}

// failed marks an error after which the event shall come again.
func (f *Function) failed(err error) error {
	f.metrics.count(resultFailed)
	return fnhost.Transient(err)
}

// legible is what can be read of the attributes of an event that is refused.
func legible(e *ce.Event) *event.Meta {
	m := event.Meta{ID: e.ID(), Source: e.Source(), Type: e.Type(), Subject: e.Subject(), Time: e.Time()}
	for name, v := range e.Extensions() {
		if s, err := types.Format(v); err == nil {
			_ = m.Set(name, s) // what it cannot read, it leaves out
		}
	}
	return &m
}

// refuse turns away what has no place in any stream.
func (f *Function) refuse(ctx context.Context, m *event.Meta, data []byte, reason error) error {
	f.log.WarnContext(ctx, "event refused", "id", m.ID, "source", m.Source, "type", m.Type, "reason", reason)
	if f.letters != nil {
		ctx, cancel := context.WithTimeout(ctx, f.cfg.Dead.Timeout)
		defer cancel()
		letter := *m
		letter.Reason = reason.Error()
		if err := f.letters.Publish(ctx, letter, data); err != nil {
			return f.failed(fmt.Errorf("%w, and the dead-letter topic cannot be reached: %w", reason, err))
		}
	}
	f.metrics.count(resultRefused)
	return fnhost.Refuse(reason)
}

var errOverloaded = errors.New("too many events wait for their predecessors; this one comes again")

// transaction offers the event to the stream's order and waits for what becomes of it.
func (f *Function) transaction(ctx context.Context, s *stream, m event.Meta, data []byte) error {
	f.mu.Lock()
	o := s.order
	if m.Epoch < o.epoch {
		f.mu.Unlock()
		f.metrics.count(resultStale)
		f.log.WarnContext(ctx, "event of an epoch that is over is dropped", "origin", m.Origin, "epoch", m.Epoch, "sequence", m.Sequence, "now", o.epoch)
		return nil
	}
	s.newest = max(s.newest, m.Sequence)
	j := newJob(s, o, m, data)
	e, fresh := o.offer(m.Sequence, m.LastCommitted, j)
	switch {
	case e == nil:
		f.mu.Unlock()
		f.metrics.count(resultDuplicate)
		return nil
	case !fresh && e.job.stored:
		f.mu.Unlock()
		f.metrics.count(resultDuplicate)
		return nil
	case !fresh:
		j = e.job
	case e.place == placeWaiting && (f.held >= f.cfg.Settings.MaxWaiting || f.bytes+j.size > f.cfg.Settings.MaxWaitBytes):
		o.withdraw(e)
		f.mu.Unlock()
		f.metrics.count(resultOverload)
		return fnhost.Overloaded(errOverloaded)
	default:
		j.entry, j.held = e, true
		f.held++
		f.bytes += j.size
		f.wakeLocked(o)
	}
	j.waiters++
	f.mu.Unlock()
	return f.await(ctx, j)
}

// await waits until the job has ended, or is stored because it has waited too long.
func (f *Function) await(ctx context.Context, j *job) error {
	bound := time.NewTimer(f.cfg.Settings.Wait)
	defer bound.Stop()
	for {
		select {
		case <-j.done:
			return f.verdict(j)
		case <-ctx.Done():
			f.leave(j)
			return f.failed(fmt.Errorf("sequence %d of %s: %w", j.meta.Sequence, j.meta.Origin, context.Cause(ctx)))
		case <-bound.C:
			f.mu.Lock()
			waits, stored := j.entry.place == placeWaiting, j.stored
			// What it waits for is in line here: storing it would only add to the work
			// that the line is long with.
			waits = waits && !j.order.complete(j.entry)
			f.mu.Unlock()
			if stored {
				return nil
			}
			if !waits {
				bound.Reset(f.cfg.Settings.Wait) // a worker has it, or will
				continue
			}
			if err := f.store(ctx, j); err != nil {
				f.leave(j)
				return f.failed(err)
			}
			return nil
		}
	}
}

func (f *Function) verdict(j *job) error {
	if j.err != nil {
		return fnhost.Transient(j.err)
	}
	return nil
}

// leave forgets a job that nobody waits for any more and that cannot run yet.
func (f *Function) leave(j *job) {
	f.mu.Lock()
	defer f.mu.Unlock()
	j.waiters--
	if j.waiters == 0 && !j.stored && j.entry.place == placeWaiting {
		f.dropLocked(j.entry)
		j.order.withdraw(j.entry)
	}
}

// heartbeat notes how far the stream was read at its origin, and when.
func (f *Function) heartbeat(ctx context.Context, s *stream, m event.Meta) error {
	f.mu.Lock()
	if m.Epoch < s.heard.Epoch || m.Epoch == s.heard.Epoch && !m.Time.After(s.heard.Time) {
		f.mu.Unlock()
		return nil
	}
	s.heard = m
	if m.Epoch == s.order.epoch {
		s.newest = max(s.newest, m.Sequence)
		if s.order.low >= m.Sequence {
			f.metrics.observeLag(s, time.Since(m.Time))
		}
	}
	now := time.Now()
	record := now.Sub(s.recorded) >= f.cfg.Settings.Sweep/2
	if record {
		s.recorded = now
	}
	f.mu.Unlock()
	f.metrics.count(resultHeartbeat)
	if !record {
		return nil
	}
	if err := ledger.Heartbeat(ctx, f.side, m.Origin, m.Epoch, m.Sequence, uint64(max(0, m.Time.UnixMicro()))); err != nil {
		return f.failed(err)
	}
	return nil
}
