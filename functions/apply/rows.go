package apply

import (
	"context"
	"errors"
	"strings"

	"github.com/go-sql-driver/mysql"

	"github.com/tandem-dc/tandem/shared/event"
)

const (
	duplicateKey = 1062
	// Bounds of one multi-row INSERT: rows, placeholders (65535 is the protocol's
	// limit) and bytes, far below the smallest usual max_allowed_packet.
	maxInsertRows   = 128
	maxInsertParams = 16384
	maxInsertBytes  = 1 << 20
)

// writer writes the rows of one source transaction through a session.
type writer struct {
	f       *Function
	s       *session
	j       *job
	clashes []clashEntry
}

// transaction writes all rows of the job, in the source's order.
func (w *writer) transaction(ctx context.Context) error {
	txn := w.j.txn
	for i := 0; i < len(txn.Rows); {
		row := &txn.Rows[i]
		m, err := w.f.tables.mapping(ctx, &txn.Tables[row.Table])
		if err != nil {
			return err
		}
		if m.keyless != nil {
			return m.keyless
		}
		n := 1
		switch row.Op {
		case event.Insert:
			n = w.insertRun(m, txn.Rows[i:])
			err = w.inserts(ctx, m, txn.Rows[i:i+n])
		case event.Update:
			err = w.update(ctx, m, row)
		case event.Delete:
			err = w.delete(ctx, m, row)
		}
		if err != nil {
			return err
		}
		i += n
	}
	return nil
}

// insertRun counts the rows, a power of two, that one INSERT can hold.
func (w *writer) insertRun(m *mapping, rows []event.Row) int {
	n, bytes, params := 0, 0, 0
	for n < len(rows) && n < maxInsertRows {
		r := &rows[n]
		if r.Op != event.Insert || r.Table != rows[0].Table || n > 0 && !sameShape(r.After, rows[0].After) {
			break
		}
		for i := range r.After {
			bytes += len(r.After[i].Data)
			if r.After[i].Typed != nil {
				params += 2 * len(*r.After[i].Typed)
			}
		}
		if params += len(m.source); n > 0 && (bytes > maxInsertBytes || params > maxInsertParams) {
			break
		}
		n++
	}
	size := 1
	for size*2 <= n {
		size *= 2
	}
	return size
}

// sameShape reports whether two images need the same statement.
func sameShape(a, b []event.Value) bool {
	for i := range a {
		if (a[i].Kind == event.Absent) != (b[i].Kind == event.Absent) || (a[i].Kind == event.Zero) != (b[i].Kind == event.Zero) {
			return false
		}
		if a[i].Typed != b[i].Typed && (a[i].Typed == nil || b[i].Typed == nil || document(*a[i].Typed) != document(*b[i].Typed)) {
			return false
		}
	}
	return true
}

// inserts writes rows of one shape with one statement; where a key is taken,
// one by one.
func (w *writer) inserts(ctx context.Context, m *mapping, rows []event.Row) error {
	var b strings.Builder
	var args []any
	lenient := false
	b.WriteString("INSERT INTO " + m.table + " (")
	var names, marks []string
	for i := range m.columns {
		c, v := &m.columns[i], &rows[0].After[i]
		if c.write && v.Kind != event.Absent {
			names = append(names, c.name)
			marks = append(marks, c.mark(v))
			lenient = lenient || v.Kind == event.Zero
		}
	}
	tuple := "(" + strings.Join(marks, ", ") + ")"
	b.WriteString(strings.Join(names, ", ") + ") VALUES " + tuple + strings.Repeat(", "+tuple, len(rows)-1))
	for r := range rows {
		for i := range m.columns {
			v := rows[r].After[i]
			switch {
			case !m.columns[i].write:
				if err := m.missing(i, v, event.Value{Kind: event.Null}); err != nil {
					return err
				}
			case v.Kind != event.Absent && v.Kind != event.Zero:
				p, err := m.param(i, v)
				if err != nil {
					return err
				}
				args = m.columns[i].params(append(args, p), &v)
			}
		}
	}
	_, err := w.run(ctx, b.String(), args, lenient)
	if !isDuplicate(err) {
		return m.explain(err)
	}
	if len(rows) > 1 {
		for r := range rows {
			if err := w.inserts(ctx, m, rows[r:r+1]); err != nil {
				return err
			}
		}
		return nil
	}
	return w.insertClash(ctx, m, &rows[0], err)
}

