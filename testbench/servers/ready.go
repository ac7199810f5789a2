package servers

import (
	"context"
	"fmt"
	"time"
)

// WaitReady calls check until it succeeds, at most for limit. It ends early when
// the child ends or ctx does. The error holds the check's last error and the
// last lines of the child's log.
func (p *Process) WaitReady(ctx context.Context, limit time.Duration, check func(context.Context) error) error {
	err := waitFor(ctx, limit, p.Done(), check)
	if err == nil {
		return nil
	}
	if !p.Running() {
		err = fmt.Errorf("it ended (%v) before it was ready", p.Err())
	}
	return fmt.Errorf("%s: %w; its log %s ends:\n%s", p.cmd.Name, err, p.cmd.Log, p.Tail(20))
}

func waitFor(ctx context.Context, limit time.Duration, ended <-chan struct{}, check func(context.Context) error) error {
	const pause = 15 * time.Millisecond
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	tick := time.NewTicker(pause)
	defer tick.Stop()
	for {
		err := check(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-ended:
			return err
		case <-ctx.Done():
			return fmt.Errorf("not ready (%w), last seen: %w", context.Cause(ctx), err)
		case <-tick.C:
		}
	}
}
