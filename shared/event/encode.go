package event

import (
	"encoding/base64"
	"strconv"
	"unicode/utf8"
)

// AppendJSON appends the JSON form of t to b. It never fails: what is not valid
// UTF-8 goes as base64.
func (t *Transaction) AppendJSON(b []byte) []byte {
	b = append(b, `{"schema":"`+Schema+`"`...)
	b = appendField(b, "server", t.Server)
	b = appendField(b, "gtid", t.GTID)
	b = appendField(b, "file", t.File)
	b = append(b, `,"pos":`...)
	b = strconv.AppendUint(b, uint64(t.Pos), 10)
	if s := t.Statement; s != nil {
		b = append(b, `,"statement":{"ddl":`...)
		b = strconv.AppendBool(b, s.DDL)
		b = append(b, `,"db":`...)
		b = appendRaw(b, []byte(s.DB), true)
		b = append(b, `,"sql":`...)
		b = appendRaw(b, []byte(s.SQL), true)
		b = append(b, '}')
	}
	b = append(b, `,"tables":[`...)
	for i := range t.Tables {
		if i > 0 {
			b = append(b, ',')
		}
		b = t.Tables[i].appendJSON(b)
	}
	b = append(b, `],"rows":[`...)
	for i := range t.Rows {
		if i > 0 {
			b = append(b, ',')
		}
		b = t.Rows[i].appendJSON(b, t.Tables[t.Rows[i].Table].Columns)
	}
	return append(b, `]}`...)
}

func (t *Table) appendJSON(b []byte) []byte {
	b = append(b, `{"db":`...)
	b = appendRaw(b, []byte(t.DB), true)
	b = append(b, `,"name":`...)
	b = appendRaw(b, []byte(t.Name), true)
	b = append(b, `,"key":[`...)
	for i, k := range t.Key {
		if i > 0 {
			b = append(b, ',')
		}
		b = strconv.AppendInt(b, int64(k), 10)
	}
	b = append(b, `],"columns":[`...)
	for i := range t.Columns {
		if i > 0 {
			b = append(b, ',')
		}
		b = t.Columns[i].appendJSON(b)
	}
	return append(b, `]}`...)
}

func (c *Column) appendJSON(b []byte) []byte {
	b = append(b, `{"name":`...)
	b = appendRaw(b, []byte(c.Name), true)
	b = appendField(b, "type", string(c.Type))
	if c.Unsigned {
		b = append(b, `,"unsigned":true`...)
	}
	if c.Length != 0 {
		b = append(b, `,"length":`...)
		b = strconv.AppendInt(b, int64(c.Length), 10)
	}
	if c.Charset != "" {
		b = appendField(b, "charset", c.Charset)
	}
	if len(c.Labels) > 0 {
		b = append(b, `,"labels":[`...)
		for i, l := range c.Labels {
			if i > 0 {
				b = append(b, ',')
			}
			b = appendRaw(b, []byte(l), readable(c, []byte(l)))
		}
		b = append(b, ']')
	}
	return append(b, '}')
}

func (r *Row) appendJSON(b []byte, columns []Column) []byte {
	b = append(b, `{"t":`...)
	b = strconv.AppendInt(b, int64(r.Table), 10)
	b = append(b, `,"op":"`...)
	b = append(b, byte(r.Op), '"')
	if r.Before != nil {
		b = append(b, `,"before":`...)
		b = appendValues(b, r.Before, columns)
	}
	if r.After != nil {
		b = append(b, `,"after":`...)
		b = appendValues(b, r.After, columns)
	}
	return append(b, '}')
}

func appendValues(b []byte, values []Value, columns []Column) []byte {
	b = append(b, '[')
	for i := range values {
		if i > 0 {
			b = append(b, ',')
		}
		switch v := &values[i]; v.Kind {
		case Absent:
			b = append(b, "false"...)
		case Null:
			b = append(b, "null"...)
		case Zero:
			b = append(b, '0')
		default:
			if v.Typed != nil {
				b = appendDocument(b, v)
				continue
			}
			b = appendRaw(b, v.Data, readable(&columns[i], v.Data))
		}
	}
	return append(b, ']')
}

// readable reports whether data may stand as a JSON string: its bytes are the
// UTF-8 of what a person would read. Everything else goes as base64.
func readable(c *Column, data []byte) bool {
	if c.Type.Bytes() {
		return false
	}
	if !c.Type.Textual() {
		return true
	}
	switch c.Charset {
	case "", "utf8mb4", "utf8mb3", "utf8", "ascii":
		return true
	case "binary", "utf16", "utf16le", "utf32", "ucs2":
		return false
	}
	for _, ch := range data {
		if ch < 0x20 || ch > 0x7e {
			return false
		}
	}
	return true
}

func appendField(b []byte, name, value string) []byte {
	b = append(b, ',', '"')
	b = append(b, name...)
	b = append(b, '"', ':')
	return appendRaw(b, []byte(value), true)
}

// appendRaw appends data as a JSON string if asText and the bytes are valid
// UTF-8, else as {"base64":"..."}.
func appendRaw(b, data []byte, asText bool) []byte {
	if !asText || !utf8.Valid(data) {
		b = append(b, `{"base64":"`...)
		b = base64.StdEncoding.AppendEncode(b, data)
		return append(b, `"}`...)
	}
	const hex = "0123456789abcdef"
	b = append(b, '"')
	start := 0
	for i, c := range data {
		if c >= 0x20 && c != '"' && c != '\\' {
			continue
		}
		b = append(b, data[start:i]...)
		start = i + 1
		switch c {
		case '"', '\\':
			b = append(b, '\\', c)
		case '\n':
			b = append(b, '\\', 'n')
		default:
			b = append(b, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
		}
	}
	b = append(b, data[start:]...)
	return append(b, '"')
}
