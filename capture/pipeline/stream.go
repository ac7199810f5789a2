package pipeline

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/tandem-dc/tandem/capture/binlog"
	"github.com/tandem-dc/tandem/capture/publish"
	"github.com/tandem-dc/tandem/shared/event"
	"github.com/tandem-dc/tandem/shared/kafkace"
)

// item numbers and publishes one transaction, or books that there is nothing to
// send up to a position.
func (r *run) item(ctx context.Context, item binlog.Item) error {
	r.applied = item.Applied
	if item.Txn == nil {
		r.progress.passed(item.Position, item.Time)
		r.deps.Metrics.passed(r.cfg.Target, item)
		return nil
	}
	txn := item.Txn
	read, _ := r.progress.points()
	to := point{sequence: read.sequence + 1, position: txn.End, through: later(read.through, txn.CommitTime)}
	m := r.meta(txn, to.sequence)
	data := txn.Payload.AppendJSON(make([]byte, 0, txn.Size+1024))
	r.deps.Metrics.sending(r.cfg.Target, txn, len(data))
	return r.send(ctx, &m, data, to)
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

// meta returns the attributes of a transaction. All but lastcommitted
// depend on the transaction and its number alone, so a re-read repeats them;
// lastcommitted may be stricter after a restart, never laxer than needed.
func (r *run) meta(txn *binlog.Txn, sequence uint64) event.Meta {
	p := &txn.Payload
	m := event.Meta{
		ID: p.GTID, Source: event.Source(r.cfg.DC, p.Server), Type: event.TypeTransaction, Time: txn.CommitTime,
		Origin: r.cfg.DC, Epoch: r.epoch, Sequence: sequence, Applied: txn.Applied,
	}
	if m.ID == "" {
		m.ID = fmt.Sprintf("%s:%s:%d", p.Server, p.File, p.Pos)
	}
	if p.Statement != nil {
		m.Type = event.TypeStatement
		m.Subject = p.Statement.DB
	}
	if m.Subject == "" && len(p.Tables) > 0 {
		m.Subject = p.Tables[0].DB
	}
	m.PartitionKey = m.Subject
	if txn.Barrier {
		m.LastCommitted = r.history.Barrier(sequence)
	} else {
		m.LastCommitted = r.history.Assign(sequence, txn.Keys)
	}
	return m
}

// heartbeat says how far the source was read, after everything read so far. Its
// time is not now but the time up to which the source is known to be read, so
// that a stream which is behind does not look fresh.
func (r *run) heartbeat(ctx context.Context) error {
	to, _ := r.progress.points()
	if to.through.IsZero() {
		return nil
	}
	now := time.Now()
	m := event.Meta{
		ID: fmt.Sprintf("heartbeat-%d-%d", r.epoch, now.UnixMicro()), Source: r.source, Type: event.TypeHeartbeat, Time: to.through,
		Origin: r.cfg.DC, Epoch: r.epoch, Sequence: to.sequence, Applied: r.applied,
	}
	data, err := json.Marshal(event.Heartbeat{GTID: to.position.GTIDSet, File: to.position.File, Pos: to.position.Pos})
	if err != nil {
		return fmt.Errorf("heartbeat: %w", err)
	}
	return r.send(ctx, &m, data, to)
}

func (r *run) send(ctx context.Context, m *event.Meta, data []byte, to point) error {
	want := r.progress.sending(to, time.Now())
	got, err := r.producer.Publish(ctx, publish.Record{ID: m.ID, Message: kafkace.ToMessage(m, data)})
	if err == nil && got != want {
		err = fmt.Errorf("producer counts %d events, the pipeline %d", got, want)
	}
	return err
}
