package apply_test

import (
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/tandem-dc/tandem/shared/event"
	"github.com/tandem-dc/tandem/shared/sqldb"
)

type typed struct {
	ddl    string
	column event.Column
	a, b   string // HEX() or text of two values, as the event has them
	hex    bool   // compare by HEX
}

func hexOf(s string) string {
	const digits = "0123456789ABCDEF"
	var b strings.Builder
	for i := range len(s) {
		b.WriteByte(digits[s[i]>>4])
		b.WriteByte(digits[s[i]&15])
	}
	return b.String()
}

// Every type is written exactly, found again by its before image, changed and
// deleted, without a conflict.
func TestTypes(t *testing.T) {
	point := func(x byte) string {
		return "\xe6\x10\x00\x00\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00" + string([]byte{x}) + "\x00\x00\x00\x00\x00\x00\x00\x40"
	}
	types := []typed{
		{ddl: "TINYINT", column: event.Column{Type: event.TinyInt}, a: "-128", b: "127"},
		{ddl: "TINYINT UNSIGNED", column: event.Column{Type: event.TinyInt, Unsigned: true}, a: "255", b: "0"},
		{ddl: "BIGINT", column: event.Column{Type: event.BigInt}, a: "-9223372036854775808", b: "9223372036854775807"},
		{ddl: "BIGINT UNSIGNED", column: event.Column{Type: event.BigInt, Unsigned: true}, a: "18446744073709551615", b: "9223372036854775808"},
		{ddl: "DECIMAL(65,30)", column: event.Column{Type: event.Decimal}, a: "12345678901234567890123456789012345.123456789012345678901234567890", b: "-0.000000000000000000000000000001"},
		{ddl: "FLOAT", column: event.Column{Type: event.Float}, a: "0.1", b: "3.4028235e+38"},
		{ddl: "DOUBLE", column: event.Column{Type: event.Double}, a: "0.1", b: "-1.7976931348623157e+308"},
		{ddl: "BIT(64)", column: event.Column{Type: event.Bit, Length: 64}, a: "18446744073709551615", b: "9223372036854775808", hex: true},
		{ddl: "YEAR", column: event.Column{Type: event.Year}, a: "0000", b: "2155"},
		{ddl: "DATE", column: event.Column{Type: event.Date}, a: "0000-00-00", b: "2024-02-31"},
		{ddl: "TIME(6)", column: event.Column{Type: event.Time, Length: 6}, a: "-838:59:59.000000", b: "-00:00:00.500000"},
		{ddl: "DATETIME", column: event.Column{Type: event.DateTime}, a: "0000-00-00 00:00:00", b: "9999-12-31 23:59:59"},
		{ddl: "DATETIME(6)", column: event.Column{Type: event.DateTime, Length: 6}, a: "2024-00-00 00:00:00.000000", b: "2024-03-31 02:30:00.000001"},
		{ddl: "TIMESTAMP(6) NULL", column: event.Column{Type: event.Timestamp, Length: 6}, a: "0000-00-00 00:00:00.000000", b: "2024-03-31 02:30:00.000001"},
		{ddl: "CHAR(9) CHARACTER SET gbk", column: event.Column{Type: event.Char, Charset: "gbk"}, a: "\xcb\xab\xbb\xee", b: "\x81\x5c", hex: true},
		{ddl: "VARCHAR(9) CHARACTER SET latin1", column: event.Column{Type: event.VarChar, Charset: "latin1"}, a: "\xe9'\\", b: "e ", hex: true},
		{ddl: "VARCHAR(9) CHARACTER SET utf8mb4", column: event.Column{Type: event.VarChar, Charset: "utf8mb4"}, a: "双😀é", b: "", hex: true},
		{ddl: "VARCHAR(9) CHARACTER SET utf16", column: event.Column{Type: event.VarChar, Charset: "utf16"}, a: "\xd8\x3d\xde\x00", b: "\x00a", hex: true},
		{ddl: "TEXT CHARACTER SET big5", column: event.Column{Type: event.Text, Charset: "big5"}, a: "\xa5\x5c", b: "x", hex: true},
		{ddl: "BINARY(4)", column: event.Column{Type: event.Binary, Length: 4}, a: "a\x00\x00\x00", b: "\x00\xff\x00\x00", hex: true},
		{ddl: "VARBINARY(9)", column: event.Column{Type: event.VarBinary}, a: "\x00\xff'\\", b: "", hex: true},
		{ddl: "LONGBLOB", column: event.Column{Type: event.Blob}, a: strings.Repeat("\x00\xff", 5000), b: "", hex: true},
		{ddl: "ENUM('a','é') CHARACTER SET latin1", column: event.Column{Type: event.Enum, Charset: "latin1", Labels: []string{"a", "\xe9"}}, a: "\xe9", b: "a", hex: true},
		{ddl: "ENUM('a','b') CHARACTER SET utf8mb4", column: event.Column{Type: event.Enum, Charset: "utf8mb4"}, a: "ZERO", b: "b"},
		{ddl: "SET('x','y','z') CHARACTER SET utf8mb4", column: event.Column{Type: event.Set, Charset: "utf8mb4"}, a: "x,z", b: ""},
		{ddl: "JSON", column: event.Column{Type: event.JSON}, a: `{"a": "双", "d": 1.5}`, b: `[1, null, "\u0000"]`},
		{ddl: "POINT", column: event.Column{Type: event.Geometry}, a: point(1), b: point(2), hex: true},
	}
	eachWorld(t, func(t *testing.T, w *world) {
		types := types
		if w.m.Flavor == sqldb.MySQL {
			types = append(slices.Clone(types), typed{ddl: "VECTOR(2)", column: event.Column{Type: event.Vector, Length: 8}, a: "\x00\x00\x80\x3f\x00\x00\x00\x40", b: "\x00\x00\x00\x00\x00\x00\x00\x00", hex: true})
		}
		i := w.start()
		seq := uint64(0)
		for k, c := range types {
			name := "t" + strconv.Itoa(k)
			w.exec("CREATE TABLE " + name + " (id INT PRIMARY KEY, v " + c.ddl + ")")
			c.column.Name = "v"
			tab := &event.Table{DB: w.name, Name: name, Key: []int{0}, Columns: []event.Column{{Name: "id", Type: event.Int}, c.column}}
			a, b := row("1", c.a), row("1", c.b)
			step := func(want string, ch change) {
				t.Helper()
				seq++
				i.must(w.txn(seq, seq-1, ch))
				q := "SELECT CONCAT(v) FROM " + name
				if c.hex {
					q = "SELECT HEX(v) FROM " + name
					want = hexOf(want)
					if c.column.Type == event.Bit {
						want = map[string]string{c.a: "FFFFFFFFFFFFFFFF", c.b: "8000000000000000"}[string(ch.after[1].Data)]
					}
				}
				if want == "ZERO" {
					q, want = "SELECT v + 0 FROM "+name, "0"
				}
				if c.column.Type == event.Float || c.column.Type == event.Double {
					q, want = "SELECT v + 0E0 FROM "+name, exactFloat(t, c.column.Type, want)
				}
				if got := w.query(q); got != want && (c.column.Type != event.Float && c.column.Type != event.Double || exactFloat(t, event.Double, got) != want) {
					t.Errorf("%s: column holds %.80q, want %.80q", c.ddl, got, want)
				}
			}
			step(c.a, insert(tab, "1", c.a))
			step(c.b, update(tab, a, b))
			step(c.a, update(tab, b, a))
			seq++
			i.must(w.txn(seq, seq-1, remove(tab, "1", c.a), insert(tab, "2", "NULL"), update(tab, row("2", "NULL"), row("2", c.b)), update(tab, row("2", c.b), row("2", "NULL")), remove(tab, "2", "NULL")))
			w.want("0", "SELECT COUNT(*) FROM "+name)
			w.want("", "SELECT CONCAT(kind, ' ', local_image, before_image) FROM tandem.conflict_log WHERE origin = ?", w.origin)
			w.want("", "SELECT reason FROM tandem.dead_letter WHERE origin = ?", w.origin)
			if t.Failed() {
				t.Fatalf("stopped at %s", c.ddl)
			}
		}
	})
}

