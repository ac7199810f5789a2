package verify

import (
	"bytes"
	"cmp"
	"database/sql"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

type tableName struct{ db, name string }

func (n tableName) String() string { return n.db + "." + n.name }

type column struct {
	name, dataType, columnType string
	collation                  string // "" for all but character types
	nullable                   bool
	generated                  bool
}

func (c *column) integer() bool {
	switch c.dataType {
	case "tinyint", "smallint", "mediumint", "int", "bigint":
		return true
	}
	return false
}

func (c *column) unsigned() bool { return strings.Contains(c.columnType, "unsigned") }

// table is the structure of one side's table. Columns are sorted by name: their
// order does not matter to tandem, which maps by name.
type table struct {
	tableName
	columns []column
	uniques map[string][]string // columns by index
	key     []int               // indexes into columns of the chosen key; all columns when there is none
	keyless bool
}

func (t *table) column(name string) int {
	return slices.IndexFunc(t.columns, func(c column) bool { return c.name == name })
}

// chooseKey takes the primary key, else the first unique key without nullable columns.
func (t *table) chooseKey() {
	names := make([]string, 0, len(t.uniques))
	for n := range t.uniques {
		names = append(names, n)
	}
	slices.SortFunc(names, func(a, b string) int {
		return cmp.Or(boolOrder(a != "PRIMARY", b != "PRIMARY"), cmp.Compare(a, b))
	})
	for _, n := range names {
		key := make([]int, len(t.uniques[n]))
		usable := true
		for i, c := range t.uniques[n] {
			key[i] = t.column(c)
			usable = usable && key[i] >= 0 && !t.columns[key[i]].nullable
		}
		if usable {
			t.key = key
			return
		}
	}
	t.keyless = true
	for i := range t.columns {
		t.key = append(t.key, i)
	}
}

func boolOrder(a, b bool) int {
	switch {
	case a == b:
		return 0
	case b:
		return -1
	}
	return 1
}

// structure reports what differs between the tables themselves, and whether
// their rows can be compared nevertheless.
func (c *comparison) structure(a, b *table) bool {
	differ := func(format string, args ...any) {
		c.add(Difference{Kind: Structure, Detail: fmt.Sprintf(format, args...)})
	}
	if a == nil || b == nil {
		side := c.a.side
		if a != nil {
			side = c.b.side
		}
		differ("%s has no such table", side)
		return false
	}
	ok := true
	for _, ca := range a.columns {
		i := b.column(ca.name)
		if i < 0 {
			differ("%s has no column %s", c.b.side, ca.name)
			ok = false
			continue
		}
		if cb := b.columns[i]; ca != cb {
			differ("column %s is %s in %s and %s in %s", ca.name, ca.describe(), c.a.side, cb.describe(), c.b.side)
		}
	}
	for _, cb := range b.columns {
		if a.column(cb.name) < 0 {
			differ("%s has no column %s", c.a.side, cb.name)
			ok = false
		}
	}
	c.uniques(a, b, c.b.side, differ)
	c.uniques(b, a, c.a.side, differ)
	return ok
}

func (c *comparison) uniques(has, lacks *table, side string, differ func(string, ...any)) {
	for name, columns := range has.uniques {
		if !slices.Equal(lacks.uniques[name], columns) {
			differ("%s has no unique key %s (%s)", side, name, strings.Join(columns, ", "))
		}
	}
}

func (c *column) describe() string {
	s := c.columnType
	if c.collation != "" {
		s += " " + c.collation
	}
	if !c.nullable {
		s += " not null"
	}
	if c.generated {
		s += " generated"
	}
	return s
}

// compareKeys orders two rows as the streams are ordered.
func (t *table) compareKeys(x, y []sql.RawBytes) int {
	for _, i := range t.key {
		if o := t.columns[i].compare(x[i], y[i]); o != 0 {
			return o
		}
	}
	return 0
}

func (c *column) compare(x, y sql.RawBytes) int {
	if x == nil || y == nil {
		return boolOrder(x != nil, y != nil)
	}
	if !c.integer() {
		return bytes.Compare(x, y)
	}
	if c.unsigned() {
		a, _ := strconv.ParseUint(string(x), 10, 64) // the server printed it
		b, _ := strconv.ParseUint(string(y), 10, 64)
		return cmp.Compare(a, b)
	}
	a, _ := strconv.ParseInt(string(x), 10, 64)
	b, _ := strconv.ParseInt(string(y), 10, 64)
	return cmp.Compare(a, b)
}

func (t *table) keyText(row []sql.RawBytes) string {
	parts := make([]string, len(t.key))
	for i, k := range t.key {
		parts[i] = t.columns[k].name + "=" + t.columns[k].text(row[k])
	}
	return strings.Join(parts, ",")
}

func (t *table) differing(x, y []sql.RawBytes) []string {
	var out []string
	for i := range t.columns {
		if (x[i] == nil) != (y[i] == nil) || !bytes.Equal(x[i], y[i]) {
			c := &t.columns[i]
			out = append(out, fmt.Sprintf("%s: %s / %s", c.name, c.text(x[i]), c.text(y[i])))
		}
	}
	return out
}

// maxText bounds a value in a report, in bytes.
const maxText = 48

// text shows a value: as it is when it is printable ASCII, else as hexadecimal.
func (c *column) text(v sql.RawBytes) string {
	if v == nil {
		return "NULL"
	}
	cut := ""
	if len(v) > maxText {
		v, cut = v[:maxText], "..."
	}
	for _, b := range v {
		if b < 0x20 || b > 0x7e {
			return fmt.Sprintf("0x%x%s", []byte(v), cut)
		}
	}
	if c.integer() {
		return string(v)
	}
	return "'" + string(v) + cut + "'"
}
