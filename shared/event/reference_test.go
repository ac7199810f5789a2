package event

import (
	"bytes"
	"encoding/json"
	"fmt"
)

type wireTransaction struct {
	Schema    string         `json:"schema"`
	Server    rawText        `json:"server"`
	GTID      rawText        `json:"gtid"`
	File      rawText        `json:"file"`
	Pos       uint32         `json:"pos"`
	Statement *wireStatement `json:"statement"`
	Tables    []wireTable    `json:"tables"`
	Rows      []wireRow      `json:"rows"`
}

type wireStatement struct {
	DDL bool    `json:"ddl"`
	DB  rawText `json:"db"`
	SQL rawText `json:"sql"`
}

type wireTable struct {
	DB      rawText      `json:"db"`
	Name    rawText      `json:"name"`
	Key     []int        `json:"key"`
	Columns []wireColumn `json:"columns"`
}

type wireColumn struct {
	Name     rawText   `json:"name"`
	Type     Type      `json:"type"`
	Unsigned bool      `json:"unsigned"`
	Length   int       `json:"length"`
	Charset  string    `json:"charset"`
	Labels   []rawText `json:"labels"`
}

type refValue Value

type wireRow struct {
	Table  int        `json:"t"`
	Op     string     `json:"op"`
	Before []refValue `json:"before"`
	After  []refValue `json:"after"`
}

// referenceDecode is the decoder by encoding/json: slow, lenient about what
// JSON leaves open (repeated and unknown names, case, lone surrogates), and
// obviously right. DecodeTransaction is held against it.
func referenceDecode(data []byte) (*Transaction, error) {
	var w wireTransaction
	if err := json.Unmarshal(data, &w); err != nil {
		return nil, fmt.Errorf("payload: %w", err)
	}
	if w.Schema != Schema {
		return nil, fmt.Errorf("payload: schema %.60q is not %q: upgrade the receiver before the sender", w.Schema, Schema)
	}
	t := &Transaction{Server: string(w.Server), GTID: string(w.GTID), File: string(w.File), Pos: w.Pos}
	if w.Statement != nil {
		t.Statement = &Statement{DB: string(w.Statement.DB), SQL: string(w.Statement.SQL), DDL: w.Statement.DDL}
	}
	if len(w.Tables) > maxTables {
		return nil, fmt.Errorf("payload: %d tables, at most %d are allowed", len(w.Tables), maxTables)
	}
	t.Tables = make([]Table, len(w.Tables))
	for i := range w.Tables {
		if err := t.Tables[i].fromWire(&w.Tables[i]); err != nil {
			return nil, fmt.Errorf("payload: table %d: %w", i, err)
		}
	}
	t.Rows = make([]Row, len(w.Rows))
	for i := range w.Rows {
		if err := t.Rows[i].fromWire(&w.Rows[i], t.Tables); err != nil {
			return nil, fmt.Errorf("payload: row %d: %w", i, err)
		}
	}
	return t, nil
}

func (t *Table) fromWire(w *wireTable) error {
	if w.DB == "" || w.Name == "" {
		return fmt.Errorf("db or name is missing")
	}
	if len(w.Columns) == 0 || len(w.Columns) > maxColumns {
		return fmt.Errorf("%s.%s has %d columns, 1 to %d are allowed", w.DB, w.Name, len(w.Columns), maxColumns)
	}
	*t = Table{DB: string(w.DB), Name: string(w.Name), Key: w.Key, Columns: make([]Column, len(w.Columns))}
	seen := make(map[rawText]bool, len(w.Columns))
	for i := range w.Columns {
		c := &w.Columns[i]
		if c.Name == "" || seen[c.Name] {
			return fmt.Errorf("%s.%s: column %d has no name or a repeated one", w.DB, w.Name, i)
		}
		seen[c.Name] = true
		if !c.Type.known() {
			return fmt.Errorf("%s.%s: column %s has the unknown type %.40q", w.DB, w.Name, c.Name, c.Type)
		}
		t.Columns[i] = Column{Name: string(c.Name), Type: c.Type, Unsigned: c.Unsigned, Length: c.Length, Charset: c.Charset}
		for _, l := range c.Labels {
			t.Columns[i].Labels = append(t.Columns[i].Labels, string(l))
		}
	}
	for _, k := range t.Key {
		if k < 0 || k >= len(t.Columns) {
			return fmt.Errorf("%s.%s: key column %d does not exist", w.DB, w.Name, k)
		}
	}
	return nil
}

func (r *Row) fromWire(w *wireRow, tables []Table) error {
	if w.Table < 0 || w.Table >= len(tables) {
		return fmt.Errorf("table %d is not in the payload", w.Table)
	}
	if len(w.Op) != 1 {
		return fmt.Errorf("op %.10q is none of c, u, d", w.Op)
	}
	*r = Row{Table: w.Table, Op: Op(w.Op[0]), Before: values(w.Before), After: values(w.After)}
	if err := r.checkImages(); err != nil {
		return err
	}
	return r.check(tables)
}

func values(w []refValue) []Value {
	if w == nil {
		return nil
	}
	out := make([]Value, len(w))
	for i := range w {
		out[i] = Value(w[i])
	}
	return out
}

// UnmarshalJSON reads one value: null, false (absent), 0 (ENUM index 0), a
// string, {"base64": "..."}, or {"json": "...", "typed": [[path, type, text], ...]}.
func (v *refValue) UnmarshalJSON(b []byte) error {
	switch string(b) {
	case "null":
		*v = refValue{Kind: Null}
		return nil
	case "false":
		*v = refValue{Kind: Absent}
		return nil
	case "0":
		*v = refValue{Kind: Zero}
		return nil
	}
	var w struct {
		JSON  *rawText    `json:"json"`
		Typed [][]rawText `json:"typed"`
	}
	if b[0] != '{' || json.Unmarshal(b, &w) != nil || w.JSON == nil && w.Typed == nil {
		data, err := decodeRaw(b)
		*v = refValue{Kind: Data, Data: data}
		return err
	}
	if w.JSON == nil || len(w.Typed) == 0 {
		return fmt.Errorf("%.40s is no value", b)
	}
	list := TypedList{}
	for _, x := range w.Typed {
		if len(x) != 3 {
			return fmt.Errorf("typed value has %d parts", len(x))
		}
		list = append(list, Typed{string(x[0]), Type(x[1]), string(x[2])})
	}
	*v = refValue{Kind: Data, Data: []byte(*w.JSON), Typed: &list}
	return nil
}

// rawText is a string whose bytes may be no UTF-8.
type rawText string

func (t *rawText) UnmarshalJSON(b []byte) error {
	data, err := decodeRaw(b)
	*t = rawText(data)
	return err
}

func decodeRaw(b []byte) ([]byte, error) {
	b = bytes.TrimSpace(b)
	if len(b) > 0 && b[0] == '{' {
		var w struct {
			Base64 *[]byte `json:"base64"`
		}
		if err := json.Unmarshal(b, &w); err != nil {
			return nil, err
		}
		if w.Base64 == nil {
			return nil, fmt.Errorf("%.40s is no value", b)
		}
		return *w.Base64, nil
	}
	if len(b) >= 2 && b[0] == '"' && bytes.IndexByte(b, '\\') < 0 {
		return bytes.Clone(b[1 : len(b)-1]), nil
	}
	var s string
	if err := json.Unmarshal(b, &s); err != nil {
		return nil, fmt.Errorf("%.40s is no value: %w", b, err)
	}
	return []byte(s), nil
}
