package shop

import (
	"context"
	"database/sql"
	"sync"
)

// txn is one transaction of the load: prepared statements, and what to remember
// once it is committed.
type txn struct {
	ctx        context.Context
	tx         *sql.Tx
	stmts      *statements
	statements int
	committed  []func()
}

func (t *txn) exec(query string, args ...any) error {
	t.statements++
	_, err := t.tx.StmtContext(t.ctx, t.stmts.get(query)).ExecContext(t.ctx, args...)
	return err
}

func (t *txn) query(query string, args ...any) (*sql.Rows, error) {
	t.statements++
	return t.tx.StmtContext(t.ctx, t.stmts.get(query)).QueryContext(t.ctx, args...)
}

func (t *txn) onCommit(f func()) { t.committed = append(t.committed, f) }

// statements prepares each text once; database/sql then keeps it per connection.
type statements struct {
	db *sql.DB

	mu sync.RWMutex
	m  map[string]*sql.Stmt // all queries, or nil
}

// ready prepares all queries unless that is done. It takes a connection of its
// own, so it is called while none is held: a pool whose every connection is in a
// transaction would wait for itself.
func (s *statements) ready(ctx context.Context) error {
	s.mu.RLock()
	done := s.m != nil
	s.mu.RUnlock()
	if done {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.m != nil {
		return nil
	}
	m := make(map[string]*sql.Stmt)
	for _, q := range queries() {
		st, err := s.db.PrepareContext(ctx, q)
		if err != nil {
			closeAll(m)
			return err
		}
		m[q] = st
	}
	s.m = m
	return nil
}

// get returns a statement of queries; ready has been called.
func (s *statements) get(query string) *sql.Stmt {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.m[query]
}

func (s *statements) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	closeAll(s.m)
	s.m = nil
}

func closeAll(m map[string]*sql.Stmt) {
	for _, st := range m {
		_ = st.Close() // the pool outlives the load; nothing to do about a failed close
	}
}
