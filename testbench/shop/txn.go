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
	s, err := t.stmts.get(t.ctx, query)
	if err != nil {
		return err
	}
	t.statements++
	_, err = t.tx.StmtContext(t.ctx, s).ExecContext(t.ctx, args...)
	return err
}

func (t *txn) query(query string, args ...any) (*sql.Rows, error) {
	s, err := t.stmts.get(t.ctx, query)
	if err != nil {
		return nil, err
	}
	t.statements++
	return t.tx.StmtContext(t.ctx, s).QueryContext(t.ctx, args...)
}

func (t *txn) onCommit(f func()) { t.committed = append(t.committed, f) }

// statements prepares each text once; database/sql then keeps it per connection.
type statements struct {
	db *sql.DB

	mu sync.Mutex
	m  map[string]*sql.Stmt
}

func (s *statements) get(ctx context.Context, query string) (*sql.Stmt, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if st := s.m[query]; st != nil {
		return st, nil
	}
	st, err := s.db.PrepareContext(ctx, query)
	if err != nil {
		return nil, err
	}
	if s.m == nil {
		s.m = make(map[string]*sql.Stmt)
	}
	s.m[query] = st
	return st, nil
}

func (s *statements) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, st := range s.m {
		_ = st.Close() // the pool outlives the load; nothing to do about a failed close
	}
	s.m = nil
}
