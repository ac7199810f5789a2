package ledger

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"strings"
)

// Execer runs one statement in the caller's transaction. *sql.Tx and *sql.Conn are ones.
type Execer interface {
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
}

// Queryer runs one query; in Claim, in the caller's transaction.
type Queryer interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
}

// Tx is an open transaction, or a connection that holds one.
type Tx interface {
	Execer
	Queryer
}

const (
	claimOne = "UPDATE tandem.ledger SET epoch = ?, seq = ?, gtid = ?, committed_us = ? WHERE origin = ? AND slot = ? AND (epoch < ? OR epoch = ? AND seq < ?)"

	// maxGTID is the width of the column; what is longer is cut: it is read by people only.
	maxGTID = 128
)

// Claim takes the slots of rows, all of one origin and epoch and with distinct
// slots, for the caller's transaction, and tells which it got: one that it did
// not get is applied already, or of an epoch that is over. It writes before
// anything else in the transaction, so that the binlog shows the ledger first.
// The session must count matched rows (clientFoundRows). Rows that another
// transaction is claiming make it wait for that transaction's end.
func Claim(ctx context.Context, tx Tx, rows ...Row) ([]bool, error) {
	switch len(rows) {
	case 0:
		return nil, nil
	case 1:
		r := rows[0]
		res, err := tx.ExecContext(ctx, claimOne, r.Epoch, r.Seq, cut(r.GTID), r.CommittedUS, r.Origin, Slot(r.Seq), r.Epoch, r.Epoch, r.Seq)
		if err != nil {
			return nil, fmt.Errorf("claim ledger slot of %s %d/%d: %w", r.Origin, r.Epoch, r.Seq, err)
		}
		n, err := res.RowsAffected()
		return []bool{n > 0}, err
	}
	got, err := claimMany(ctx, tx, rows)
	if err != nil {
		return nil, fmt.Errorf("claim %d ledger slots of %s %d: %w", len(rows), rows[0].Origin, rows[0].Epoch, err)
	}
	return got, nil
}

// claimMany reads the slots under lock and writes those that are to be had, two
// statements for any number of rows.
func claimMany(ctx context.Context, tx Tx, rows []Row) ([]bool, error) {
	size := roundUp(len(rows))
	args := make([]any, 0, 6*size)
	args = append(args, rows[0].Origin)
	for i := range size {
		args = append(args, Slot(rows[min(i, len(rows)-1)].Seq))
	}
	query := "SELECT slot, epoch, seq FROM tandem.ledger WHERE origin = ? AND slot IN (?" + strings.Repeat(", ?", size-1) + ") ORDER BY slot FOR UPDATE"
	held, err := tx.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	defer held.Close()
	free := make(map[uint32]bool, len(rows))
	bySlot := make(map[uint32]Row, len(rows))
	for _, r := range rows {
		bySlot[Slot(r.Seq)] = r
	}
	for held.Next() {
		var slot uint32
		var epoch, seq uint64
		if err := held.Scan(&slot, &epoch, &seq); err != nil {
			return nil, err
		}
		r := bySlot[slot]
		free[slot] = epoch < r.Epoch || epoch == r.Epoch && seq < r.Seq
	}
	if err := held.Err(); err != nil {
		return nil, err
	}
	if err := held.Close(); err != nil {
		return nil, err
	}
	got := make([]bool, len(rows))
	var take []Row
	for i, r := range rows {
		if got[i] = free[Slot(r.Seq)]; got[i] {
			take = append(take, r)
		}
	}
	return got, write(ctx, tx, take)
}

// write stores rows in their slots. Every slot exists, so this is an update
// whatever it looks like; a repeated row only makes the statement one of few shapes.
func write(ctx context.Context, tx Tx, rows []Row) error {
	if len(rows) == 0 {
		return nil
	}
	size := roundUp(len(rows))
	args := make([]any, 0, 6*size)
	for i := range size {
		r := rows[min(i, len(rows)-1)]
		args = append(args, r.Origin, Slot(r.Seq), r.Epoch, r.Seq, cut(r.GTID), r.CommittedUS)
	}
	_, err := tx.ExecContext(ctx, "INSERT INTO tandem.ledger (origin, slot, epoch, seq, gtid, committed_us) VALUES (?, ?, ?, ?, ?, ?)"+
		strings.Repeat(", (?, ?, ?, ?, ?, ?)", size-1)+
		" ON DUPLICATE KEY UPDATE epoch = VALUES(epoch), seq = VALUES(seq), gtid = VALUES(gtid), committed_us = VALUES(committed_us)", args...)
	return err
}