// exactFloat is the shortest text of the double that a value of the type is.
func exactFloat(t *testing.T, typ event.Type, s string) string {
	bits := 64
	if typ == event.Float {
		bits = 32
	}
	f, err := strconv.ParseFloat(s, bits)
	if err != nil {
		t.Fatal(err)
	}
	return strconv.FormatFloat(f, 'g', -1, 64)
}

// The same as keys: the index must find them.
func TestTypesAsKeys(t *testing.T) {
	keys := []typed{
		{ddl: "BIGINT UNSIGNED", column: event.Column{Type: event.BigInt, Unsigned: true}, a: "18446744073709551615"},
		{ddl: "DECIMAL(40,10)", column: event.Column{Type: event.Decimal}, a: "123456789012345678901234567890.0123456789"},
		{ddl: "DOUBLE", column: event.Column{Type: event.Double}, a: "0.1"},
		{ddl: "FLOAT", column: event.Column{Type: event.Float}, a: "0.1"},
		{ddl: "DATE", column: event.Column{Type: event.Date}, a: "0000-00-00"},
		{ddl: "TIME(3)", column: event.Column{Type: event.Time}, a: "-00:00:00.500"},
		{ddl: "YEAR", column: event.Column{Type: event.Year}, a: "0000"},
		{ddl: "BINARY(4)", column: event.Column{Type: event.Binary}, a: "a\x00\x00\x00"},
		{ddl: "CHAR(9) CHARACTER SET gbk", column: event.Column{Type: event.Char, Charset: "gbk"}, a: "\xcb\xab\xbb\xee"},
		{ddl: "VARCHAR(9) CHARACTER SET utf16", column: event.Column{Type: event.VarChar, Charset: "utf16"}, a: "\xd8\x3d\xde\x00"},
		{ddl: "VARCHAR(9) CHARACTER SET utf8mb4", column: event.Column{Type: event.VarChar, Charset: "utf8mb4"}, a: "Á "},
		{ddl: "ENUM('a','b')", column: event.Column{Type: event.Enum, Charset: "utf8mb4"}, a: "b"},
		{ddl: "ENUM('a','b')", column: event.Column{Type: event.Enum, Charset: "utf8mb4"}, a: "ZERO"},
		{ddl: "BIT(9)", column: event.Column{Type: event.Bit, Length: 9}, a: "257"},
	}
	eachWorld(t, func(t *testing.T, w *world) {
		i := w.start()
		for k, c := range keys {
			name := "k" + strconv.Itoa(k)
			w.exec("CREATE TABLE " + name + " (k " + c.ddl + " PRIMARY KEY, n INT)")
			c.column.Name = "k"
			tab := &event.Table{DB: w.name, Name: name, Key: []int{0}, Columns: []event.Column{c.column, {Name: "n", Type: event.Int}}}
			seq := uint64(3*k + 1)
			i.must(w.txn(seq, seq-1, insert(tab, c.a, "1")), w.txn(seq+1, seq, update(tab, row(c.a, "1"), row(c.a, "2"))))
			w.want("2", "SELECT n FROM "+name)
			i.must(w.txn(seq+2, seq+1, remove(tab, c.a, "2")))
			w.want("0", "SELECT COUNT(*) FROM "+name)
		}
		w.want("", "SELECT CONCAT(kind, ' ', table_name) FROM tandem.conflict_log WHERE origin = ?", w.origin)
		w.want("", "SELECT reason FROM tandem.dead_letter WHERE origin = ?", w.origin)
	})
}

