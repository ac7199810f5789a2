package apply

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/tandem-dc/tandem/shared/event"
	"github.com/tandem-dc/tandem/shared/ledger"
)

// clashEntry is what is counted and logged once the transaction has committed.
type clashEntry struct {
	kind     Kind
	decision Decision
	table    string
	key      string
}

// insertClash settles an insert that met a taken key. taken is the server's error.
func (w *writer) insertClash(ctx context.Context, m *mapping, row *event.Row, taken error) error {
	local, err := w.lock(ctx, m, row.After)
	if err != nil {
		return err
	}
	if local == nil {
		return unfitf("another row here has the unique value that this insert into %s.%s writes: %v", m.info.DB, m.info.Name, taken)
	}
	if m.equal(row.After, local, false) {
		return nil
	}
	d, err := w.settle(ctx, m, InsertExists, row, local)
	if err != nil || d.Winner != EventWins {
		return err
	}
	return w.overwrite(ctx, m, row, row.After)
}

// updateClash settles an update whose key stays and whose before image does not match.
func (w *writer) updateClash(ctx context.Context, m *mapping, row *event.Row) error {
	local, err := w.lock(ctx, m, row.Before)
	if err != nil {
		return err
	}
	if local != nil {
		if m.equal(row.After, local, false) {
			return nil
		}
		if m.equal(row.Before, local, true) { // the server compares otherwise than it stores
			return w.overwrite(ctx, m, row, row.Before)
		}
		d, err := w.settle(ctx, m, UpdateDiffers, row, local)
		if err != nil || d.Winner != EventWins {
			return err
		}
		return w.overwrite(ctx, m, row, row.Before)
	}
	d, err := w.settle(ctx, m, UpdateMissing, row, nil)
	if err != nil || d.Winner != EventWins {
		return err
	}
	return w.inserts(ctx, m, []event.Row{{Table: row.Table, Op: event.Insert, After: fill(row.After, row.Before)}})
}

// deleteClash settles a delete whose before image does not match.
func (w *writer) deleteClash(ctx context.Context, m *mapping, row *event.Row) error {
	local, err := w.lock(ctx, m, row.Before)
	if err != nil {
		return err
	}
	kind := DeleteMissing
	if local != nil {
		kind = DeleteDiffers
		if m.equal(row.Before, local, true) {
			_, err := w.deleteWhere(ctx, m, row.Before, false)
			return m.explain(err)
		}
	}
	d, err := w.settle(ctx, m, kind, row, local)
	if err != nil || d.Winner != EventWins || local == nil {
		return err
	}
	_, err = w.deleteWhere(ctx, m, row.Before, false)
	return m.explain(err)
}

// overwrite makes the row with at's key what the after image says.
func (w *writer) overwrite(ctx context.Context, m *mapping, row *event.Row, at []event.Value) error {
	_, err := w.updateWhere(ctx, m, row, at, false)
	if isDuplicate(err) {
		return unfitf("another row here has the unique value that this change of %s.%s writes: %v", m.info.DB, m.info.Name, err)
	}
	return m.explain(err)
}

// lock reads the row with an image's key and keeps it until the transaction
// ends. It returns nil if there is none; a column that is not here is Absent.
func (w *writer) lock(ctx context.Context, m *mapping, at []event.Value) ([]event.Value, error) {
	var b strings.Builder
	var names []string
	var place []int
	for i := range m.columns {
		if m.columns[i].name != "" {
			names = append(names, m.columns[i].name)
			place = append(place, i)
		}
	}
	b.WriteString("SELECT " + strings.Join(names, ", ") + " FROM " + m.table)
	args, err := m.where(&b, nil, at, false)
	if err != nil {
		return nil, err
	}
	b.WriteString(" FOR UPDATE")
	rows, err := w.s.QueryContext(ctx, b.String(), args...)
	if err != nil {
		return nil, m.explain(err)
	}
	defer rows.Close()
	if !rows.Next() {
		return nil, m.explain(rows.Err())
	}
	raw := make([][]byte, len(place))
	dst := make([]any, len(place))
	for i := range raw {
		dst[i] = &raw[i]
	}
	if err := rows.Scan(dst...); err != nil {
		return nil, m.explain(err)
	}
	local := make([]event.Value, len(m.columns))
	for i, c := range place {
		local[c] = fromRow(m.source[c].Type, raw[i])
	}
	return local, m.explain(rows.Err())
}

