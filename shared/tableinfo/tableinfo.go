// Package tableinfo answers what a live table looks like now: its columns,
// unique indexes and foreign keys, as the server's information_schema tells.
//
// It knows nothing of the past: rows read from an old binlog may belong to an
// older definition.
package tableinfo

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
)

// ErrNoTable tells that the table does not exist, or that the account may not see it.
var ErrNoTable = errors.New("no such table")

// Table is the definition of a base table.
type Table struct {
	DB          string
	Name        string
	Columns     []Column // in server order, invisible ones included
	Unique      []Index  // the primary key first, the others by name
	ForeignKeys []ForeignKey
}

// Column is one column of a Table.
type Column struct {
	Name          string
	DataType      string // "bigint", "varchar": lower case, without sizes
	ColumnType    string // "bigint(20) unsigned": as the server prints it
	Charset       string // empty unless a character type
	Collation     string // empty unless a character type
	Nullable      bool
	Unsigned      bool
	Generated     bool // computed by the server, virtual or stored: never written
	AutoIncrement bool
	Invisible     bool
	OnUpdateNow   bool    // ON UPDATE CURRENT_TIMESTAMP
	Default       *string // nil: none, or NULL; expressions as the server prints them
}

// Index is a unique index.
type Index struct {
	Name    string
	Primary bool
	// Columns are names; a part that is an expression has the name "".
	Columns []string
	// Prefix holds the length in characters (bytes for binary types) that each
	// part indexes; 0: the whole column.
	Prefix []int
}

// ForeignKey is a reference to another table, or to the same.
type ForeignKey struct {
	Name       string
	Columns    []string
	RefDB      string
	RefTable   string
	RefColumns []string
	OnDelete   string // "RESTRICT", "NO ACTION", "CASCADE", "SET NULL", "SET DEFAULT"
	OnUpdate   string // likewise
}

// Column returns the index of the column of that name, or -1. Column names are
// equal regardless of case.
func (t *Table) Column(name string) int {
	for i := range t.Columns {
		if t.Columns[i].Name == name {
			return i
		}
	}
	for i := range t.Columns {
		if strings.EqualFold(t.Columns[i].Name, name) {
			return i
		}
	}
	return -1
}

// Primary returns the primary key, or nil.
func (t *Table) Primary() *Index {
	if len(t.Unique) > 0 && t.Unique[0].Primary {
		return &t.Unique[0]
	}
	return nil
}

// Identifies reports whether u is the primary key, or covers whole columns that
// are never NULL, so that every row has a value of its own in it.
func (t *Table) Identifies(u *Index) bool {
	for i, name := range u.Columns {
		c := t.Column(name)
		if c < 0 || !u.Primary && (t.Columns[c].Nullable || u.Prefix[i] != 0) {
			return false
		}
	}
	return true
}

// Key returns the columns, as indexes into Columns, of the first unique index
// that Identifies rows; nil: there is none.
func (t *Table) Key() []int {
	for i := range t.Unique {
		if !t.Identifies(&t.Unique[i]) {
			continue
		}
		var key []int
		for _, name := range t.Unique[i].Columns {
			key = append(key, t.Column(name))
		}
		return key
	}
	return nil
}

// Load reads the definition of one table. A table that does not exist is ErrNoTable.
// The account needs SELECT on the table.
func Load(ctx context.Context, db *sql.DB, schema, name string) (*Table, error) {
	t := &Table{DB: schema, Name: name}
	for _, load := range []func(context.Context, *sql.DB) error{t.loadColumns, t.loadUnique, t.loadForeignKeys} {
		if err := load(ctx, db); err != nil {
			return nil, fmt.Errorf("definition of %s.%s: %w", schema, name, err)
		}
		if len(t.Columns) == 0 {
			return nil, fmt.Errorf("definition of %s.%s: %w", schema, name, ErrNoTable)
		}
	}
	return t, nil
}
