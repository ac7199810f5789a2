package binlog

import (
	"fmt"
	"strings"

	"github.com/go-mysql-org/go-mysql/mysql"

	"github.com/tandem-dc/tandem/shared/event"
	"github.com/tandem-dc/tandem/shared/tableinfo"
)

// binaryCollation is the id of the collation "binary" in every server.
const binaryCollation = 63

// column fills in column i of p from the table map and, where that is silent,
// from the live column, which may be nil.
func (b *builder) column(p *plan, i int, m *mapColumn, live *tableinfo.Column, signs bool) error {
	d, c := &p.decoders[i], &p.table.Columns[i]
	d.mapColumn = *m
	c.Name = m.name
	if live != nil && c.Name == "" {
		c.Name = live.Name
	}
	fail := func(format string, args ...any) error {
		return fmt.Errorf("column %s: %w", c.Name, fmt.Errorf(format, args...))
	}
	kind, ok := kinds[m.typ]
	switch {
	case m.typ == typeBlobCompressed || m.typ == typeVarCharCompressed:
		return fail("the COMPRESSED attribute of MariaDB cannot be replicated: ALTER TABLE ... MODIFY the column without it")
	case !ok:
		return fail("type %d is unknown", m.typ)
	}
	if live != nil && !signs {
		d.unsigned = live.Unsigned
	}
	if err := b.character(&kind, m, live, c); err != nil {
		return fail("%w", err)
	}
	switch kind {
	case event.Bit:
		c.Length = m.bits()
	case event.Binary:
		c.Length = int(m.meta)
	case event.Time, event.DateTime, event.Timestamp:
		c.Length = int(m.meta)
		if m.typ == mysql.MYSQL_TYPE_TIME || m.typ == mysql.MYSQL_TYPE_DATETIME || m.typ == mysql.MYSQL_TYPE_TIMESTAMP {
			// The old formats do not say how many fractional digits, and so how many bytes, they have.
			if live == nil || strings.Contains(live.ColumnType, "(") {
				return fail("its rows are in a format older than MySQL 5.6: SET GLOBAL mysql56_temporal_format=ON and ALTER TABLE ... FORCE at the source")
			}
			c.Length = 0
		}
	case event.Vector:
		if live != nil {
			c.Length = vectorBytes(live.ColumnType)
		}
	case event.Enum, event.Set:
		if d.labels == nil {
			if live == nil {
				return fail("the binlog does not hold the labels: SET PERSIST binlog_row_metadata=FULL at the source")
			}
			labels, err := b.liveLabels(live)
			if err != nil {
				return fail("%w", err)
			}
			d.labels = labels
		}
		for _, l := range d.labels {
			c.Labels = append(c.Labels, string(l))
		}
	}
	c.Type, d.kind, c.Unsigned = kind, kind, d.unsigned
	return nil
}

// kinds are the event types of binlog types, for character types the textual one.
var kinds = map[byte]event.Type{
	mysql.MYSQL_TYPE_TINY: event.TinyInt, mysql.MYSQL_TYPE_SHORT: event.SmallInt, mysql.MYSQL_TYPE_INT24: event.MediumInt,
	mysql.MYSQL_TYPE_LONG: event.Int, mysql.MYSQL_TYPE_LONGLONG: event.BigInt, mysql.MYSQL_TYPE_NEWDECIMAL: event.Decimal,
	mysql.MYSQL_TYPE_FLOAT: event.Float, mysql.MYSQL_TYPE_DOUBLE: event.Double, mysql.MYSQL_TYPE_BIT: event.Bit,
	mysql.MYSQL_TYPE_YEAR: event.Year, mysql.MYSQL_TYPE_DATE: event.Date, mysql.MYSQL_TYPE_NEWDATE: event.Date,
	mysql.MYSQL_TYPE_TIME: event.Time, mysql.MYSQL_TYPE_TIME2: event.Time,
	mysql.MYSQL_TYPE_DATETIME: event.DateTime, mysql.MYSQL_TYPE_DATETIME2: event.DateTime,
	mysql.MYSQL_TYPE_TIMESTAMP: event.Timestamp, mysql.MYSQL_TYPE_TIMESTAMP2: event.Timestamp,
	mysql.MYSQL_TYPE_STRING: event.Char, mysql.MYSQL_TYPE_VARCHAR: event.VarChar, mysql.MYSQL_TYPE_VAR_STRING: event.VarChar,
	mysql.MYSQL_TYPE_BLOB: event.Text, mysql.MYSQL_TYPE_ENUM: event.Enum, mysql.MYSQL_TYPE_SET: event.Set,
	mysql.MYSQL_TYPE_JSON: event.JSON, mysql.MYSQL_TYPE_GEOMETRY: event.Geometry, mysql.MYSQL_TYPE_VECTOR: event.Vector,
}

// character settles the character set, and with it whether the column holds
// text or bytes.
func (b *builder) character(kind *event.Type, m *mapColumn, live *tableinfo.Column, c *event.Column) error {
	if !kind.Textual() {
		return nil
	}
	switch {
	case m.collation == binaryCollation:
		c.Charset = "binary"
	case m.collation != 0:
		known, ok := b.collations[m.collation]
		if !ok {
			return fmt.Errorf("collation %d is not in the server's information_schema", m.collation)
		}
		c.Charset = known.charset
	case live != nil:
		c.Charset = live.Charset
		if c.Charset == "" {
			c.Charset = "binary"
		}
	default:
		return fmt.Errorf("the binlog does not tell its character set: SET PERSIST binlog_row_metadata=FULL at the source")
	}
	if c.Charset != "binary" || *kind == event.Enum || *kind == event.Set {
		return nil
	}
	c.Charset = ""
	*kind = map[event.Type]event.Type{event.Char: event.Binary, event.VarChar: event.VarBinary, event.Text: event.Blob}[*kind]
	return nil
}

// vectorBytes reads the width from "vector(3)": four bytes for each dimension.
func vectorBytes(columnType string) int {
	var n int
	if _, err := fmt.Sscanf(columnType, "vector(%d)", &n); err != nil {
		return 0
	}
	return 4 * n
}

// liveLabels reads the labels out of "enum('a','b')". information_schema has
// them in UTF-8, so other character sets are taken for what can be told: ASCII.
func (b *builder) liveLabels(live *tableinfo.Column) ([][]byte, error) {
	_, list, ok := strings.Cut(live.ColumnType, "(")
	if !ok {
		return nil, fmt.Errorf("%s has no labels", live.ColumnType)
	}
	var labels [][]byte
	for len(list) > 0 && list[0] == '\'' {
		end := 1
		var label []byte
		for ; end < len(list); end++ {
			if list[end] == '\'' {
				if end+1 >= len(list) || list[end+1] != '\'' {
					break
				}
				end++
			}
			label = append(label, list[end])
		}
		for _, ch := range label {
			if ch >= 0x80 && !strings.HasPrefix(live.Charset, "utf8") || strings.HasPrefix(live.Charset, "utf16") ||
				live.Charset == "utf32" || live.Charset == "ucs2" {
				return nil, fmt.Errorf("its labels are in %s, which only the binlog can tell: SET PERSIST binlog_row_metadata=FULL at the source", live.Charset)
			}
		}
		labels = append(labels, label)
		if end+1 >= len(list) || list[end+1] != ',' {
			break
		}
		list = list[end+2:]
	}
	return labels, nil
}
