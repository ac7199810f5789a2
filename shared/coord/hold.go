package coord

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// ErrLost is the cause with which the context of a leader ends when its lease
// may have expired, so that somebody else may lead.
var ErrLost = errors.New("leadership lost")

// MinTTL is the shortest lease that etcd grants with its default settings.
const MinTTL = 2 * time.Second

// Pauses between attempts while etcd does not answer, and the bound of one
// request outside of a lease's lifetime.
const (
	retryPause     = 250 * time.Millisecond
	requestTimeout = 3 * time.Second
)

// Hold campaigns for key and calls run while it leads. At any time at most one
// of those who hold the same key leads, as far as clocks run equally fast; what
// must never be written by two goes into an etcd transaction guarded by fence,
// which compares false for ever once the leadership it was made for is over.
//
// The context that run gets ends when ctx does, and with cause ErrLost as soon
// as the lease may be lost: ttl after the last renewal was sent, less a tenth,
// or when the key is gone. run must then return soon; Hold waits for it and
// campaigns again. If run returns while it leads, Hold gives the key back, so
// that a standby takes over at once, and returns what run returned. Otherwise
// it goes on until ctx ends and returns its cause.
//
// A standby takes over within ttl of a leader's sudden death (and etcd's own
// delay of at most 1 s); when etcd elects a new leader of its own, leases start
// anew. ttl is rounded up to whole seconds, at least MinTTL. id is the value of
// key, for people to see who leads.
func Hold(ctx context.Context, cli *clientv3.Client, key, id string, ttl time.Duration, log *slog.Logger,
	run func(ctx context.Context, fence clientv3.Cmp) error,
) error {
	h := &holder{cli: cli, key: key, id: id, ttl: max(ttl, MinTTL), log: log.With("key", key, "id", id)}
	for {
		l, err := h.campaign(ctx)
		if err != nil {
			return err
		}
		h.log.Info("leading", "revision", l.revision)
		if done, err := h.lead(ctx, l, run); done {
			return err
		}
		h.log.Warn("leadership lost, campaigning again")
	}
}

type holder struct {
	cli     *clientv3.Client
	key, id string
	ttl     time.Duration
	log     *slog.Logger
}

// lease is one term of leadership.
type lease struct {
	id       clientv3.LeaseID
	ttl      time.Duration
	expires  time.Time // when the server may revoke it at the earliest
	revision int64     // at which the key was created
}

// campaign returns once we lead; an error is the end of ctx or of the client.
func (h *holder) campaign(ctx context.Context) (*lease, error) {
	reported := false
	for {
		l, err := h.attempt(ctx)
		if l != nil {
			return l, nil
		}
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		if h.cli.Ctx().Err() != nil {
			return nil, errors.New("etcd client is closed")
		}
		if err == nil {
			reported = false
			continue
		}
		if !reported {
			h.log.Warn("cannot campaign, trying on", "error", err)
			reported = true
		}
		select {
		case <-ctx.Done():
		case <-time.After(retryPause):
		}
	}
}

// attempt waits until the key is free and tries to take it. It returns nil and
// no error when somebody was faster.
func (h *holder) attempt(ctx context.Context) (*lease, error) {
	if err := h.awaitFree(ctx); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	asked := time.Now()
	grant, err := h.cli.Grant(ctx, int64((h.ttl+time.Second-1)/time.Second))
	if err != nil {
		return nil, fmt.Errorf("ask for a lease: %w", err)
	}
	l := &lease{id: grant.ID, ttl: time.Duration(grant.TTL) * time.Second}
	l.expires = asked.Add(l.ttl)
	txn, err := h.cli.Txn(ctx).
		If(clientv3.Compare(clientv3.CreateRevision(h.key), "=", 0)).
		Then(clientv3.OpPut(h.key, h.id, clientv3.WithLease(l.id))).
		Commit()
	if err == nil && txn.Succeeded {
		l.revision = txn.Header.Revision
		return l, nil
	}
	// Unless it is revoked, a put that did go through would hold the key until it expires.
	h.revoke(l)
	if err != nil {
		return nil, fmt.Errorf("take the key: %w", err)
	}
	return nil, nil
}

