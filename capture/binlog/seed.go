package binlog

import (
	"context"
	"database/sql"
	"log/slog"

	"github.com/tandem-dc/tandem/shared/ledger"
	"github.com/tandem-dc/tandem/shared/sqldb"
)

// seed is what the ledger held when reading began. It counts as soon as
// reading has come to the place where the ledger stood then; until then
// the marks know only what came by since the position, which may be less.
type seed struct {
	states map[string]ledger.State
	at     Position
	done   bool
}

// newSeed reads the ledger, then the position: what the ledger says was
// committed before it. Without a ledger there is nothing to know.
func newSeed(ctx context.Context, db *sql.DB, f sqldb.Flavor, log *slog.Logger) *seed {
	ctx, cancel := context.WithTimeout(ctx, askLimit)
	defer cancel()
	s := &seed{states: map[string]ledger.State{}, done: true}
	origins, err := ledgerOrigins(ctx, db)
	if err != nil || len(origins) == 0 {
		log.Debug("binlog: no ledger to read", "error", err)
		return s
	}
	for _, origin := range origins {
		if s.states[origin], err = ledger.Read(ctx, db, origin); err != nil {
			log.Warn("binlog: ledger cannot be read", "error", err)
			return s
		}
	}
	if s.at, err = current(ctx, db, f); err != nil {
		log.Warn("binlog: ledger cannot be placed", "error", err)
		return s
	}
	s.done = false
	return s
}

func ledgerOrigins(ctx context.Context, db *sql.DB) (origins []string, err error) {
	rows, err := db.QueryContext(ctx, "SELECT DISTINCT origin FROM "+sqldb.QuoteTable(ledger.Database, ledger.Table))
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var s string
		if err := rows.Scan(&s); err != nil {
			return nil, err
		}
		origins = append(origins, s)
	}
	return origins, rows.Err()
}

// passed books that everything up to the item was read.
func (s *seed) passed(item *Item, m *marks) {
	if s.done || !s.behind(item) {
		return
	}
	s.done = true
	for origin, state := range s.states {
		m.read(origin, state)
	}
}

// behind reports whether an item is at or after the seed. All positions are of
// one server, so its file numbers tell; without a file nothing was read
// since the position that reading began at.
func (s *seed) behind(item *Item) bool {
	p := item.Position
	if p.File == "" {
		return item.Skipped == Idle && p.GTIDSet == s.at.GTIDSet
	}
	if len(p.File) != len(s.at.File) {
		return len(p.File) > len(s.at.File) // binlog.999999 is followed by binlog.1000000
	}
	return p.File > s.at.File || p.File == s.at.File && p.Pos >= s.at.Pos
}
