package event

import "fmt"

// Bounds on one payload, far above what a server allows; they keep hostile
// input from costing more memory than its own size warrants.
const (
	maxTables  = 1 << 16
	maxColumns = 4096 // MySQL's own limit; MariaDB has it as well
)

// DecodeTransaction reads what AppendJSON wrote. The result is consistent: every
// row names a table, has as many values as the table has columns, and the images
// that its operation needs. Names that the schema does not know are skipped.
// Errors say what is wrong and where.
//
// Values share memory with data, which must not change afterwards.
func DecodeTransaction(data []byte) (*Transaction, error) {
	t, err := decodeTransaction(data)
	if err != nil {
		return nil, fmt.Errorf("payload: %w", err)
	}
	return t, nil
}

func decodeTransaction(data []byte) (*Transaction, error) {
	p, err := newParser(data)
	if err != nil {
		return nil, err
	}
	d := decoder{parser: p}
	if err := d.transaction(); err != nil {
		return nil, err
	}
	if err := p.end(); err != nil {
		return nil, err
	}
	if d.schema != Schema {
		return nil, fmt.Errorf("schema %.60q is not %q: upgrade the receiver before the sender", d.schema, Schema)
	}
	for i := range d.t.Rows {
		if err := d.t.Rows[i].check(d.t.Tables); err != nil {
			return nil, fmt.Errorf("row %d: %w", i, err)
		}
	}
	return d.t, nil
}

// decoder reads the payload's schema by recursive descent.
type decoder struct {
	*parser
	t      *Transaction
	schema string
}

func (d *decoder) transaction() error {
	d.t = &Transaction{}
	return d.object(func(name string) (err error) {
		switch name {
		case "schema":
			d.schema, err = d.text()
		case "server":
			d.t.Server, err = d.text()
		case "gtid":
			d.t.GTID, err = d.text()
		case "file":
			d.t.File, err = d.text()
		case "pos":
			d.t.Pos, err = d.uint32()
		case "statement":
			err = d.statement()
		case "tables":
			err = d.tables()
		case "rows":
			err = d.rows()
		default:
			return d.skip()
		}
		return within(name, err)
	})
}

func within(name string, err error) error {
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

func (d *decoder) statement() error {
	d.t.Statement = &Statement{}
	return d.object(func(name string) (err error) {
		switch name {
		case "ddl":
			d.t.Statement.DDL, err = d.bool()
		case "db":
			d.t.Statement.DB, err = d.text()
		case "sql":
			d.t.Statement.SQL, err = d.text()
		default:
			return d.skip()
		}
		return within(name, err)
	})
}

func (d *decoder) tables() error {
	return d.array(func() error {
		if len(d.t.Tables) == maxTables {
			return fmt.Errorf("more than %d tables", maxTables)
		}
		t, err := d.table()
		if err != nil {
			return fmt.Errorf("table %d: %w", len(d.t.Tables), err)
		}
		d.t.Tables = append(d.t.Tables, t)
		return nil
	})
}

func (d *decoder) table() (t Table, err error) {
	err = d.object(func(name string) (err error) {
		switch name {
		case "db":
			t.DB, err = d.text()
		case "name":
			t.Name, err = d.text()
		case "key":
			err = d.array(func() error {
				k, err := d.uint32()
				if len(t.Key) == maxColumns {
					return fmt.Errorf("more than %d columns in the key", maxColumns)
				}
				t.Key = append(t.Key, int(k))
				return err
			})
		case "columns":
			err = d.array(func() error {
				if len(t.Columns) == maxColumns {
					return fmt.Errorf("more than %d columns", maxColumns)
				}
				c, err := d.column()
				t.Columns = append(t.Columns, c)
				return err
			})
		default:
			return d.skip()
		}
		return within(name, err)
	})
	if err == nil {
		err = t.check()
	}
	return t, err
}

func (d *decoder) column() (c Column, err error) {
	err = d.object(func(name string) (err error) {
		switch name {
		case "name":
			c.Name, err = d.text()
		case "type":
			var s string
			s, err = d.text()
			c.Type = Type(s)
		case "unsigned":
			c.Unsigned, err = d.bool()
		case "length":
			var n uint32
			n, err = d.uint32()
			c.Length = int(n)
		case "charset":
			c.Charset, err = d.text()
		case "labels":
			err = d.array(func() error {
				l, err := d.text()
				c.Labels = append(c.Labels, l)
				return err
			})
		default:
			return d.skip()
		}
		return within(name, err)
	})
	return c, err
}

func (d *decoder) rows() error {
	return d.array(func() error {
		r, err := d.row()
		if err != nil {
			return fmt.Errorf("row %d: %w", len(d.t.Rows), err)
		}
		d.t.Rows = append(d.t.Rows, r)
		return nil
	})
}

func (d *decoder) row() (r Row, err error) {
	r.Table = -1
	err = d.object(func(name string) (err error) {
		switch name {
		case "t":
			var n uint32
			n, err = d.uint32()
			r.Table = int(n)
		case "op":
			var s string
			if s, err = d.text(); err == nil && len(s) != 1 {
				return fmt.Errorf("op %.10q is none of c, u, d", s)
			}
			if err == nil {
				r.Op = Op(s[0])
			}
		case "before":
			r.Before, err = d.image(r.Table)
		case "after":
			r.After, err = d.image(r.Table)
		default:
			return d.skip()
		}
		return within(name, err)
	})
	if err == nil {
		err = r.checkImages()
	}
	return r, err
}

// image reads the values of one row image. It is not nil, even when empty.
func (d *decoder) image(table int) ([]Value, error) {
	hint := 8
	if table >= 0 && table < len(d.t.Tables) {
		hint = len(d.t.Tables[table].Columns)
	}
	values := make([]Value, 0, min(hint, d.left()/2)) // a value takes two bytes at least
	err := d.array(func() error {
		if len(values) == maxColumns {
			return fmt.Errorf("more than %d values", maxColumns)
		}
		v, err := d.value()
		values = append(values, v)
		return err
	})
	return values, err
}

// value reads null, false (absent), 0 (ENUM index 0), a string,
// {"base64": "..."}, or {"json": "...", "typed": [...]}.
func (d *decoder) value() (Value, error) {
	switch {
	case d.literal("null"):
		return Value{Kind: Null}, nil
	case d.literal("false"):
		return Value{Kind: Absent}, nil
	case d.literal("0"):
		return Value{Kind: Zero}, nil
	}
	if d.i < len(d.b) && d.b[d.i] == '{' { // literal skipped the space
		return d.objectValue()
	}
	data, err := d.bytes()
	return Value{Kind: Data, Data: data}, err
}
