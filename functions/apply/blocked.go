package apply

import (
	"context"
	"database/sql"
	"fmt"
	"sync"

	"github.com/tandem-dc/tandem/shared/event"
	"github.com/tandem-dc/tandem/shared/writeset"
)

// blocked holds the keys of open dead letters: later transactions on them must
// not overtake them. It is a copy of tandem.dead_letter_key that may hold keys of
// letters that were closed since; a hit is checked in the database.
type blocked struct {
	mu    sync.RWMutex
	index map[uint64][]blockedKey // by Key.Index
	size  int

	loading sync.Mutex   // one load at a time
	fresh   bool         // a load is under way
	during  []blockedKey // added since it began: its query may not have seen them
}

type blockedKey struct {
	key    writeset.Key
	letter uint64
}

func newBlocked() *blocked { return &blocked{index: map[uint64][]blockedKey{}} }

// any is cheap and nearly always false.
func (b *blocked) any() bool {
	b.mu.RLock()
	defer b.mu.RUnlock()
	return b.size > 0
}

func (b *blocked) add(letter uint64, keys []writeset.Key) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, k := range keys {
		b.insert(blockedKey{k, letter})
	}
}

// insert needs b.mu.
func (b *blocked) insert(k blockedKey) {
	b.index[k.key.Index] = append(b.index[k.key.Index], k)
	b.size++
	if b.fresh {
		b.during = append(b.during, k)
	}
}

// find returns the letters that keys conflict with, smallest id first.
func (b *blocked) find(keys []writeset.Key) (letters []uint64) {
	b.mu.RLock()
	defer b.mu.RUnlock()
	seen := map[uint64]bool{}
	for _, k := range keys {
		for _, x := range b.index[k.Index] {
			if !seen[x.letter] && k.Conflicts(x.key) {
				seen[x.letter] = true
				letters = append(letters, x.letter)
			}
		}
	}
	return letters
}

// load replaces the copy; what is added meanwhile stays.
func (b *blocked) load(ctx context.Context, db *sql.DB) error {
	b.loading.Lock()
	defer b.loading.Unlock()
	b.begin()
	read, err := b.read(ctx, db)
	b.end(read)
	return err
}

func (b *blocked) begin() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.fresh, b.during = true, nil
}

// end takes over what was read; nil: nothing was.
func (b *blocked) end(read *blocked) {
	b.mu.Lock()
	defer b.mu.Unlock()
	during := b.during
	b.fresh, b.during = false, nil
	if read == nil {
		return
	}
	b.index, b.size = read.index, read.size
	for _, k := range during {
		b.insert(k)
	}
}

func (b *blocked) read(ctx context.Context, db *sql.DB) (*blocked, error) {
	rows, err := db.QueryContext(ctx, `SELECT k.index_hash, k.key_hash, k.wild, k.mode, k.dead_letter_id
FROM tandem.dead_letter d JOIN tandem.dead_letter_key k ON k.dead_letter_id = d.id WHERE d.state = 'open' ORDER BY d.id`)
	if err != nil {
		return nil, fmt.Errorf("read keys of open dead letters: %w", err)
	}
	defer rows.Close()
	fresh := newBlocked()
	for rows.Next() {
		var k writeset.Key
		var letter uint64
		if err := rows.Scan(&k.Index, &k.Hash, &k.Wild, &k.Mode, &letter); err != nil {
			return nil, fmt.Errorf("read keys of open dead letters: %w", err)
		}
		fresh.add(letter, []writeset.Key{k})
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("read keys of open dead letters: %w", err)
	}
	return fresh, nil
}

// keys are those that a transaction touches here. A table that is not known gives
// its wild key, and so does one that is, for the sake of letters from before it was.
func (f *Function) keys(ctx context.Context, txn *event.Transaction) []writeset.Key {
	if txn == nil {
		return nil
	}
	plans := make([]*writeset.Plan, len(txn.Tables))
	var keys []writeset.Key
	for i := range txn.Tables {
		t := &txn.Tables[i]
		plans[i] = writeset.ForTable(t.DB, t.Name)
		if m, err := f.tables.mapping(ctx, t); err == nil {
			plans[i] = m.plan
		}
	}
	for i := range txn.Rows {
		keys = plans[txn.Rows[i].Table].Append(keys, &txn.Rows[i])
	}
	seen := make(map[writeset.Key]bool, len(keys))
	out := keys[:0]
	for _, k := range keys {
		if !seen[k] {
			seen[k] = true
			out = append(out, k)
		}
	}
	return out
}

// behindLetter is a transaction that touches keys of an open dead letter.
type behindLetter struct{ letter uint64 }

func (b *behindLetter) Error() string {
	return fmt.Sprintf("it touches rows of dead letter %d, which is still open: settle that one first", b.letter)
}

// checkBlocked refuses a transaction on keys of a dead letter that is still open.
func (w *writer) checkBlocked(ctx context.Context) error {
	if !w.f.blocked.any() {
		return nil
	}
	keys := w.f.keys(ctx, w.j.txn)
	for i := range w.j.txn.Tables {
		keys = append(keys, writeset.TableKey(w.j.txn.Tables[i].DB, w.j.txn.Tables[i].Name))
	}
	for _, letter := range w.f.blocked.find(keys) {
		open, err := w.open(ctx, letter)
		if err != nil {
			return err
		}
		if open {
			return &behindLetter{letter}
		}
	}
	return nil
}

// open reports whether a dead letter is, and keeps it so until this transaction ends.
func (w *writer) open(ctx context.Context, letter uint64) (bool, error) {
	rows, err := w.s.QueryContext(ctx, "SELECT 1 FROM tandem.dead_letter WHERE id = ? AND state = 'open' FOR UPDATE", letter)
	if err != nil {
		return false, fmt.Errorf("read dead letter %d: %w", letter, err)
	}
	defer rows.Close()
	found := rows.Next()
	return found, rows.Err()
}