// Columns are matched by name; generated ones are never written; the server's
// own timestamps do not move; what is on one side only keeps its default.
func TestColumns(t *testing.T) {
	eachWorld(t, func(t *testing.T, w *world) {
		w.exec("CREATE TABLE t (extra INT NOT NULL DEFAULT 5, b INT, id INT PRIMARY KEY, g INT AS (b * 2) STORED, v INT AS (b + 1) VIRTUAL, " +
			"at TIMESTAMP(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6) ON UPDATE CURRENT_TIMESTAMP(6), here TIMESTAMP(6) NULL DEFAULT NULL ON UPDATE CURRENT_TIMESTAMP(6))")
		tab := w.table("t", "id int,b int,g int,v int,at timestamp")
		i := w.start()
		i.must(w.txn(1, 0, insert(tab, "1", "10", "20", "11", older)))
		w.want("5|10|1|20|11|"+older+"|NULL", "SELECT * FROM t")
		i.must(w.txn(2, 1, update(tab, row("1", "10", "20", "11", older), row("1", "11", "22", "12", older))))
		w.want("5|11|1|22|12|"+older+"|NULL", "SELECT * FROM t")
		// An image that is not full changes only what it holds.
		i.must(w.txn(3, 2, update(tab, row("1", "ABSENT", "ABSENT", "ABSENT", "ABSENT"), row("ABSENT", "12", "24", "13", "ABSENT"))))
		w.want("5|12|1|24|13", "SELECT extra, b, id, g, v FROM t")
		i.must(w.txn(4, 3, insert(tab, "0", "ABSENT", "ABSENT", "ABSENT", older)))
		w.want("5|NULL|0", "SELECT extra, b, id FROM t WHERE id = 0")
		w.want("", "SELECT kind FROM tandem.conflict_log WHERE origin = ?", w.origin)
	})
}