// equal compares an event's image with the row here, column by column; if
// onlyComparable, those that a before image is matched on.
func (m *mapping) equal(image, local []event.Value, onlyComparable bool) bool {
	for i := range m.columns {
		c := &m.columns[i]
		if !c.write || image[i].Kind == event.Absent || onlyComparable && c.compare == "" {
			continue
		}
		if strings.HasPrefix(c.value, "CONVERT") && m.source[i].Type != event.JSON {
			return false // bytes of two character sets
		}
		if !same(&m.source[i], image[i], local[i]) {
			return false
		}
	}
	return true
}

// settle asks the Settler and writes the conflict log, in the same transaction.
func (w *writer) settle(ctx context.Context, m *mapping, kind Kind, row *event.Row, local []event.Value) (Decision, error) {
	meta := &w.j.meta
	d := w.f.settler.Settle(&Clash{
		Kind: kind, Table: m.info, Columns: m.source, Version: m.version, Row: row, Local: local, Event: meta, DC: w.f.cfg.DC,
	})
	at := row.Before
	if at == nil {
		at = row.After
	}
	key := imageJSON(m, at, m.key)
	_, err := w.s.ExecContext(ctx, `INSERT INTO tandem.conflict_log (db, table_name, pk, kind, decision, origin, epoch, seq, gtid, local_image, before_image, after_image)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
		[]byte(m.info.DB), []byte(m.info.Name), key, string(kind), clip(string(d.Winner)+": "+d.Why, 255), meta.Origin, meta.Epoch, meta.Sequence,
		clip(w.j.txn.GTID, 128), imageJSON(m, local, nil), imageJSON(m, row.Before, nil), imageJSON(m, row.After, nil))
	if err != nil {
		return d, fmt.Errorf("write %s.conflict_log: %w", ledger.Database, err)
	}
	w.clashes = append(w.clashes, clashEntry{kind, d, m.info.DB + "." + m.info.Name, string(key)})
	return d, nil
}

func clip(s string, n int) string {
	s = strings.ToValidUTF8(s, "?")
	for len(s) > n {
		_, size := utf8.DecodeLastRuneInString(s)
		s = s[:len(s)-size]
	}
	return s
}

// imageJSON prints an image, or some columns of it, for a person: an object of
// column names and values as in the payload. A nil image is NULL.
func imageJSON(m *mapping, image []event.Value, only []int) []byte {
	if image == nil {
		return nil
	}
	b := []byte{'{'}
	add := func(i int) {
		if image[i].Kind == event.Absent {
			return
		}
		if len(b) > 1 {
			b = append(b, ',', ' ')
		}
		b = appendText(b, m.source[i].Name)
		b = append(b, ':', ' ')
		switch v := image[i]; {
		case v.Kind == event.Null:
			b = append(b, "null"...)
		case v.Kind == event.Zero:
			b = append(b, '0')
		case m.source[i].Type.Bytes() || !utf8.Valid(v.Data):
			b = append(b, `{"base64": "`...)
			b = base64.StdEncoding.AppendEncode(b, v.Data)
			b = append(b, `"}`...)
		default:
			b = appendText(b, string(v.Data))
		}
	}
	if only != nil {
		for _, i := range only {
			add(i)
		}
	} else {
		for i := range image {
			add(i)
		}
	}
	return append(b, '}')
}

func appendText(b []byte, s string) []byte {
	text, err := json.Marshal(s)
	if err != nil {
		return append(b, `""`...) // a string: cannot fail
	}
	return append(b, text...)
}
