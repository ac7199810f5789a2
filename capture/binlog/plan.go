package binlog

import (
	"bytes"
	"fmt"
	"strings"

	"github.com/go-mysql-org/go-mysql/mysql"

	"github.com/tandem-dc/tandem/shared/event"
	"github.com/tandem-dc/tandem/shared/sqldb"
	"github.com/tandem-dc/tandem/shared/tableinfo"
	"github.com/tandem-dc/tandem/shared/writeset"
)

// plan is how the rows of one table are read, for as long as its table map
// stays the same.
type plan struct {
	body     []byte // of the table map, without its id
	use      use
	table    event.Table
	decoders []decoder
	keys     *writeset.Plan
	unsure   string // why keys cannot be told; "" if they can
	shape    string // what keys depend on
}

// use is what is done with the rows of a table.
type use int

const (
	drop   use = iota // not replicated
	send              // replicated
	isMark            // the ledger: tell that the transaction is a replicated one
)

// collation is one row of the server's table of collations.
type collation struct{ charset, name string }

// builder makes plans.
type builder struct {
	flavor     sqldb.Flavor
	collations map[uint64]collation
}

// build makes the plan of a replicated table. info is its live definition, nil if
// there is none now; it may differ from what the table map says.
func (b *builder) build(t *tableMap, info *tableinfo.Table) (*plan, error) {
	p := &plan{use: send, table: event.Table{DB: t.db, Name: t.name}, body: bytes.Clone(t.body)}
	p.table.Columns = make([]event.Column, len(t.columns))
	p.decoders = make([]decoder, len(t.columns))
	differs := b.differs(t, info)
	if !t.names && differs != "" {
		return nil, fmt.Errorf("the binlog does not name the columns of %s.%s, and the live table cannot tell: %s. "+
			"SET PERSIST binlog_row_metadata=FULL (MariaDB: SET GLOBAL and in the option file) at the source; for rows already logged, bring the table back to the definition they were written with, or start behind them",
			t.db, t.name, differs)
	}
	for i := range t.columns {
		live := liveColumn(t, info, i, differs)
		if err := b.column(p, i, &t.columns[i], live, t.signs); err != nil {
			return nil, fmt.Errorf("%s.%s: %w", t.db, t.name, err)
		}
	}
	switch {
	case t.primary != nil:
		p.table.Key = t.primary
	case info != nil && differs == "" && (!t.names || info.Primary() == nil):
		p.table.Key = info.Key()
	}
	p.keys = writeset.ForTable(t.db, t.name)
	if differs != "" {
		p.unsure = differs
	} else {
		p.keys = writeset.NewPlan(info, p.table.Columns)
		p.shape = fmt.Sprintf("%v %v", info.Unique, info.ForeignKeys)
		for i := range info.Columns {
			p.shape += " " + info.Columns[i].Name + " " + info.Columns[i].Collation
		}
	}
	return p, nil
}

func liveColumn(t *tableMap, info *tableinfo.Table, i int, differs string) *tableinfo.Column {
	switch {
	case info == nil:
		return nil
	case differs == "":
		return &info.Columns[i]
	case t.names:
		if at := info.Column(t.columns[i].name); at >= 0 {
			return &info.Columns[at]
		}
	}
	return nil
}

// differs tells in what the live definition is not the one that the rows were
// written with, as far as the table map shows; "" if in nothing.
func (b *builder) differs(t *tableMap, info *tableinfo.Table) string {
	if info == nil {
		return "the table does not exist now"
	}
	if len(info.Columns) != len(t.columns) {
		return fmt.Sprintf("the rows have %d columns, the table now has %d", len(t.columns), len(info.Columns))
	}
	for i := range t.columns {
		m, live := &t.columns[i], &info.Columns[i]
		if t.names && m.name != live.Name {
			return fmt.Sprintf("column %d was called %s and is now %s", i+1, m.name, live.Name)
		}
		if !b.agrees(m, live, t.signs) {
			return fmt.Sprintf("column %s now has the type %s, the rows another", live.Name, live.ColumnType)
		}
	}
	return ""
}

func (b *builder) agrees(m *mapColumn, live *tableinfo.Column, signs bool) bool {
	if signs && m.numeric() && m.unsigned != live.Unsigned {
		return false
	}
	if m.collation != 0 && live.Collation != "" && b.collations[m.collation].charset != live.Charset {
		return false
	}
	if !m.numeric() && strings.HasPrefix(live.DataType, "inet") || live.DataType == "uuid" {
		return m.typ == mysql.MYSQL_TYPE_STRING
	}
	return liveTypes[m.typ][live.DataType]
}

// liveTypes are the SQL types whose rows have a binlog type.
var liveTypes = map[byte]map[string]bool{
	mysql.MYSQL_TYPE_TINY: {"tinyint": true}, mysql.MYSQL_TYPE_SHORT: {"smallint": true}, mysql.MYSQL_TYPE_INT24: {"mediumint": true},
	mysql.MYSQL_TYPE_LONG: {"int": true}, mysql.MYSQL_TYPE_LONGLONG: {"bigint": true}, mysql.MYSQL_TYPE_NEWDECIMAL: {"decimal": true},
	mysql.MYSQL_TYPE_FLOAT: {"float": true}, mysql.MYSQL_TYPE_DOUBLE: {"double": true}, mysql.MYSQL_TYPE_BIT: {"bit": true},
	mysql.MYSQL_TYPE_YEAR: {"year": true}, mysql.MYSQL_TYPE_DATE: {"date": true}, mysql.MYSQL_TYPE_NEWDATE: {"date": true},
	mysql.MYSQL_TYPE_TIME: {"time": true}, mysql.MYSQL_TYPE_TIME2: {"time": true},
	mysql.MYSQL_TYPE_DATETIME: {"datetime": true}, mysql.MYSQL_TYPE_DATETIME2: {"datetime": true},
	mysql.MYSQL_TYPE_TIMESTAMP: {"timestamp": true}, mysql.MYSQL_TYPE_TIMESTAMP2: {"timestamp": true},
	mysql.MYSQL_TYPE_STRING: {"char": true, "binary": true}, mysql.MYSQL_TYPE_VARCHAR: {"varchar": true, "varbinary": true},
	mysql.MYSQL_TYPE_VAR_STRING: {"varchar": true, "varbinary": true},
	mysql.MYSQL_TYPE_BLOB: {"tinytext": true, "text": true, "mediumtext": true, "longtext": true,
		"tinyblob": true, "blob": true, "mediumblob": true, "longblob": true},
	mysql.MYSQL_TYPE_ENUM: {"enum": true}, mysql.MYSQL_TYPE_SET: {"set": true}, mysql.MYSQL_TYPE_JSON: {"json": true},
	mysql.MYSQL_TYPE_VECTOR: {"vector": true},
	mysql.MYSQL_TYPE_GEOMETRY: {"geometry": true, "point": true, "linestring": true, "polygon": true, "multipoint": true,
		"multilinestring": true, "multipolygon": true, "geomcollection": true, "geometrycollection": true},
}
