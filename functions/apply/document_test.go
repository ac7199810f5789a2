package apply_test

import (
	"strings"
	"testing"

	"github.com/tandem-dc/tandem/shared/event"
	"github.com/tandem-dc/tandem/shared/sqldb"
)

// A JSON document keeps the SQL types of the values in it, by every way that a
// row is written; where JSON is text, the text is all.
func TestTypesInsideJSON(t *testing.T) {
	eachWorld(t, func(t *testing.T, w *world) {
		w.exec("CREATE TABLE j (id INT PRIMARY KEY, v JSON, n INT)")
		tab := &event.Table{DB: w.name, Name: "j", Key: []int{0}, Columns: []event.Column{
			{Name: "id", Type: event.Int}, {Name: "v", Type: event.JSON}, {Name: "n", Type: event.Int},
		}}
		document := func(text string, list ...event.Typed) event.Value {
			typed := event.TypedList(list)
			return event.Value{Kind: event.Data, Data: []byte(text), Typed: &typed}
		}
		values := func(id string, v event.Value) []event.Value { return []event.Value{event.Of(id), v, event.Of("1")} }
		put := func(id string, v event.Value) change { return change{tab, nil, values(id, v)} }
		price := func(text string) event.Value {
			return document(`{"p": `+text+`}`, event.Typed{Path: `$."p"`, Type: event.Decimal, Text: text})
		}
		moment := document(`"2024-01-31 12:00:00.500000"`, event.Typed{Path: "$", Type: event.DateTime, Text: "2024-01-31 12:00:00.500000"})
		bits := document(`[1, "base64:type16:AQU="]`, event.Typed{Path: "$[1]", Type: event.Bit, Text: "\x01\x05"})
		// wanted are rows by id: key, type (of what the event tells it of) and text.
		wanted := func(rows ...string) {
			t.Helper()
			if w.m.Flavor == sqldb.MySQL {
				w.want(strings.Join(rows, "\n"), "SELECT id, COALESCE(JSON_TYPE(JSON_EXTRACT(v, '$.p')), JSON_TYPE(JSON_EXTRACT(v, '$[1]')), JSON_TYPE(v)), CONCAT(v) FROM j ORDER BY id")
				return
			}
			for i, r := range rows {
				parts := strings.SplitN(r, "|", 3)
				rows[i] = parts[0] + "|" + parts[2]
			}
			w.want(strings.Join(rows, "\n"), "SELECT id, CONCAT(v) FROM j ORDER BY id")
		}
		i := w.start()
		// Rows of one shape, of another, without typed values, and with the same path but another type.
		i.must(w.txn(1, 0, put("1", price("1.10")), put("2", price("-20.50")), put("3", price("3.000")), put("4", event.Of(`{"p": 1.5}`)), put("5", moment), put("6", bits)))
		wanted(`1|DECIMAL|{"p": 1.10}`,
			`2|DECIMAL|{"p": -20.50}`,
			`3|DECIMAL|{"p": 3.000}`,
			`4|DOUBLE|{"p": 1.5}`,
			`5|DATETIME|"2024-01-31 12:00:00.500000"`,
			`6|BIT|[1, "base64:type16:AQU="]`)
		i.must(w.txn(2, 1, change{tab, values("1", price("1.10")), values("1", moment)}, change{tab, values("5", moment), values("7", bits)}, change{tab, values("2", price("-20.50")), nil}))
		wanted(`1|DATETIME|"2024-01-31 12:00:00.500000"`,
			`3|DECIMAL|{"p": 3.000}`,
			`4|DOUBLE|{"p": 1.5}`,
			`6|BIT|[1, "base64:type16:AQU="]`,
			`7|BIT|[1, "base64:type16:AQU="]`)
		// A row that is gone is settled with the types.
		w.exec("DELETE FROM j WHERE id = 3")
		i.must(w.txn(3, 2, change{tab, values("3", price("3.000")), values("3", price("4.00"))}))
		wanted(`1|DATETIME|"2024-01-31 12:00:00.500000"`,
			`3|DECIMAL|{"p": 4.00}`,
			`4|DOUBLE|{"p": 1.5}`,
			`6|BIT|[1, "base64:type16:AQU="]`,
			`7|BIT|[1, "base64:type16:AQU="]`)
		w.want("", "SELECT reason FROM tandem.dead_letter WHERE origin = ?", w.origin)
	})
}
