package binlog_test

import (
	"cmp"
	"database/sql"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
	"testing"

	"github.com/tandem-dc/tandem/shared/event"
	"github.com/tandem-dc/tandem/shared/sqldb"
	"github.com/tandem-dc/tandem/testbench/servers"
	"github.com/tandem-dc/tandem/testbench/types"
)

// Every type with values at its edges, written by careless sessions, must
// arrive as the server itself shows it.
func TestTypes(t *testing.T) {
	servers.EachFlavor(t, func(t *testing.T, m *servers.MySQL) {
		db := m.NewDatabase(t)
		var cases []types.Case
		for _, c := range types.All() {
			if c.On(m.Flavor) {
				cases = append(cases, c)
				exec(t, m.Admin(db), c.CreateTable(c.Name))
			}
		}
		from := here(t, m)
		for _, c := range cases {
			session(t, m, db, cmp.Or(c.Session, "DO 0"), c.Insert(c.Name))
		}
		x := read(t, config(m, db), from)
		for _, c := range cases {
			txn := x.txn()
			t.Run(c.Name, func(t *testing.T) { checkCase(t, m, db, c, &txn.Payload) })
		}
	})
}

func checkCase(t *testing.T, m *servers.MySQL, db string, c types.Case, p *event.Transaction) {
	if len(p.Tables) != 1 || p.Tables[0].Name != c.Name || len(p.Rows) != len(c.Rows()) {
		t.Fatalf("got tables %+v and %d rows", p.Tables, len(p.Rows))
	}
	column := p.Tables[0].Columns[1]
	if string(column.Type) != c.Type {
		t.Errorf("type is %s, want %s", column.Type, c.Type)
	}
	if strings.Contains(c.Column, "UNSIGNED") != column.Unsigned && !strings.Contains(c.Column, "ZEROFILL") {
		t.Errorf("unsigned is %v", column.Unsigned)
	}
	rows, err := m.Admin(db).QueryContext(t.Context(), fmt.Sprintf("SELECT id, %s FROM %s ORDER BY id", c.Expr("v"), sqldb.Quote(c.Name)))
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	for i := 0; rows.Next(); i++ {
		var id int
		var want *string
		if err := rows.Scan(&id, &want); err != nil {
			t.Fatal(err)
		}
		v := p.Rows[i].After[1]
		if want == nil {
			if v.Kind != event.Null {
				t.Errorf("row %d is %+v, want NULL", id, v)
			}
			continue
		}
		got := show(c, column, v)
		if strings.Contains(c.Compare, "JSON_TYPE") {
			checkTyped(t, m.Admin(db), c, id, v)
			if strings.HasPrefix(*want, got+" ") {
				continue
			}
		}
		if !same(column, got, *want) {
			t.Errorf("row %d (%.100s) is %.300q, the server shows %.300q", id, c.Rows()[i], got, *want)
		}
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
}

// checkTyped asks the server about the values inside JSON whose type the event tells.
func checkTyped(t *testing.T, db *sql.DB, c types.Case, id int, v event.Value) {
	t.Helper()
	if v.Typed == nil {
		t.Errorf("row %d (%.100s) has no typed values", id, c.Rows()[id-1])
		return
	}
	names := map[event.Type]string{
		event.Decimal: "DECIMAL", event.Date: "DATE", event.Time: "TIME", event.DateTime: "DATETIME", event.Timestamp: "TIMESTAMP", event.Bit: "BIT",
	}
	for _, x := range *v.Typed {
		var typ, text string
		q := "SELECT JSON_TYPE(JSON_EXTRACT(v, ?)), JSON_UNQUOTE(JSON_EXTRACT(v, ?)) FROM " + sqldb.Quote(c.Name) + " WHERE id = ?"
		if err := db.QueryRowContext(t.Context(), q, x.Path, x.Path, id).Scan(&typ, &text); err != nil {
			t.Errorf("row %d, %s: %v", id, x.Path, err)
			continue
		}
		if strings.HasPrefix(text, "base64:") {
			raw, err := base64.StdEncoding.DecodeString(text[strings.LastIndexByte(text, ':')+1:])
			if err != nil {
				t.Error(err)
			}
			text = string(raw)
		}
		if typ != cmp.Or(names[x.Type], "BLOB") || text != x.Text {
			t.Errorf("row %d, %s: %s %.100q, the server has %s %.100q", id, x.Path, x.Type, x.Text, typ, text)
		}
	}
}

// show prints a value as the case's Compare does.
func show(c types.Case, column event.Column, v event.Value) string {
	text := string(v.Data)
	if strings.Contains(c.Compare, "HEX(") {
		text = strings.ToUpper(hex.EncodeToString(v.Data))
	}
	if column.Type == event.Enum && strings.HasPrefix(c.Compare, "CONCAT") {
		index := 0
		for i, l := range column.Labels {
			if v.Kind == event.Data && l == string(v.Data) {
				index = i + 1
			}
		}
		text += " " + strconv.Itoa(index)
	}
	return text
}

func same(column event.Column, got, want string) bool {
	switch column.Type {
	case event.Float:
		a, err1 := strconv.ParseFloat(got, 32)
		b, err2 := strconv.ParseFloat(want, 64)
		return err1 == nil && err2 == nil && float32(a) == float32(b)
	case event.Double:
		a, err1 := strconv.ParseFloat(got, 64)
		b, err2 := strconv.ParseFloat(want, 64)
		return err1 == nil && err2 == nil && a == b
	}
	return got == want
}
