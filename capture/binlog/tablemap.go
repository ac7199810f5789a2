package binlog

import (
	"fmt"

	"github.com/go-mysql-org/go-mysql/mysql"
	"github.com/go-mysql-org/go-mysql/replication"

	"github.com/tandem-dc/tandem/shared/sqldb"
)

// Column types that go-mysql has no names for.
const (
	typeBlobCompressed    = 140 // MariaDB's COMPRESSED attribute
	typeVarCharCompressed = 141
)

// tableMap is what a TABLE_MAP event says about a table.
type tableMap struct {
	id       uint64
	db, name string
	columns  []mapColumn
	names    bool  // column names are known: binlog_row_metadata=FULL
	signs    bool  // signedness is known
	primary  []int // indexes of the primary key's columns; nil: none, or not known
	body     []byte
}

// mapColumn is one column of a tableMap.
type mapColumn struct {
	name      string
	typ       byte // the real type: ENUM and SET are told from CHAR
	meta      uint16
	unsigned  bool
	collation uint64 // 0: not known
	labels    [][]byte
}

// parseTableMap reads the body of a TABLE_MAP event. The result refers to body.
func parseTableMap(flavor sqldb.Flavor, body []byte) (*tableMap, error) {
	c := &cursor{b: body}
	t := &tableMap{id: c.little(6)}
	c.take(2) // flags
	t.body = c.b
	t.db = string(c.take(int(c.byte())))
	c.take(1)
	t.name = string(c.take(int(c.byte())))
	c.take(1)
	types := c.take(c.count())
	meta := &cursor{b: c.lenBytes()}
	c.bitmap(len(types)) // which columns may be NULL
	if c.err != nil {
		return nil, fmt.Errorf("table map: %w", c.err)
	}
	t.columns = make([]mapColumn, len(types))
	for i, typ := range types {
		t.columns[i].typ = typ
		if err := t.columns[i].readMeta(meta); err != nil {
			return nil, fmt.Errorf("table map of %s.%s: column %d: %w", t.db, t.name, i+1, err)
		}
	}
	for len(c.b) > 0 && c.err == nil {
		if err := t.optional(flavor, c.byte(), &cursor{b: c.lenBytes()}); err != nil {
			return nil, fmt.Errorf("table map of %s.%s: %w", t.db, t.name, err)
		}
	}
	if c.err != nil {
		return nil, fmt.Errorf("table map of %s.%s: %w", t.db, t.name, c.err)
	}
	return t, nil
}

func (m *mapColumn) readMeta(c *cursor) error {
	switch m.typ {
	case mysql.MYSQL_TYPE_FLOAT, mysql.MYSQL_TYPE_DOUBLE, mysql.MYSQL_TYPE_BLOB, mysql.MYSQL_TYPE_GEOMETRY, mysql.MYSQL_TYPE_JSON,
		mysql.MYSQL_TYPE_VECTOR, mysql.MYSQL_TYPE_TIMESTAMP2, mysql.MYSQL_TYPE_DATETIME2, mysql.MYSQL_TYPE_TIME2, typeBlobCompressed:
		m.meta = uint16(c.little(1))
	case mysql.MYSQL_TYPE_VARCHAR, mysql.MYSQL_TYPE_VAR_STRING, mysql.MYSQL_TYPE_BIT, typeVarCharCompressed:
		m.meta = uint16(c.little(2))
	case mysql.MYSQL_TYPE_NEWDECIMAL:
		m.meta = uint16(c.big(2)) // precision, scale
	case mysql.MYSQL_TYPE_STRING:
		real, n := c.byte(), uint16(c.byte())
		// Widths above 255 bytes borrow two bits of the type, where they
		// stand inverted.
		if real&0x30 != 0x30 {
			n |= (uint16(real&0x30) ^ 0x30) << 4
			real |= 0x30
		}
		m.typ, m.meta = real, n
		switch real {
		case mysql.MYSQL_TYPE_ENUM, mysql.MYSQL_TYPE_SET, mysql.MYSQL_TYPE_STRING:
		default:
			return fmt.Errorf("string type %d is unknown", real)
		}
	case mysql.MYSQL_TYPE_TINY, mysql.MYSQL_TYPE_SHORT, mysql.MYSQL_TYPE_INT24, mysql.MYSQL_TYPE_LONG, mysql.MYSQL_TYPE_LONGLONG,
		mysql.MYSQL_TYPE_YEAR, mysql.MYSQL_TYPE_DATE, mysql.MYSQL_TYPE_NEWDATE,
		mysql.MYSQL_TYPE_TIME, mysql.MYSQL_TYPE_DATETIME, mysql.MYSQL_TYPE_TIMESTAMP:
	default:
		return fmt.Errorf("type %d is unknown: this version of tandem cannot read it", m.typ)
	}
	return c.err
}