// roundUp is the next power of two: it bounds how many statements there are to prepare.
func roundUp(n int) int {
	size := 1
	for size < n {
		size *= 2
	}
	return size
}

func cut(gtid string) string { return gtid[:min(len(gtid), maxGTID)] }

// State is what of one origin's stream is applied: everything up to Low, and Done
// above it.
type State struct {
	Epoch uint64 // 0: nothing of this origin has come yet
	Low   uint64
	Done  []uint64 // ascending; all above Low+1 and at most Low+RingSize
	Slots int      // that exist; fewer than RingSize: Fill is still to be called
}

// Read reads the state of an origin's stream.
func Read(ctx context.Context, db Queryer, origin string) (State, error) {
	rows, err := db.QueryContext(ctx, "SELECT slot, epoch, seq FROM tandem.ledger WHERE origin = ?", origin)
	if err != nil {
		return State{}, fmt.Errorf("read ledger of %s: %w", origin, err)
	}
	defer rows.Close()
	var slots []slot
	for rows.Next() {
		var s slot
		if err := rows.Scan(&s.slot, &s.epoch, &s.seq); err != nil {
			return State{}, fmt.Errorf("read ledger of %s: %w", origin, err)
		}
		slots = append(slots, s)
	}
	if err := rows.Err(); err != nil {
		return State{}, fmt.Errorf("read ledger of %s: %w", origin, err)
	}
	return fold(slots), nil
}

type slot struct {
	slot       uint32
	epoch, seq uint64
}

// fold derives the state from the slots: what a slot holds is applied, and so is
// everything that it held before.
func fold(slots []slot) State {
	s := State{Slots: len(slots)}
	for _, x := range slots {
		s.Epoch = max(s.Epoch, x.epoch)
	}
	if s.Epoch == 0 {
		return s
	}
	missing := ^uint64(0) // smallest sequence that is not applied
	for _, x := range slots {
		next := uint64(x.slot)
		if next == 0 {
			next = RingSize
		}
		if x.epoch == s.Epoch && x.seq > 0 {
			next = x.seq + RingSize
		}
		missing = min(missing, next)
	}
	s.Low = missing - 1
	for _, x := range slots {
		if x.epoch == s.Epoch && x.seq > s.Low {
			s.Done = append(s.Done, x.seq)
		}
	}
	slices.Sort(s.Done)
	return s
}

// Fill lays out the ring of an origin, and its row in tandem.stream. It may run
// any number of times.
func Fill(ctx context.Context, db Execer, origin string) error {
	var b strings.Builder
	b.WriteString("INSERT IGNORE INTO tandem.ledger (origin, slot, epoch, seq, gtid, committed_us) VALUES ")
	args := make([]any, RingSize)
	for i := range RingSize {
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, "(?,%d,0,0,'',0)", i)
		args[i] = origin
	}
	if _, err := db.ExecContext(ctx, b.String(), args...); err != nil {
		return fmt.Errorf("lay out ledger of %s: %w", origin, err)
	}
	if _, err := db.ExecContext(ctx, "INSERT IGNORE INTO tandem.stream (origin) VALUES (?)", origin); err != nil {
		return fmt.Errorf("add stream %s: %w", origin, err)
	}
	return nil
}

// Advance ends all epochs of an origin before epoch: from its commit on, nobody
// claims a slot for them, and State starts epoch at 0. It waits for the
// transactions that are claiming slots now.
func Advance(ctx context.Context, db Execer, origin string, epoch uint64) error {
	_, err := db.ExecContext(ctx, "UPDATE tandem.ledger SET epoch = ?, seq = 0, gtid = '', committed_us = 0 WHERE origin = ? AND epoch < ?", epoch, origin, epoch)
	if err != nil {
		return fmt.Errorf("open epoch %d of %s in the ledger: %w", epoch, origin, err)
	}
	return nil
}

// Heartbeat records the newest heartbeat of an origin; an older one changes nothing.
func Heartbeat(ctx context.Context, db Execer, origin string, epoch, seq, us uint64) error {
	_, err := db.ExecContext(ctx, "UPDATE tandem.stream SET epoch = ?, seq = ?, heartbeat_us = ? WHERE origin = ? AND (epoch < ? OR epoch = ? AND heartbeat_us < ?)",
		epoch, seq, us, origin, epoch, epoch, us)
	if err != nil {
		return fmt.Errorf("record heartbeat of %s: %w", origin, err)
	}
	return nil
}