// update writes a change onto the row that the before image describes.
func (w *writer) update(ctx context.Context, m *mapping, row *event.Row) error {
	n, err := w.updateWhere(ctx, m, row, row.Before, true)
	switch {
	case isDuplicate(err) && !m.keyMoves(row):
		return unfitf("another row here has the unique value that this update of %s.%s writes: %v", m.info.DB, m.info.Name, err)
	case err != nil && !isDuplicate(err):
		return m.explain(err)
	case n > 0:
		return nil
	}
	if !m.keyMoves(row) {
		return w.updateClash(ctx, m, row)
	}
	// A moved key meets another row, or is not where it was: the row leaves the
	// old key and comes to the new one, each settled by itself.
	if err := w.delete(ctx, m, &event.Row{Table: row.Table, Op: event.Delete, Before: row.Before}); err != nil {
		return err
	}
	return w.inserts(ctx, m, []event.Row{{Table: row.Table, Op: event.Insert, After: fill(row.After, row.Before)}})
}

// delete removes the row that the before image describes.
func (w *writer) delete(ctx context.Context, m *mapping, row *event.Row) error {
	n, err := w.deleteWhere(ctx, m, row.Before, true)
	if err != nil || n > 0 {
		return m.explain(err)
	}
	return w.deleteClash(ctx, m, row)
}

// updateWhere sets all columns of the after image on the row with at's key; if
// whole, only if all of at matches.
func (w *writer) updateWhere(ctx context.Context, m *mapping, row *event.Row, at []event.Value, whole bool) (int64, error) {
	var b strings.Builder
	var args []any
	lenient := false
	b.WriteString("UPDATE " + m.table + " SET ")
	sets := 0
	set := func(s string) {
		if sets > 0 {
			b.WriteString(", ")
		}
		b.WriteString(s)
		sets++
	}
	for i := range m.columns {
		c, v := &m.columns[i], row.After[i]
		before := event.Value{Kind: event.Null}
		if row.Before != nil {
			before = row.Before[i]
		}
		switch {
		case !c.write:
			if err := m.missing(i, v, before); err != nil {
				return 0, err
			}
			continue
		case v.Kind == event.Absent:
			continue
		}
		set(c.name + " = " + c.mark(&v))
		if v.Kind == event.Zero {
			lenient = true
			continue
		}
		p, err := m.param(i, v)
		if err != nil {
			return 0, err
		}
		args = c.params(append(args, p), &v)
	}
	for _, name := range m.stay {
		set(name + " = " + name)
	}
	if sets == 0 {
		return 1, nil // only columns that do not exist here
	}
	args, err := m.where(&b, args, at, whole)
	if err != nil {
		return 0, err
	}
	return w.run(ctx, b.String(), args, lenient)
}

func (w *writer) deleteWhere(ctx context.Context, m *mapping, at []event.Value, whole bool) (int64, error) {
	var b strings.Builder
	b.WriteString("DELETE FROM " + m.table)
	args, err := m.where(&b, nil, at, whole)
	if err != nil {
		return 0, err
	}
	return w.run(ctx, b.String(), args, false)
}