// A column may have another character set here: the characters are the same.
func TestCharacterSetsAreConverted(t *testing.T) {
	eachWorld(t, func(t *testing.T, w *world) {
		w.exec("CREATE TABLE t (id INT PRIMARY KEY, v VARCHAR(20) CHARACTER SET utf8mb4, e ENUM('双','b') CHARACTER SET utf8mb4)")
		tab := w.table("t", "id int,v varchar gbk,e enum gbk")
		i := w.start()
		i.must(w.txn(1, 0, insert(tab, "1", "\xcb\xab\xbb\xee", "\xcb\xab")),
			w.txn(2, 1, update(tab, row("1", "\xcb\xab\xbb\xee", "\xcb\xab"), row("1", "\xcb\xab", "b"))))
		w.want("双|b", "SELECT v, e FROM t")
		w.want("", "SELECT kind FROM tandem.conflict_log WHERE origin = ?", w.origin)
	})
}

// Children may come before parents: the source has proven them, and equality
// comes before referential integrity.
func TestForeignKeysAreNotChecked(t *testing.T) {
	eachWorld(t, func(t *testing.T, w *world) {
		w.exec("CREATE TABLE p (id INT PRIMARY KEY)")
		w.exec("CREATE TABLE c (id INT PRIMARY KEY, p INT, FOREIGN KEY (p) REFERENCES p (id))")
		w.start().must(w.txn(1, 0, insert(w.table("c", "id int,p int"), "1", "1")), w.txn(2, 1, insert(w.table("p", "id int"), "1")))
		w.want("1|1", "SELECT c.id, p.id FROM c JOIN p ON p.id = c.p")
	})
}

// A trigger that looks at @tandem_apply stays quiet.
func TestTriggersSeeTheVariable(t *testing.T) {
	eachWorld(t, func(t *testing.T, w *world) {
		w.exec(counterDDL)
		w.exec("CREATE TABLE audit (id INT PRIMARY KEY)")
		w.exec("CREATE TRIGGER a AFTER INSERT ON counter FOR EACH ROW BEGIN IF @tandem_apply IS NULL THEN INSERT INTO audit VALUES (NEW.id); END IF; END")
		w.start().must(w.txn(1, 0, insert(w.table("counter", counterColumns), "1", "1")))
		w.exec("INSERT INTO counter VALUES (2, 1)")
		w.want("2", "SELECT id FROM audit")
	})
}
