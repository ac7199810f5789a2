package verify

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/tandem-dc/tandem/shared/sqldb"
)

// reader is one side's connection, in one consistent snapshot.
type reader struct {
	side string
	conn *sql.Conn
}

// session makes values arrive unconverted. max_sort_length covers the longest
// key; a keyless table whose rows agree in more bytes than that may be reported
// as different when it is not.
const session = "SET NAMES binary, time_zone='+00:00', max_sort_length=8192, sql_mode=''"

func open(ctx context.Context, s Side) (*reader, error) {
	conn, err := s.DB.Conn(ctx)
	if err != nil {
		return nil, fmt.Errorf("connect to %s: %w", s.Name, err)
	}
	r := &reader{side: s.Name, conn: conn}
	for _, q := range []string{session, "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ", "START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY"} {
		if _, err := conn.ExecContext(ctx, q); err != nil {
			r.close()
			return nil, fmt.Errorf("prepare the connection to %s: %w", s.Name, err)
		}
	}
	return r, nil
}

// close throws the connection away, for its session settings must not reach the pool.
func (r *reader) close() {
	_ = r.conn.Raw(func(any) error { return driver.ErrBadConn })
	_ = r.conn.Close()
}

// own lists the databases that are no user's.
var own = []string{"mysql", "information_schema", "performance_schema", "sys", "tandem"}

func (r *reader) tables(ctx context.Context, databases []string) (map[tableName]*table, error) {
	tables := map[tableName]*table{}
	wanted := func(db string) bool {
		if len(databases) > 0 {
			return slices.Contains(databases, db)
		}
		return !slices.Contains(own, strings.ToLower(db))
	}
	err := r.each(ctx, `SELECT c.TABLE_SCHEMA, c.TABLE_NAME, c.COLUMN_NAME, LOWER(c.DATA_TYPE), c.COLUMN_TYPE, COALESCE(c.COLLATION_NAME,''),
			c.IS_NULLABLE, COALESCE(c.GENERATION_EXPRESSION,'')
		FROM information_schema.COLUMNS c JOIN information_schema.TABLES t USING (TABLE_SCHEMA, TABLE_NAME)
		WHERE t.TABLE_TYPE IN ('BASE TABLE', 'SYSTEM VERSIONED')`, 8, func(v []string) {
		if !wanted(v[0]) {
			return
		}
		n := tableName{v[0], v[1]}
		if tables[n] == nil {
			tables[n] = &table{tableName: n, uniques: map[string][]string{}}
		}
		tables[n].columns = append(tables[n].columns, column{name: v[2], dataType: v[3], columnType: v[4], collation: v[5], nullable: v[6] == "YES", generated: v[7] != ""})
	})
	if err != nil {
		return nil, err
	}
	err = r.each(ctx, `SELECT TABLE_SCHEMA, TABLE_NAME, INDEX_NAME, COALESCE(COLUMN_NAME,'')
		FROM information_schema.STATISTICS WHERE NON_UNIQUE=0 ORDER BY TABLE_SCHEMA, TABLE_NAME, INDEX_NAME, SEQ_IN_INDEX`, 4, func(v []string) {
		if t := tables[tableName{v[0], v[1]}]; t != nil {
			t.uniques[v[2]] = append(t.uniques[v[2]], v[3])
		}
	})
	for _, t := range tables {
		slices.SortFunc(t.columns, func(a, b column) int { return strings.Compare(a.name, b.name) })
		t.chooseKey()
	}
	return tables, err
}

func (r *reader) each(ctx context.Context, query string, columns int, f func([]string)) (err error) {
	rows, err := r.conn.QueryContext(ctx, query)
	if err != nil {
		return fmt.Errorf("read the tables of %s: %w", r.side, err)
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	values := make([]string, columns)
	dest := make([]any, columns)
	for i := range values {
		dest[i] = &values[i]
	}
	for rows.Next() {
		if err := rows.Scan(dest...); err != nil {
			return err
		}
		f(values)
	}
	return rows.Err()
}

// selected is the expression that yields a column's exact value as text or bytes.
func (c *column) selected() string {
	q := sqldb.Quote(c.name)
	switch c.dataType {
	case "float":
		return "(" + q + "*1E0)" // as a double it is printed with all its digits
	case "enum":
		return "CONCAT(CAST(" + q + " AS BINARY),IF(" + q + "+0=0,0x00,''))" // tells the error value from an empty label
	}
	return q
}

// ordered is the expression a key column is sorted by: integers by value, all
// else by bytes, whatever the collation says.
func (c *column) ordered() string {
	if c.integer() {
		return c.selected()
	}
	return "CAST(" + c.selected() + " AS BINARY)"
}

// checksum returns a digest of the table's rows and their number.
func (r *reader) checksum(ctx context.Context, t *table) (digest string, rows int64, err error) {
	parts := make([]string, len(t.columns))
	for i := range t.columns {
		parts[i] = "COALESCE(SHA2(" + t.columns[i].selected() + ",256),'-')"
	}
	row := "SHA2(CONCAT(" + strings.Join(parts, ",") + "),256)" // MySQL 9.6 has no MD5 any more
	half := func(from int) string {
		return fmt.Sprintf("CAST(CONV(SUBSTRING(d,%d,16),16,10) AS UNSIGNED)", from)
	}
	query := "SELECT COUNT(*), CONCAT_WS(' ',BIT_XOR(" + half(1) + "),BIT_XOR(" + half(17) + "),COALESCE(SUM(" + half(1) + "),0)) FROM (SELECT " +
		row + " AS d FROM " + sqldb.QuoteTable(t.db, t.name) + ") AS digests"
	err = r.conn.QueryRowContext(ctx, query).Scan(&rows, &digest)
	return digest, rows, err
}

// stream reads a table in key order.
type stream struct {
	rows *sql.Rows
	row  []sql.RawBytes // valid until next
	dest []any
	err  error
}

// stream reads t with the columns and key of like, so that both sides agree.
func (r *reader) stream(ctx context.Context, t, like *table) (*stream, error) {
	columns := make([]string, len(like.columns))
	for i := range like.columns {
		columns[i] = like.columns[i].selected()
	}
	order := make([]string, len(like.key))
	for i, k := range like.key {
		order[i] = like.columns[k].ordered()
	}
	rows, err := r.conn.QueryContext(ctx, "SELECT "+strings.Join(columns, ",")+" FROM "+sqldb.QuoteTable(t.db, t.name)+" ORDER BY "+strings.Join(order, ","))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", r.side, err)
	}
	s := &stream{rows: rows, row: make([]sql.RawBytes, len(columns)), dest: make([]any, len(columns))}
	for i := range s.row {
		s.dest[i] = &s.row[i]
	}
	return s, nil
}

func (s *stream) next() bool {
	if s.err != nil || !s.rows.Next() {
		s.err = errors.Join(s.err, s.rows.Err())
		return false
	}
	s.err = s.rows.Scan(s.dest...)
	return s.err == nil
}

func (s *stream) close() error { return s.rows.Close() }
