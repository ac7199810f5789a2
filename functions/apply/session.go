package apply

import (
	"container/list"
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"time"
)

const (
	// maxStatements bounds the prepared statements of one connection; the server's
	// max_prepared_stmt_count (16382) is shared by all.
	maxStatements = 256
	// A connection is replaced after a while, so that a worker finds the new primary
	// behind an address that moved.
	maxSessionAge = 15 * time.Minute
	endTimeout    = 5 * time.Second // for a rollback or a close
)

// session is one connection that a worker keeps, with its prepared statements.
// It runs with autocommit off: the first statement opens a transaction, which
// commit or rollback ends.
type session struct {
	db      *sql.DB
	conn    *sql.Conn
	opened  time.Time
	cache   map[string]*list.Element
	recent  *list.List // of *prepared, most recently used first
	lenient bool       // sql_mode is lenientMode now
}

type prepared struct {
	query string
	stmt  *sql.Stmt
}

func newSession(db *sql.DB) *session { return &session{db: db} }

// open makes sure that there is a connection.
func (s *session) open(ctx context.Context) error {
	if s.conn != nil && time.Since(s.opened) < maxSessionAge {
		return nil
	}
	s.close()
	conn, err := s.db.Conn(ctx)
	if err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	// Each statement sees what is committed, and no gap is locked: the events of
	// one stream that run at once never touch the same row.
	if _, err := conn.ExecContext(ctx, "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED"); err != nil {
		return errors.Join(fmt.Errorf("set up session: %w", err), conn.Close())
	}
	*s = session{db: s.db, conn: conn, opened: time.Now(), cache: map[string]*list.Element{}, recent: list.New()}
	return nil
}

// close gives the connection back, without its prepared statements.
func (s *session) close() {
	if s.conn == nil {
		return
	}
	for e := s.recent.Front(); e != nil; e = e.Next() {
		_ = e.Value.(*prepared).stmt.Close()
	}
	// A fresh one starts with known settings.
	_ = s.conn.Raw(func(any) error { return driver.ErrBadConn })
	_ = s.conn.Close()
	s.conn, s.cache, s.recent = nil, nil, nil
}

func (s *session) commit(ctx context.Context) error {
	_, err := s.conn.ExecContext(ctx, "COMMIT")
	return err
}

// rollback ends the transaction even when ctx has ended; a connection on which
// that fails is dropped, which has the same effect.
func (s *session) rollback(ctx context.Context) {
	if s.conn == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), endTimeout)
	defer cancel()
	if _, err := s.conn.ExecContext(ctx, "ROLLBACK"); err != nil {
		s.close()
		return
	}
	if err := s.strict(ctx); err != nil {
		s.close()
	}
}

// prepare returns the statement for query, from the cache or new.
func (s *session) prepare(ctx context.Context, query string) (*sql.Stmt, error) {
	if e := s.cache[query]; e != nil {
		s.recent.MoveToFront(e)
		return e.Value.(*prepared).stmt, nil
	}
	stmt, err := s.conn.PrepareContext(ctx, query)
	if err != nil {
		return nil, err
	}
	s.cache[query] = s.recent.PushFront(&prepared{query, stmt})
	if s.recent.Len() > maxStatements {
		old := s.recent.Remove(s.recent.Back()).(*prepared)
		delete(s.cache, old.query)
		_ = old.stmt.Close()
	}
	return stmt, nil
}

// ExecContext runs a prepared statement.
func (s *session) ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error) {
	stmt, err := s.prepare(ctx, query)
	if err != nil {
		return nil, err
	}
	return stmt.ExecContext(ctx, args...)
}

// QueryContext runs a prepared query.
func (s *session) QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error) {
	stmt, err := s.prepare(ctx, query)
	if err != nil {
		return nil, err
	}
	return stmt.QueryContext(ctx, args...)
}

// relax lets the next statements store index 0 of an ENUM; strict ends that.
func (s *session) relax(ctx context.Context) error {
	_, err := s.conn.ExecContext(ctx, "SET SESSION sql_mode = '"+lenientMode+"'")
	s.lenient = err == nil
	return err
}

func (s *session) strict(ctx context.Context) error {
	if !s.lenient {
		return nil
	}
	_, err := s.conn.ExecContext(ctx, "SET SESSION sql_mode = '"+sqlMode+"'")
	s.lenient = err != nil
	return err
}

// affected runs a statement that changes rows and tells how many it matched.
func (s *session) affected(ctx context.Context, query string, args []any) (int64, error) {
	res, err := s.ExecContext(ctx, query, args...)
	if err != nil {
		return 0, err
	}
	return res.RowsAffected()
}