// where writes the condition that finds the row of an image: by key, for the
// index, and if whole by everything that can be compared.
func (m *mapping) where(b *strings.Builder, args []any, at []event.Value, whole bool) ([]any, error) {
	glue := " WHERE "
	for _, k := range m.key {
		v := at[k]
		if v.Kind == event.Absent {
			return nil, unfitf("the event lacks the key column %s of %s.%s: set binlog_row_image=FULL at the source", m.source[k].Name, m.info.DB, m.info.Name)
		}
		b.WriteString(glue + m.columns[k].name)
		glue = " AND "
		if v.Kind == event.Zero {
			b.WriteString(" = 0")
			continue
		}
		b.WriteString(" = " + m.keyMark(k))
		p, err := m.param(k, v)
		if err != nil {
			return nil, err
		}
		args = append(args, p)
	}
	if !whole {
		return args, nil
	}
	for i := range m.columns {
		c, v := &m.columns[i], at[i]
		switch {
		case c.compare == "" || v.Kind == event.Absent:
			continue
		case v.Kind == event.Zero:
			b.WriteString(" AND " + c.name + " <=> 0")
			continue
		}
		p, err := m.param(i, v)
		if err != nil {
			return nil, err
		}
		b.WriteString(" AND " + c.compare)
		args = append(args, p)
	}
	return args, nil
}

// keyMark is how a key column's parameter is written: as raw bytes, which
// keeps the index usable, unless it must be converted.
func (m *mapping) keyMark(k int) string { return m.columns[k].value }

// mark is how the value of a column is written.
func (c *mapped) mark(v *event.Value) string {
	if v.Kind == event.Zero {
		return "0"
	}
	if v.Typed != nil && c.json {
		return document(*v.Typed)
	}
	return c.value
}

// params appends what mark wants besides the value itself.
func (c *mapped) params(args []any, v *event.Value) []any {
	if v.Typed != nil && c.json {
		return documentParams(args, *v.Typed)
	}
	return args
}

func (m *mapping) param(i int, v event.Value) (any, error) {
	p, ok := bind(&m.source[i], v)
	if !ok {
		return nil, unfitf("column %s of %s.%s: %.60q is no value of type %s", m.source[i].Name, m.info.DB, m.info.Name, v.Data, m.source[i].Type)
	}
	return p, nil
}

// missing refuses to drop a value for which there is no column here. Nothing is
// lost by a NULL, or by a value that the change leaves as it was.
func (m *mapping) missing(i int, v, before event.Value) error {
	if m.columns[i].name != "" || v.Kind == event.Absent || v.Kind == event.Null || v.Equal(before) {
		return nil
	}
	return unfitf("table %s.%s has no column %s here, and the event has a value for it: add the column", m.info.DB, m.info.Name, m.source[i].Name)
}

// keyMoves reports whether an update changes the columns that find the row.
func (m *mapping) keyMoves(row *event.Row) bool {
	for _, k := range m.key {
		if row.After[k].Kind != event.Absent && !row.After[k].Equal(row.Before[k]) {
			return true
		}
	}
	return false
}

// fill takes from before what an after image lacks.
func fill(after, before []event.Value) []event.Value {
	out := append([]event.Value{}, after...)
	for i := range out {
		if out[i].Kind == event.Absent {
			out[i] = before[i]
		}
	}
	return out
}

func (w *writer) run(ctx context.Context, query string, args []any, lenient bool) (int64, error) {
	if !lenient {
		return w.s.affected(ctx, query, args)
	}
	if err := w.s.relax(ctx); err != nil {
		return 0, err
	}
	n, err := w.s.affected(ctx, query, args)
	return n, errors.Join(err, w.s.strict(ctx))
}

// explain puts the table before an error of the server.
func (m *mapping) explain(err error) error {
	if err == nil {
		return nil
	}
	return &tableError{m.info.DB + "." + m.info.Name, err}
}

type tableError struct {
	table string
	err   error
}

func (e *tableError) Error() string { return e.table + ": " + e.err.Error() }
func (e *tableError) Unwrap() error { return e.err }

func isDuplicate(err error) bool {
	var e *mysql.MySQLError
	return errors.As(err, &e) && e.Number == duplicateKey
}