func (m *mapColumn) numeric() bool {
	switch m.typ {
	case mysql.MYSQL_TYPE_TINY, mysql.MYSQL_TYPE_SHORT, mysql.MYSQL_TYPE_INT24, mysql.MYSQL_TYPE_LONG, mysql.MYSQL_TYPE_LONGLONG,
		mysql.MYSQL_TYPE_NEWDECIMAL, mysql.MYSQL_TYPE_FLOAT, mysql.MYSQL_TYPE_DOUBLE:
		return true
	}
	return false
}

// character reports whether the table map gives the column a collation among
// those of character columns; MariaDB counts geometries among them.
func (m *mapColumn) character(flavor sqldb.Flavor) bool {
	switch m.typ {
	case mysql.MYSQL_TYPE_STRING, mysql.MYSQL_TYPE_VAR_STRING, mysql.MYSQL_TYPE_VARCHAR, mysql.MYSQL_TYPE_BLOB,
		typeBlobCompressed, typeVarCharCompressed:
		return true
	case mysql.MYSQL_TYPE_GEOMETRY:
		return flavor == sqldb.MariaDB
	}
	return false
}

func (m *mapColumn) enum() bool    { return m.typ == mysql.MYSQL_TYPE_ENUM }
func (m *mapColumn) set() bool     { return m.typ == mysql.MYSQL_TYPE_SET }
func (m *mapColumn) labeled() bool { return m.enum() || m.set() }

// optional reads one field of the optional metadata. Unknown fields are for
// newer readers.
func (t *tableMap) optional(flavor sqldb.Flavor, field byte, c *cursor) error {
	character := func(m *mapColumn) bool { return m.character(flavor) }
	switch field {
	case replication.TABLE_MAP_OPT_META_SIGNEDNESS:
		t.signs = true
		i := 0
		for m := range t.those((*mapColumn).numeric) {
			m.unsigned = bitmap(c.b).hasHigh(i)
			i++
		}
		return nil
	case replication.TABLE_MAP_OPT_META_DEFAULT_CHARSET:
		t.defaultCollation(c, character)
	case replication.TABLE_MAP_OPT_META_COLUMN_CHARSET:
		t.collations(c, character)
	case replication.TABLE_MAP_OPT_META_ENUM_AND_SET_DEFAULT_CHARSET:
		t.defaultCollation(c, (*mapColumn).labeled)
	case replication.TABLE_MAP_OPT_META_ENUM_AND_SET_COLUMN_CHARSET:
		t.collations(c, (*mapColumn).labeled)
	case replication.TABLE_MAP_OPT_META_COLUMN_NAME:
		t.names = true
		for i := range t.columns {
			t.columns[i].name = string(c.lenBytes())
		}
	case replication.TABLE_MAP_OPT_META_ENUM_STR_VALUE:
		t.labels(c, (*mapColumn).enum)
	case replication.TABLE_MAP_OPT_META_SET_STR_VALUE:
		t.labels(c, (*mapColumn).set)
	case replication.TABLE_MAP_OPT_META_SIMPLE_PRIMARY_KEY, replication.TABLE_MAP_OPT_META_PRIMARY_KEY_WITH_PREFIX:
		for len(c.b) > 0 {
			i := c.packed()
			if field == replication.TABLE_MAP_OPT_META_PRIMARY_KEY_WITH_PREFIX {
				c.packed()
			}
			if i >= uint64(len(t.columns)) {
				return fmt.Errorf("primary key names column %d of %d", i+1, len(t.columns))
			}
			t.primary = append(t.primary, int(i))
		}
	}
	return c.err
}

// those yields the columns of a class in order.
func (t *tableMap) those(class func(*mapColumn) bool) func(func(*mapColumn) bool) {
	return func(yield func(*mapColumn) bool) {
		for i := range t.columns {
			if class(&t.columns[i]) && !yield(&t.columns[i]) {
				return
			}
		}
	}
}

// defaultCollation reads one collation for all columns of a class, then
// (number within the class, collation) for those that have another.
func (t *tableMap) defaultCollation(c *cursor, class func(*mapColumn) bool) {
	common := c.packed()
	other := map[int]uint64{}
	for len(c.b) > 0 {
		i := c.packed()
		other[int(i)] = c.packed()
	}
	i := 0
	for m := range t.those(class) {
		m.collation = common
		if id, ok := other[i]; ok {
			m.collation = id
		}
		i++
	}
}

func (t *tableMap) collations(c *cursor, class func(*mapColumn) bool) {
	for m := range t.those(class) {
		m.collation = c.packed()
	}
}

func (t *tableMap) labels(c *cursor, class func(*mapColumn) bool) {
	for m := range t.those(class) {
		m.labels = make([][]byte, c.count())
		for i := range m.labels {
			m.labels[i] = c.lenBytes()
		}
	}
}