// awaitFree returns when the key does not exist.
func (h *holder) awaitFree(ctx context.Context) error {
	for {
		res, err := h.look(ctx)
		if err != nil {
			return fmt.Errorf("look who leads: %w", err)
		}
		if len(res.Kvs) == 0 {
			return nil
		}
		h.log.Debug("standing by", "leader", string(res.Kvs[0].Value))
		if err := h.awaitDelete(ctx, res.Header.Revision+1); err != nil {
			return fmt.Errorf("watch the leader: %w", err)
		}
	}
}

func (h *holder) look(ctx context.Context) (*clientv3.GetResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	return h.cli.Get(ctx, h.key)
}

// awaitDelete watches until the key is deleted at or after revision, or until
// it is time for another look: a watch on a connection that died in silence
// tells nothing.
func (h *holder) awaitDelete(ctx context.Context, revision int64) error {
	watch, stop := context.WithTimeout(clientv3.WithRequireLeader(ctx), max(h.ttl, requestTimeout))
	defer stop()
	for w := range h.cli.Watch(watch, h.key, clientv3.WithRev(revision), clientv3.WithFilterPut()) {
		if err := w.Err(); err != nil {
			return err
		}
		if len(w.Events) > 0 {
			return nil
		}
	}
	return nil
}

// lead calls run under the lease. done is false when leadership was lost.
func (h *holder) lead(ctx context.Context, l *lease, run func(context.Context, clientv3.Cmp) error) (done bool, err error) {
	leading, lose := context.WithCancelCause(ctx)
	defer lose(nil)
	kept := make(chan struct{})
	go func() {
		defer close(kept)
		lose(h.keep(leading, l))
	}()
	err = run(leading, clientv3.Compare(clientv3.CreateRevision(h.key), "=", l.revision))
	lost := errors.Is(context.Cause(leading), ErrLost)
	lose(nil)
	<-kept
	h.revoke(l)
	return !lost || ctx.Err() != nil, err
}

// keep renews the lease until ctx ends or the lease may be lost. A term counts
// from when its renewal was sent, because the server counts from later.
func (h *holder) keep(ctx context.Context, l *lease) error {
	margin, pause := l.ttl/10, l.ttl/3
	next := time.NewTimer(pause)
	defer next.Stop()
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-next.C:
		}
		left := time.Until(l.expires) - margin
		if left <= 0 {
			return fmt.Errorf("%w: etcd has not renewed the lease for %v", ErrLost, l.ttl)
		}
		err := h.renew(ctx, l, min(left, pause))
		switch {
		case errors.Is(err, ErrLost):
			return err
		case err != nil:
			h.log.Debug("cannot renew the lease", "error", err, "left", left)
			next.Reset(min(retryPause, max(0, time.Until(l.expires)-margin)))
		default:
			next.Reset(pause)
		}
	}
}

func (h *holder) renew(ctx context.Context, l *lease, within time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	asked := time.Now()
	res, err := h.cli.KeepAliveOnce(ctx, l.id)
	if errors.Is(err, rpctypes.ErrLeaseNotFound) || err == nil && res.TTL <= 0 {
		return fmt.Errorf("%w: the lease has expired", ErrLost)
	}
	if err != nil {
		return err
	}
	l.expires = asked.Add(time.Duration(res.TTL) * time.Second)
	get, err := h.cli.Get(ctx, h.key)
	if err != nil {
		return err
	}
	if len(get.Kvs) == 0 || get.Kvs[0].CreateRevision != l.revision {
		return fmt.Errorf("%w: the key was deleted by somebody else", ErrLost)
	}
	return nil
}

// revoke gives the key back. It is best effort: the lease expires anyway.
func (h *holder) revoke(l *lease) {
	ctx, cancel := context.WithTimeout(h.cli.Ctx(), requestTimeout)
	defer cancel()
	if _, err := h.cli.Revoke(ctx, l.id); err != nil && !errors.Is(err, rpctypes.ErrLeaseNotFound) {
		h.log.Debug("cannot give the lease back, it will expire", "error", err)
	}
}
