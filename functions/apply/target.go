package apply

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/tandem-dc/tandem/shared/event"
	"github.com/tandem-dc/tandem/shared/sqldb"
	"github.com/tandem-dc/tandem/shared/tableinfo"
	"github.com/tandem-dc/tandem/shared/writeset"
)

const (
	// A definition is read again after a while, so that new indexes are noticed; a
	// statement that fails makes it be read at once.
	definitionAge = time.Minute
	// maxMappings bounds the layouts of one table that events of several ages have.
	maxMappings = 8
)

// tables holds the definitions of the tables that events write to.
type tables struct {
	db *sql.DB
	mu sync.Mutex
	m  map[tableName]*definition
}

type tableName struct{ db, name string }

func (n tableName) String() string { return n.db + "." + n.name }

type definition struct {
	info     *tableinfo.Table
	loaded   time.Time
	mappings []*mapping
}

func newTables(db *sql.DB) *tables { return &tables{db: db, m: map[tableName]*definition{}} }

// unfit is an event that cannot be applied here as things stand: it is parked
// with this reason.
type unfit struct{ reason string }

func (u *unfit) Error() string { return u.reason }

func unfitf(format string, args ...any) error { return &unfit{fmt.Sprintf(format, args...)} }

// mapping returns how rows of an event's table are written here.
func (t *tables) mapping(ctx context.Context, et *event.Table) (*mapping, error) {
	name := tableName{et.DB, et.Name}
	t.mu.Lock()
	d := t.m[name]
	t.mu.Unlock()
	if d == nil || time.Since(d.loaded) > definitionAge {
		ctx, cancel := context.WithTimeout(ctx, sideTimeout)
		defer cancel()
		info, err := tableinfo.Load(ctx, t.db, et.DB, et.Name)
		if errors.Is(err, tableinfo.ErrNoTable) {
			return nil, unfitf("table %s does not exist here, or the account may not see it", name)
		}
		if err != nil {
			return nil, err
		}
		d = &definition{info: info, loaded: time.Now()}
		t.mu.Lock()
		t.m[name] = d
		t.mu.Unlock()
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, m := range d.mappings {
		if slices.EqualFunc(m.source, et.Columns, sameColumn) {
			return m, nil
		}
	}
	m := newMapping(d.info, et)
	if len(d.mappings) >= maxMappings {
		d.mappings = d.mappings[1:]
	}
	d.mappings = append(d.mappings, m)
	return m, nil
}

// forget makes the definitions of a transaction's tables be read again.
func (t *tables) forget(txn *event.Transaction) {
	if txn == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for i := range txn.Tables {
		delete(t.m, tableName{txn.Tables[i].DB, txn.Tables[i].Name})
	}
}

func sameColumn(a, b event.Column) bool {
	return a.Name == b.Name && a.Type == b.Type && a.Unsigned == b.Unsigned && a.Charset == b.Charset
}

// mapping joins the columns of an event's table to those of the table here, by
// name. It is immutable.
type mapping struct {
	info    *tableinfo.Table
	table   string // quoted
	source  []event.Column
	columns []mapped // one for each of source
	key     []int    // into source: the columns that find a row; nil: keyless says why
	keyless error
	version int      // into source: the column that tells which of two rows is newer; -1: none
	stay    []string // quoted columns that the server would move by itself
	plan    *writeset.Plan
}

type mapped struct {
	name    string // quoted; "" where the table here lacks the column
	write   bool   // false: missing or generated here
	json    bool   // a JSON column of MySQL
	value   string // expression of a parameter as the column's value
	compare string // condition on a before value, with one parameter; "" where it cannot be compared
}

func newMapping(info *tableinfo.Table, et *event.Table) *mapping {
	m := &mapping{
		info: info, table: sqldb.QuoteTable(info.DB, info.Name), source: slices.Clone(et.Columns),
		columns: make([]mapped, len(et.Columns)), version: -1, plan: writeset.NewPlan(info, et.Columns),
	}
	at := make([]int, len(info.Columns)) // of the columns here, where in source
	for i := range at {
		at[i] = -1
	}
	for i := range et.Columns {
		c := info.Column(et.Columns[i].Name)
		if c < 0 {
			continue
		}
		at[c] = i
		m.columns[i] = mapColumn(&et.Columns[i], &info.Columns[c])
	}
	for c := range info.Columns {
		if at[c] < 0 && info.Columns[c].OnUpdateNow {
			m.stay = append(m.stay, sqldb.Quote(info.Columns[c].Name))
		}
	}
	m.findKey(at)
	m.findVersion(at)
	return m
}

func (m *mapping) findKey(at []int) {
	key := m.info.Key()
	if key == nil {
		m.keyless = unfitf("table %s.%s has no primary key and no unique key without NULLs here: add one", m.info.DB, m.info.Name)
		return
	}
	for _, c := range key {
		if at[c] < 0 {
			m.key, m.keyless = nil, unfitf("the key column %s of %s.%s is not in the event", m.info.Columns[c].Name, m.info.DB, m.info.Name)
			return
		}
		m.key = append(m.key, at[c])
	}
}

// findVersion chooses the first column that the server sets at every update,
// one with at least milliseconds before others.
func (m *mapping) findVersion(at []int) {
	for c := range m.info.Columns {
		col := &m.info.Columns[c]
		if !col.OnUpdateNow || at[c] < 0 || col.DataType != "timestamp" && col.DataType != "datetime" {
			continue
		}
		fine := strings.HasSuffix(col.ColumnType, "(3)") || strings.HasSuffix(col.ColumnType, "(4)") ||
			strings.HasSuffix(col.ColumnType, "(5)") || strings.HasSuffix(col.ColumnType, "(6)")
		if fine {
			m.version = at[c]
			return
		}
		if m.version < 0 {
			m.version = at[c]
		}
	}
}

func mapColumn(from *event.Column, to *tableinfo.Column) mapped {
	name := sqldb.Quote(to.Name)
	x := mapped{name: name, write: !to.Generated, value: "?", json: to.DataType == "json"}
	text := name
	switch {
	case x.json:
		// MySQL takes no binary string for JSON.
		x.value = "CONVERT(? USING utf8mb4)"
	case from.Type == event.JSON && to.Charset != "" && to.Charset != "utf8mb4":
		x.value = "CONVERT(? USING utf8mb4)"
	case from.Type.Textual() && to.Charset != "" && differ(from.Charset, to.Charset):
		x.value = "CONVERT(? USING " + from.Charset + ")"
		text = "CONVERT(" + name + " USING " + from.Charset + ")"
	}
	switch {
	case to.Generated || !comparableType(from.Type) || x.json:
	case from.Type.Textual():
		x.compare = "CAST(" + text + " AS BINARY) <=> ?"
	default:
		x.compare = name + " <=> ?"
	}
	return x
}

// differ reports whether bytes of one character set must be converted for the
// other; one that is unknown is left alone.
func differ(from, to string) bool {
	return from != "binary" && charsetName(from) != charsetName(to) && plainName(from)
}

func charsetName(s string) string {
	if s == "utf8" {
		return "utf8mb3"
	}
	return s
}

func plainName(s string) bool {
	for _, c := range []byte(s) {
		if c != '_' && (c < 'a' || c > 'z') && (c < '0' || c > '9') {
			return false
		}
	}
	return s != ""
}
