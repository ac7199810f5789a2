package doctor

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/tandem-dc/tandem/shared/sqldb"
)

// tableInfo is what the checks of tables need to know of one.
type tableInfo struct {
	db, name     string
	engine, kind string // kind: BASE TABLE, SEQUENCE, SYSTEM VERSIONED
	columns      []columnInfo
	uniques      []uniqueInfo
}

type columnInfo struct {
	name, columnType, charset, collation string
	nullable                             bool
	extra                                string // lower case
}

type uniqueInfo struct {
	name    string
	columns []string
}

func (t *tableInfo) where() string  { return t.db + "." + t.name }
func (t *tableInfo) quoted() string { return sqldb.QuoteTable(t.db, t.name) }

func (t *tableInfo) column(name string) *columnInfo {
	for i := range t.columns {
		if strings.EqualFold(t.columns[i].name, name) {
			return &t.columns[i]
		}
	}
	return nil
}

// own lists the databases that are not the application's.
var own = []string{"mysql", "information_schema", "performance_schema", "sys", markerDatabase}

// markerDatabase holds tandem's ledger, whose rows mark replicated transactions.
const markerDatabase = "tandem"

func (x *exam) prepare(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	var err error
	if x.Server.Flavor == "" {
		if x.Server, err = sqldb.Inspect(ctx, x.DB); err != nil {
			return err
		}
	}
	if x.vars, err = globals(ctx, x.DB); err != nil {
		return err
	}
	return x.readTables(ctx)
}

func globals(ctx context.Context, db *sql.DB) (map[string]string, error) {
	vars := map[string]string{}
	err := query(ctx, db, "SHOW GLOBAL VARIABLES", func(v []string) { vars[strings.ToLower(v[0])] = v[1] })
	if err != nil {
		return nil, fmt.Errorf("read the server's variables: %w", err)
	}
	return vars, nil
}

func (x *exam) readTables(ctx context.Context) error {
	tables := map[[2]string]*tableInfo{}
	var order []*tableInfo
	err := query(ctx, x.DB, `SELECT TABLE_SCHEMA, TABLE_NAME, COALESCE(ENGINE,''), TABLE_TYPE FROM information_schema.TABLES
		WHERE TABLE_TYPE IN ('BASE TABLE','SEQUENCE','SYSTEM VERSIONED') ORDER BY TABLE_SCHEMA, TABLE_NAME`, func(v []string) {
		if x.replicated(v[0]) {
			t := &tableInfo{db: v[0], name: v[1], engine: v[2], kind: v[3]}
			tables[[2]string{v[0], v[1]}] = t
			order = append(order, t)
		}
	})
	if err != nil {
		return fmt.Errorf("list the tables: %w", err)
	}
	err = query(ctx, x.DB, `SELECT TABLE_SCHEMA, TABLE_NAME, COLUMN_NAME, COLUMN_TYPE, COALESCE(CHARACTER_SET_NAME,''), COALESCE(COLLATION_NAME,''), IS_NULLABLE, LOWER(EXTRA)
		FROM information_schema.COLUMNS ORDER BY TABLE_SCHEMA, TABLE_NAME, ORDINAL_POSITION`, func(v []string) {
		if t := tables[[2]string{v[0], v[1]}]; t != nil {
			t.columns = append(t.columns, columnInfo{name: v[2], columnType: v[3], charset: v[4], collation: v[5], nullable: v[6] == "YES", extra: v[7]})
		}
	})
	if err != nil {
		return fmt.Errorf("list the columns: %w", err)
	}
	err = query(ctx, x.DB, `SELECT TABLE_SCHEMA, TABLE_NAME, INDEX_NAME, COALESCE(COLUMN_NAME,'') FROM information_schema.STATISTICS
		WHERE NON_UNIQUE=0 ORDER BY TABLE_SCHEMA, TABLE_NAME, INDEX_NAME<>'PRIMARY', INDEX_NAME, SEQ_IN_INDEX`, func(v []string) {
		t := tables[[2]string{v[0], v[1]}]
		if t == nil {
			return
		}
		if n := len(t.uniques); n == 0 || t.uniques[n-1].name != v[2] {
			t.uniques = append(t.uniques, uniqueInfo{name: v[2]})
		}
		u := &t.uniques[len(t.uniques)-1]
		u.columns = append(u.columns, v[3])
	})
	if err != nil {
		return fmt.Errorf("list the keys: %w", err)
	}
	for _, t := range order {
		x.tables = append(x.tables, *t)
	}
	return nil
}

// replicated reports whether rows of a database are sent.
func (x *exam) replicated(db string) bool {
	if len(x.Databases) > 0 {
		return slices.Contains(x.Databases, db)
	}
	return !slices.Contains(own, strings.ToLower(db))
}

// databases lists what is replicated, by name.
func (x *exam) databases() []string {
	if len(x.Databases) > 0 {
		return x.Databases
	}
	var names []string
	for i := range x.tables {
		if n := len(names); n == 0 || names[n-1] != x.tables[i].db {
			names = append(names, x.tables[i].db)
		}
	}
	return names
}

func (x *exam) mariadb() bool { return x.Server.Flavor == sqldb.MariaDB }

// number reads a variable that holds one, 0 if the server does not have it.
func (x *exam) number(name string) float64 {
	n, _ := strconv.ParseFloat(x.vars[name], 64)
	return n
}

func (x *exam) on(name string) bool {
	v := x.vars[name]
	return strings.EqualFold(v, "ON") || v == "1"
}

// query hands each row to f as text, NULL as "".
func query(ctx context.Context, db *sql.DB, q string, f func(row []string)) (err error) {
	rows, err := db.QueryContext(ctx, q)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	names, err := rows.Columns()
	if err != nil {
		return err
	}
	values := make([]sql.NullString, len(names))
	dest := make([]any, len(names))
	for i := range values {
		dest[i] = &values[i]
	}
	for rows.Next() {
		if err := rows.Scan(dest...); err != nil {
			return err
		}
		row := make([]string, len(names))
		for i := range values {
			row[i] = values[i].String
		}
		f(row)
	}
	return rows.Err()
}
