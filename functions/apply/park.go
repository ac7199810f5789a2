package apply

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/tandem-dc/tandem/shared/event"
	"github.com/tandem-dc/tandem/shared/ledger"
	"github.com/tandem-dc/tandem/shared/writeset"
)

// The kinds of a dead letter.
const (
	letterPoison    = "poison"    // it cannot be applied here
	letterBlocked   = "blocked"   // it touches rows of an open one
	letterStatement = "statement" // data that was logged as text
	letterDDL       = "ddl-held"  // to be run by hand
)

const (
	reasonDDL       = "DDL is not replicated: run it on this side, then UPDATE tandem.dead_letter SET state = 'skipped' WHERE id = this one"
	reasonStatement = "data was logged as a statement, which cannot be applied exactly: set binlog_format=ROW at the source, and repair the rows by hand"
	maxReason       = 4000
	keysPerInsert   = 512
)

// letter is what park writes.
type letter struct {
	kind   string
	reason string
	keys   []writeset.Key
}

// letterFor tells how a transaction that failed for good is parked.
func (f *Function) letterFor(ctx context.Context, j *job, err error) letter {
	l := letter{kind: letterPoison, reason: err.Error()}
	var behind *behindLetter
	if errors.As(err, &behind) {
		l.kind = letterBlocked
	}
	l.keys = f.keys(ctx, j.txn)
	return l
}

// held is the letter of an event that is never applied; ok is false for others.
func held(j *job) (l letter, ok bool) {
	switch {
	case j.broken != nil:
		return letter{kind: letterPoison, reason: j.broken.Error()}, true
	case j.txn.Statement != nil && j.txn.Statement.DDL:
		return letter{kind: letterDDL, reason: reasonDDL}, true
	case j.txn.Statement != nil || j.meta.Type == event.TypeStatement:
		return letter{kind: letterStatement, reason: reasonStatement}, true
	}
	return letter{}, false
}

// park claims the job's ledger slot for a dead letter instead of its rows. It
// reports false if the slot was claimed before.
func (f *Function) park(ctx context.Context, s *session, j *job, l letter) (bool, error) {
	if err := s.open(ctx); err != nil {
		return false, err
	}
	claimed, id, err := f.parkIn(ctx, s, j, l)
	if err == nil && claimed {
		err = s.commit(ctx)
	}
	if err != nil || !claimed {
		s.rollback(ctx)
		return false, err
	}
	f.blocked.add(id, l.keys)
	f.announce()
	f.log.ErrorContext(ctx, "event parked as a dead letter", "id", id, "kind", l.kind, "origin", j.meta.Origin, "epoch", j.meta.Epoch,
		"sequence", j.meta.Sequence, "event", j.meta.ID, "reason", l.reason)
	return true, nil
}

func (f *Function) parkIn(ctx context.Context, s *session, j *job, l letter) (claimed bool, id uint64, err error) {
	got, err := ledger.Claim(ctx, s, j.claim())
	if err != nil || !got[0] {
		return false, 0, err
	}
	m := &j.meta
	res, err := s.ExecContext(ctx, `INSERT INTO tandem.dead_letter (origin, epoch, seq, event_id, event_type, source, kind, reason, attrs, payload)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`, m.Origin, m.Epoch, m.Sequence, []byte(clip(m.ID, 255)), []byte(clip(m.Type, 255)), []byte(clip(m.Source, 255)),
		l.kind, []byte(clip(l.reason, maxReason)), encodeAttrs(m), j.data)
	if err != nil {
		return false, 0, fmt.Errorf("write %s.dead_letter: %w", ledger.Database, err)
	}
	last, err := res.LastInsertId()
	if err != nil {
		return false, 0, err
	}
	id = uint64(last)
	for rest := l.keys; len(rest) > 0; {
		n := min(len(rest), keysPerInsert)
		if err := insertKeys(ctx, s, id, rest[:n]); err != nil {
			return false, 0, fmt.Errorf("write %s.dead_letter_key: %w", ledger.Database, err)
		}
		rest = rest[n:]
	}
	return true, id, f.unstore(ctx, s, []*job{j})
}

func insertKeys(ctx context.Context, s *session, id uint64, keys []writeset.Key) error {
	var args []any
	for _, k := range keys {
		args = append(args, k.Index, k.Hash, k.Wild, uint8(k.Mode), id)
	}
	_, err := s.conn.ExecContext(ctx, "INSERT IGNORE INTO tandem.dead_letter_key (index_hash, key_hash, wild, mode, dead_letter_id) VALUES (?, ?, ?, ?, ?)"+
		strings.Repeat(", (?, ?, ?, ?, ?)", len(keys)-1), args...)
	return err
}
