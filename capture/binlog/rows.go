package binlog

import (
	"bytes"
	"compress/zlib"
	"errors"
	"fmt"
	"io"

	"github.com/go-mysql-org/go-mysql/mysql"
	"github.com/go-mysql-org/go-mysql/replication"

	"github.com/tandem-dc/tandem/shared/event"
)

// rowsEvent is a rows event before its values are decoded.
type rowsEvent struct {
	table   uint64
	op      event.Op
	partial bool      // values may be differences of JSON documents
	columns int       // number of columns
	present [2]bitmap // columns that the first and second image hold
	data    []byte
}

// rowsOp returns what a rows event of this type does; 0: it is no rows event
// that this version knows.
func rowsOp(t replication.EventType) event.Op {
	switch t {
	case replication.WRITE_ROWS_EVENTv1, replication.WRITE_ROWS_EVENTv2, replication.MARIADB_WRITE_ROWS_COMPRESSED_EVENT_V1:
		return event.Insert
	case replication.UPDATE_ROWS_EVENTv1, replication.UPDATE_ROWS_EVENTv2, replication.MARIADB_UPDATE_ROWS_COMPRESSED_EVENT_V1,
		replication.PARTIAL_UPDATE_ROWS_EVENT:
		return event.Update
	case replication.DELETE_ROWS_EVENTv1, replication.DELETE_ROWS_EVENTv2, replication.MARIADB_DELETE_ROWS_COMPRESSED_EVENT_V1:
		return event.Delete
	}
	return 0
}

// noTable is the table id of a rows event that only ends a statement.
const noTable = 1<<24 - 1

// parseRows reads a rows event up to its images; max bounds what compressed ones may grow to.
func parseRows(t replication.EventType, body []byte, max int64) (*rowsEvent, error) {
	c := &cursor{b: body}
	e := &rowsEvent{table: c.little(6), op: rowsOp(t), partial: t == replication.PARTIAL_UPDATE_ROWS_EVENT}
	c.take(2) // flags
	switch t {
	case replication.WRITE_ROWS_EVENTv2, replication.UPDATE_ROWS_EVENTv2, replication.DELETE_ROWS_EVENTv2, replication.PARTIAL_UPDATE_ROWS_EVENT:
		c.take(int(c.little(2)) - 2) // partition numbers and the like; the length counts itself
	}
	e.columns = c.count()
	e.present[0] = c.bitmap(e.columns)
	if e.op == event.Update {
		e.present[1] = c.bitmap(e.columns)
	}
	if c.err != nil {
		return nil, fmt.Errorf("rows: %w", c.err)
	}
	e.data = c.b
	switch t {
	case replication.MARIADB_WRITE_ROWS_COMPRESSED_EVENT_V1, replication.MARIADB_UPDATE_ROWS_COMPRESSED_EVENT_V1,
		replication.MARIADB_DELETE_ROWS_COMPRESSED_EVENT_V1:
		var err error
		if e.data, err = decompress(e.data, max); err != nil {
			return nil, fmt.Errorf("rows: %w", err)
		}
	}
	return e, nil
}

// decompress unpacks what MariaDB compresses with log_bin_compress: the number of bytes
// of the length in the low bits of the first byte, the length, then zlib.
func decompress(b []byte, max int64) ([]byte, error) {
	c := &cursor{b: b}
	size := c.big(int(c.byte() & 7))
	if c.err != nil {
		return nil, c.err
	}
	if size > uint64(max) {
		return nil, fmt.Errorf("an event is larger than max-txn-bytes, %d bytes: raise it to what memory allows", max)
	}
	r, err := zlib.NewReader(bytes.NewReader(c.b))
	if err != nil {
		return nil, fmt.Errorf("compressed event: %w", err)
	}
	defer r.Close()
	out, err := io.ReadAll(io.LimitReader(r, int64(size)))
	if err != nil || uint64(len(out)) != size {
		return nil, fmt.Errorf("compressed event: %d of %d bytes: %w", len(out), size, errors.Join(err, errShort))
	}
	return out, nil
}

// errPartialJSON is the error for a row that holds only the difference of a document.
var errPartialJSON = errors.New("the server logs only what changed in a JSON document (binlog_row_value_options=PARTIAL_JSON), which cannot be replicated: " +
	"SET PERSIST binlog_row_value_options='' at the source, and in sessions that set it; the row itself must then be written once more and capture started behind this position")

// decode appends the rows of e, which are those of p's table, to rows.
func (e *rowsEvent) decode(p *plan, table int, rows []event.Row) ([]event.Row, error) {
	if e.columns != len(p.decoders) {
		return rows, fmt.Errorf("rows have %d columns, their table map %d", e.columns, len(p.decoders))
	}
	var bits [2]int
	for i := range bits {
		bits[i] = e.present[i].ones(e.columns)
	}
	c := &cursor{b: e.data}
	for len(c.b) > 0 {
		r := event.Row{Table: table, Op: e.op}
		var err error
		switch e.op {
		case event.Insert:
			r.After, err = p.image(c, e.present[0], bits[0])
		case event.Delete:
			r.Before, err = p.image(c, e.present[0], bits[0])
		case event.Update:
			if r.Before, err = p.image(c, e.present[0], bits[0]); err == nil && e.partial {
				err = p.fullDocuments(c)
			}
			if err == nil {
				r.After, err = p.image(c, e.present[1], bits[1])
			}
		}
		if err != nil {
			return rows, err
		}
		rows = append(rows, r)
	}
	return rows, nil
}

// fullDocuments reads the options before the after image of a partial update, and
// refuses differences.
func (p *plan) fullDocuments(c *cursor) error {
	const partialJSON = 1
	if options := c.packed(); options&partialJSON != 0 {
		documents := 0
		for i := range p.decoders {
			if p.decoders[i].typ == mysql.MYSQL_TYPE_JSON {
				documents++
			}
		}
		if c.bitmap(documents).ones(documents) > 0 {
			return errPartialJSON
		}
	}
	return c.err
}

// image decodes one row image, in which n columns are present.
func (p *plan) image(c *cursor, present bitmap, n int) ([]event.Value, error) {
	null := c.bitmap(n)
	values := make([]event.Value, len(p.decoders))
	at, typed := 0, 0
	for i := range p.decoders {
		if !present.has(i) {
			continue // Absent is the zero value
		}
		if null.has(at) {
			values[i].Kind = event.Null
		} else {
			v, err := p.decoders[i].value(c)
			if err == nil {
				err = c.err
			}
			if err != nil {
				return nil, fmt.Errorf("column %s: %w", p.table.Columns[i].Name, err)
			}
			if v.Typed != nil {
				if typed += len(*v.Typed); typed > event.MaxTyped {
					v.Typed = nil // the text alone, as for one document that has too many
				}
			}
			values[i] = v
		}
		at++
	}
	return values, c.err
}
