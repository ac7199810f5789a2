package pipeline

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"time"

	"github.com/tandem-dc/tandem/capture/binlog"
	"github.com/tandem-dc/tandem/shared/sqldb"
)

// MySQL is a Database on a real server.
type MySQL struct {
	cfg binlog.Config
	db  *sql.DB
	log *slog.Logger
}

// NewMySQL returns the Database behind db, whose binlog is read as cfg says.
func NewMySQL(cfg binlog.Config, db *sql.DB, log *slog.Logger) *MySQL {
	return &MySQL{cfg: cfg, db: db, log: log}
}

const queryTimeout = 10 * time.Second

// Open implements Database.
func (m *MySQL) Open(ctx context.Context) (Source, string, error) {
	ctx, cancel := context.WithTimeout(ctx, queryTimeout)
	defer cancel()
	server, err := sqldb.Inspect(ctx, m.db)
	if err != nil {
		return nil, "", fmt.Errorf("mysql %s: %w", m.cfg.MySQL.Addr, err)
	}
	if err := binlog.Check(ctx, m.db); err != nil {
		if sqldb.IsTransient(err) || ctx.Err() != nil {
			return nil, "", fmt.Errorf("mysql %s: %w", m.cfg.MySQL.Addr, err)
		}
		return nil, "", &RefusedError{
			Problem: "the binlog of " + m.cfg.MySQL.Addr + " does not hold what replication needs", Err: err,
			Remedy: "nothing was sent since; capture goes on by itself once the settings are right",
		}
	}
	reader, err := binlog.New(m.cfg, m.log)
	if err != nil {
		return nil, "", err
	}
	id := server.UUID
	if id == "" {
		id = strconv.FormatUint(uint64(server.ID), 10)
	}
	return source{reader}, id, nil
}

// Resolve implements Database: "latest" is the server's position now, "earliest"
// the oldest binlog it still has, "gtid:SET" and "FILE:POS" are what they say.
func (m *MySQL) Resolve(ctx context.Context, start string) (binlog.Position, error) {
	ctx, cancel := context.WithTimeout(ctx, queryTimeout)
	defer cancel()
	switch start {
	case "", "latest":
		return binlog.Current(ctx, m.db)
	case "earliest":
		return m.earliest(ctx)
	}
	p, err := ParseStart(start)
	if err != nil {
		return p, &RefusedError{Problem: err.Error(), Remedy: "correct start"}
	}
	return p, nil
}

// ParseStart reads a start setting that is a position, and returns none for
// "latest" and "earliest".
func ParseStart(start string) (binlog.Position, error) {
	if start == "latest" || start == "earliest" {
		return binlog.Position{}, nil
	}
	if set, ok := strings.CutPrefix(start, "gtid:"); ok && set != "" {
		return binlog.Position{GTIDSet: set}, nil
	}
	if i := strings.LastIndexByte(start, ':'); i > 0 {
		if pos, err := strconv.ParseUint(start[i+1:], 10, 32); err == nil && pos >= 4 {
			return binlog.Position{File: start[:i], Pos: uint32(pos)}, nil
		}
	}
	return binlog.Position{}, fmt.Errorf("start %q is none of latest, earliest, gtid:SET and FILE:POS", start)
}

func (m *MySQL) earliest(ctx context.Context) (binlog.Position, error) {
	server, err := sqldb.Inspect(ctx, m.db)
	if err != nil {
		return binlog.Position{}, err
	}
	if server.Flavor == sqldb.MySQL {
		var purged string
		if err := m.db.QueryRowContext(ctx, "SELECT @@global.gtid_purged").Scan(&purged); err != nil {
			return binlog.Position{}, err
		}
		if set := strings.Join(strings.Fields(purged), ""); set != "" {
			return binlog.Position{GTIDSet: set}, nil
		}
	}
	rows, err := m.db.QueryContext(ctx, "SHOW BINARY LOGS")
	if err != nil {
		return binlog.Position{}, err
	}
	defer rows.Close()
	columns, err := rows.Columns()
	if err != nil {
		return binlog.Position{}, err
	}
	if !rows.Next() {
		return binlog.Position{}, errors.Join(rows.Err(), errors.New("the server has no binlog"))
	}
	p := binlog.Position{Pos: 4}
	dst := make([]any, len(columns))
	for i := range dst {
		dst[i] = new(sql.RawBytes)
	}
	dst[0] = &p.File
	return p, rows.Scan(dst...)
}

// source tells the reader's errors that only people can end from the others.
type source struct{ reader *binlog.Reader }

func (s source) Run(ctx context.Context, from binlog.Position, out chan<- binlog.Item) error {
	err := s.reader.Run(ctx, from, out)
	var stop *binlog.StopError
	if errors.As(err, &stop) {
		return &RefusedError{
			Problem: "the stream cannot go on", Err: err,
			Remedy: "everything before is sent and safe, nothing after was sent or skipped, and capture goes on by itself once this is repaired; " +
				"if the binlog is lost, what was committed in it is missing at the target: copy the data there, " +
				"delete the stream's checkpoint in etcd and set start to the position of that copy",
		}
	}
	return err
}
