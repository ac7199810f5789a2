package pipeline

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/segmentio/kafka-go"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/tandem-dc/tandem/capture/checkpoint"
	"github.com/tandem-dc/tandem/capture/publish"
	"github.com/tandem-dc/tandem/shared/coord"
	"github.com/tandem-dc/tandem/shared/retry"
)

// Pipeline carries one stream for as long as it runs.
type Pipeline struct {
	cfg    Config
	deps   Deps
	dialer *kafka.Dialer
	store  *checkpoint.Store
	log    *slog.Logger
	state  state
}

// LeaseKey is the etcd key that the active capture of a stream holds.
func LeaseKey(source, target string) string { return "/tandem/capture/" + source + "/" + target }

// Name says which stream it is.
func (p *Pipeline) Name() string { return p.cfg.DC + "-" + p.cfg.Target }

// backoff of attempts that got nowhere.
var backoff = retry.Policy{Min: 200 * time.Millisecond, Max: 5 * time.Second}

// Run waits for the lease and carries the stream until ctx ends, whatever
// fails. It returns nil then.
func (p *Pipeline) Run(ctx context.Context) error {
	for ctx.Err() == nil {
		p.state.set(Standby, nil)
		err := coord.Hold(ctx, p.deps.Etcd, LeaseKey(p.cfg.DC, p.cfg.Target), p.cfg.Holder, p.cfg.LeaseTTL, p.log, p.lead)
		if ctx.Err() == nil {
			p.log.Warn("lease lost, standing by", "error", err)
		}
	}
	p.state.set(Standby, nil)
	return nil
}

// lead makes attempts for as long as the lease is ours.
func (p *Pipeline) lead(ctx context.Context, fence clientv3.Cmp) error {
	defer p.state.set(Standby, nil)
	for failures := 1; ; failures++ {
		p.state.set(Starting, nil)
		moved, err := p.attempt(ctx, fence)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if errors.Is(err, checkpoint.ErrDeposed) {
			return err
		}
		if moved {
			failures = 1
		}
		p.deps.Metrics.restarts(p.cfg.Target)
		wait := backoff.Wait(failures)
		if needsRepair(err) {
			wait = p.cfg.Pause
			p.state.set(Blocked, err)
			p.log.Error("the stream stands until this is repaired", "error", err, "next_attempt_in", wait)
		} else {
			p.state.set(Retrying, err)
			p.log.Warn("the stream failed and starts again from the checkpoint", "error", err, "next_attempt_in", wait)
		}
		if err := pause(ctx, wait); err != nil {
			return err
		}
	}
}

func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-t.C:
		return nil
	}
}

// Ready returns nil while the stream flows or another process carries it, else
// why it does not.
func (p *Pipeline) Ready(context.Context) error {
	p.state.mu.Lock()
	now, reason := p.state.now, p.state.reason
	p.state.mu.Unlock()
	switch now {
	case Standby:
		return nil
	case Running:
		if err := p.trouble(); err != nil {
			return fmt.Errorf("stream to %s: %w", p.cfg.Target, err)
		}
		return nil
	}
	if reason == nil {
		return fmt.Errorf("stream to %s: %s", p.cfg.Target, now)
	}
	return fmt.Errorf("stream to %s: %s: %w", p.cfg.Target, now, reason)
}

// needsRepair tells errors that only people can end from those that pass.
func needsRepair(err error) bool {
	var corrupt *checkpoint.CorruptError
	var refused *RefusedError
	return errors.As(err, &corrupt) || errors.As(err, &refused) || publish.Permanent(err)
}
