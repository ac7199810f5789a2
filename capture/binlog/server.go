package binlog

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"

	"github.com/tandem-dc/tandem/shared/sqldb"
)

// Current returns the position after the newest transaction of the server.
func Current(ctx context.Context, db *sql.DB) (Position, error) {
	server, err := sqldb.Inspect(ctx, db)
	if err != nil {
		return Position{}, err
	}
	return current(ctx, db, server.Flavor)
}

func current(ctx context.Context, db *sql.DB, f sqldb.Flavor) (Position, error) {
	p, set, err := binlogStatus(ctx, db)
	if err != nil {
		return Position{}, fmt.Errorf("ask the server for its binlog position: %w", err)
	}
	if f == sqldb.MariaDB {
		var s sql.NullString
		if err := db.QueryRowContext(ctx, "SELECT BINLOG_GTID_POS(?, ?)", p.File, p.Pos).Scan(&s); err != nil {
			return Position{}, fmt.Errorf("ask the server for the GTIDs at its binlog position: %w", err)
		}
		set = s.String
	}
	if strings.TrimSpace(set) == "" {
		return p, nil
	}
	parsed, err := parseGTIDSet(f, set)
	if err != nil {
		return p, nil // tags: the file and position do
	}
	p.GTIDSet = parsed.String()
	return p, nil
}

// binlogStatus asks with the words of MySQL 8.2 and later, else with the older ones.
func binlogStatus(ctx context.Context, db *sql.DB) (Position, string, error) {
	rows, err := db.QueryContext(ctx, "SHOW BINARY LOG STATUS")
	if err != nil {
		if rows, err = db.QueryContext(ctx, "SHOW MASTER STATUS"); err != nil {
			return Position{}, "", err
		}
	}
	defer rows.Close()
	columns, err := rows.Columns()
	if err != nil {
		return Position{}, "", err
	}
	if !rows.Next() {
		return Position{}, "", errors.Join(rows.Err(), errors.New("the server writes no binlog: set log_bin and restart it"))
	}
	var p Position
	var set string
	dst := make([]any, len(columns))
	for i, name := range columns {
		switch strings.ToLower(name) {
		case "file":
			dst[i] = &p.File
		case "position":
			dst[i] = &p.Pos
		case "executed_gtid_set":
			dst[i] = &set
		default:
			dst[i] = new(sql.RawBytes)
		}
	}
	if err := rows.Scan(dst...); err != nil {
		return Position{}, "", err
	}
	return p, set, rows.Err()
}

// Check returns an error that says what to change if the server does not log
// what replication needs. It looks at global settings only: a session may still
// have its own.
func Check(ctx context.Context, db *sql.DB) error {
	var on bool
	var format, image string
	err := db.QueryRowContext(ctx, "SELECT @@global.log_bin, @@global.binlog_format, @@global.binlog_row_image").Scan(&on, &format, &image)
	if err != nil {
		return fmt.Errorf("ask the server for its binlog settings: %w", err)
	}
	var errs []error
	if !on {
		errs = append(errs, errors.New("log_bin is OFF: nothing can be read; set log_bin in the server's option file and restart it"))
	}
	if !strings.EqualFold(format, "ROW") {
		errs = append(errs, fmt.Errorf("binlog_format is %s: statements cannot be replayed exactly; SET GLOBAL binlog_format=ROW, also in the option file, and let sessions reconnect", format))
	}
	if !strings.EqualFold(image, "FULL") {
		errs = append(errs, fmt.Errorf("binlog_row_image is %s: conflicts cannot be told without whole rows; SET GLOBAL binlog_row_image=FULL, also in the option file, and let sessions reconnect", image))
	}
	return errors.Join(errs...)
}

// loadCollations reads which character set and collation each id stands for;
// ids differ between the flavours.
func loadCollations(ctx context.Context, db *sql.DB, f sqldb.Flavor) (map[uint64]collation, error) {
	queries := []string{"SELECT id, character_set_name, collation_name FROM information_schema.collations WHERE id IS NOT NULL"}
	if f == sqldb.MariaDB {
		// Its newer collations serve several character sets and have an id in each.
		queries = append([]string{"SELECT id, character_set_name, full_collation_name FROM information_schema.collation_character_set_applicability WHERE id IS NOT NULL"}, queries...)
	}
	var errs []error
	for _, q := range queries {
		m, err := scanCollations(ctx, db, q)
		if err == nil {
			return m, nil
		}
		errs = append(errs, err)
	}
	return nil, fmt.Errorf("ask the server for its collations: %w", errors.Join(errs...))
}

func scanCollations(ctx context.Context, db *sql.DB, query string) (map[uint64]collation, error) {
	rows, err := db.QueryContext(ctx, query)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	m := map[uint64]collation{}
	for rows.Next() {
		var id uint64
		var c collation
		if err := rows.Scan(&id, &c.charset, &c.name); err != nil {
			return nil, err
		}
		m[id] = c
	}
	return m, rows.Err()
}
