package binlog_test

import (
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tandem-dc/tandem/capture/binlog"
	"github.com/tandem-dc/tandem/shared/event"
	"github.com/tandem-dc/tandem/shared/ledger"
	"github.com/tandem-dc/tandem/shared/sqldb"
	"github.com/tandem-dc/tandem/testbench/servers"
)

// print shows rows as op(before->after), values joined by commas.
func print(p *event.Transaction) string {
	var out []string
	image := func(values []event.Value) string {
		var s []string
		for _, v := range values {
			s = append(s, map[event.Kind]string{event.Absent: "?", event.Null: "NULL", event.Zero: "0", event.Data: string(v.Data)}[v.Kind])
		}
		return strings.Join(s, ",")
	}
	if p.Statement != nil {
		out = append(out, p.Statement.SQL)
	}
	for _, r := range p.Rows {
		out = append(out, fmt.Sprintf("%s%c(%s>%s)", p.Tables[r.Table].Name, r.Op, image(r.Before), image(r.After)))
	}
	return strings.Join(out, " ")
}

func TestTransactionsAreWholeAndCarryTheirPlace(t *testing.T) {
	servers.EachFlavor(t, func(t *testing.T, m *servers.MySQL) {
		db := m.NewDatabase(t)
		exec(t, m.Admin(db), "CREATE TABLE a (id INT PRIMARY KEY, v VARCHAR(9))", "CREATE TABLE b (k BIGINT UNSIGNED, u INT NOT NULL, UNIQUE (u))")
		from := here(t, m)
		x := read(t, config(m, db), from)
		before := time.Now().Add(-time.Second)
		session(t, m, db, "BEGIN", "INSERT INTO a VALUES (1, 'x'), (2, NULL)", "INSERT INTO b VALUES (18446744073709551615, 7)",
			"UPDATE a SET v = 'y' WHERE id = 1", "DELETE FROM a WHERE id = 2", "COMMIT")
		txn := x.txn()
		p := &txn.Payload
		want := "ac(>1,x) ac(>2,NULL) bc(>18446744073709551615,7) au(1,x>1,y) ad(2,NULL>)"
		if got := print(p); got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
		if k := p.Tables[0].Key; !slices.Equal(k, []int{0}) {
			t.Errorf("key of a is %v", k)
		}
		if k := p.Tables[1].Key; !slices.Equal(k, []int{1}) {
			t.Errorf("key of b is %v", k)
		}
		if p.GTID == "" || p.Server == "" || p.File == "" || p.Pos == 0 || txn.End.GTIDSet == "" || txn.End.File != p.File || txn.End.Pos != p.Pos || txn.Size < 100 {
			t.Errorf("place is incomplete: %+v, end %v, size %d", p, txn.End, txn.Size)
		}
		if txn.CommitTime.Before(before) || txn.CommitTime.After(time.Now().Add(time.Second)) {
			t.Errorf("commit time %v is not now", txn.CommitTime)
		}
		if txn.Barrier || len(txn.Keys) == 0 || txn.Applied != nil {
			t.Errorf("barrier %v, keys %v, applied %v", txn.Barrier, txn.Keys, txn.Applied)
		}
		if now := here(t, m); now.GTIDSet != txn.End.GTIDSet {
			t.Errorf("end is %v, the server is at %v", txn.End, now)
		}
		if err := x.end(); err == nil {
			t.Error("no error after the context ended")
		}
	})
}

// workload makes transactions of all shapes, and returns how many are to be sent.
func workload(t testing.TB, m *servers.MySQL, db string) {
	exec(t, m.Admin(db), "CREATE TABLE w (id INT PRIMARY KEY, v VARCHAR(40), b LONGBLOB)", "CREATE TABLE my (id INT PRIMARY KEY) ENGINE=MyISAM")
	for i := range 5 {
		session(t, m, db, "BEGIN", fmt.Sprintf("INSERT INTO w VALUES (%d, 'a', REPEAT('x', 20000))", i), fmt.Sprintf("UPDATE w SET v = 'b' WHERE id = %d", i), "COMMIT")
		session(t, m, db, "BEGIN", fmt.Sprintf("INSERT INTO w VALUES (%d, 'gone', NULL)", 100+i), "ROLLBACK")
		session(t, m, db, "BEGIN", fmt.Sprintf("INSERT INTO w VALUES (%d, 'c', NULL)", 200+i), "SAVEPOINT `S 1`", fmt.Sprintf("INSERT INTO w VALUES (%d, 'gone', NULL)", 300+i),
			"ROLLBACK TO `S 1`", fmt.Sprintf("INSERT INTO w VALUES (%d, 'd', NULL)", 400+i), "COMMIT")
		session(t, m, db, fmt.Sprintf("INSERT INTO my VALUES (%d)", i))
	}
	session(t, m, db, "ALTER TABLE w ADD COLUMN z INT FIRST, DROP COLUMN v", "INSERT INTO w VALUES (1, 500, NULL)", "TRUNCATE TABLE my", "FLUSH BINARY LOGS",
		"INSERT INTO w VALUES (2, 501, NULL)", "RENAME TABLE w TO w2", "UPDATE w2 SET z = 3 WHERE id = 501")
}

// Whatever transaction reading starts behind, it goes on with the next one:
// nothing is lost and nothing repeated, with GTIDs and with file positions.
func TestResumeBehindEveryTransaction(t *testing.T) {
	servers.EachFlavor(t, func(t *testing.T, m *servers.MySQL) {
		db := m.NewDatabase(t)
		from := here(t, m)
		workload(t, m, db)
		session(t, m, db, "CREATE TABLE last_one (id INT)")
		all := func(from binlog.Position) (txns []*binlog.Txn) {
			x := read(t, config(m, db), from)
			defer x.end()
			for {
				txn := x.txn()
				txns = append(txns, txn)
				if s := txn.Payload.Statement; s != nil && strings.Contains(s.SQL, "last_one") {
					return txns
				}
			}
		}
		want := all(from)
		var text []string
		for _, txn := range want {
			text = append(text, fmt.Sprintf("%.150s", print(&txn.Payload)))
		}
		t.Logf("%d transactions:\n%s", len(want), strings.Join(text, "\n"))
		if len(want) < 20 || strings.Contains(strings.Join(text, "\n"), "gone") {
			t.Errorf("transactions are missing, or what was rolled back is there")
		}
		for i, txn := range want[:len(want)-1] {
			for _, from := range []binlog.Position{txn.End, {File: txn.End.File, Pos: txn.End.Pos}} {
				data, err := json.Marshal(from)
				if err != nil {
					t.Fatal(err)
				}
				var back binlog.Position
				if err := json.Unmarshal(data, &back); err != nil || back != from {
					t.Fatalf("%s reads back as %+v, %v", data, back, err)
				}
				got := all(back)
				if len(got) != len(want)-i-1 {
					t.Fatalf("%d transactions behind number %d, want %d", len(got), i, len(want)-i-1)
				}
				for j, g := range got {
					w := want[i+1+j]
					// Behind a position without GTIDs they are known from the next file on.
					if !reflect.DeepEqual(g.Payload, w.Payload) || g.End.GTIDSet != "" && g.End != w.End || g.End.GTIDSet == "" && (from.GTIDSet != "" || g.End.File != from.File) {
						t.Fatalf("transaction %d behind %v is\n%s at %v, want\n%s at %v", j, from, print(&g.Payload), g.End, print(&w.Payload), w.End)
					}
				}
			}
		}
	})
}

func TestOnlyLocalTransactionsAreSent(t *testing.T) {
	servers.EachFlavor(t, func(t *testing.T, m *servers.MySQL) {
		db := m.NewDatabase(t)
		if err := ledger.Migrate(t.Context(), m.Admin("")); err != nil {
			t.Fatal(err)
		}
		if err := ledger.Fill(t.Context(), m.Admin(""), "guangzhou"); err != nil {
			t.Fatal(err)
		}
		exec(t, m.Admin(db), "CREATE TABLE a (id INT PRIMARY KEY, v INT)")
		claim := func(seq int) string {
			return fmt.Sprintf("UPDATE tandem.ledger SET epoch = 2, seq = %d, gtid = 'g', committed_us = 1 WHERE origin = 'guangzhou' AND slot = %d", seq, seq)
		}
		session(t, m, db, claim(1), claim(2))
		from := here(t, m)
		x := read(t, config(m), from)
		x.any() // an idle source: what the ledger held before is known from now on
		session(t, m, db, "BEGIN", claim(3), "INSERT INTO a VALUES (1, 1)", "COMMIT")
		session(t, m, db, "INSERT INTO a VALUES (2, 1)")
		session(t, m, db, "BEGIN", claim(5), claim(6), "INSERT INTO a VALUES (5, 1)", "COMMIT")
		session(t, m, db, "INSERT INTO a VALUES (3, 1)")
		session(t, m, db, claim(4))
		session(t, m, db, "BEGIN", "INSERT INTO a VALUES (4, 1)", "INSERT INTO tandem.stream (origin) VALUES ('x') ON DUPLICATE KEY UPDATE seq = seq + 1", "COMMIT")
		session(t, m, db, "/* tandem origin=guangzhou */ ALTER TABLE a ADD COLUMN w INT", "UPDATE tandem.stream SET seq = seq + 1")
		session(t, m, db, "INSERT INTO a VALUES (9, 1, 1)")
		var got []string
		for {
			i := x.next()
			s := string(i.Skipped)
			if i.Txn != nil {
				s = print(&i.Txn.Payload)
				if !reflect.DeepEqual(i.Txn.Applied, i.Applied) {
					t.Errorf("transaction has the marks %v, its item %v", i.Txn.Applied, i.Applied)
				}
			}
			got = append(got, fmt.Sprint(s, i.Applied))
			if strings.HasPrefix(s, "ac(>9") {
				break
			}
		}
		want := []string{
			"replicated[{guangzhou 2 3}]", "ac(>2,1)[{guangzhou 2 3}]", "replicated[{guangzhou 2 3}]", "ac(>3,1)[{guangzhou 2 3}]",
			"replicated[{guangzhou 2 6}]", "ac(>4,1)[{guangzhou 2 6}]", "replicated[{guangzhou 2 6}]", "filtered[{guangzhou 2 6}]", "ac(>9,1,1)[{guangzhou 2 6}]",
		}
		if !slices.Equal(got, want) {
			t.Errorf("got  %q\nwant %q", got, want)
		}
	})
}

// A table that has changed since its rows were written is read as it was.
func TestDDLInMidStream(t *testing.T) {
	servers.EachFlavor(t, func(t *testing.T, m *servers.MySQL) {
		db := m.NewDatabase(t)
		from := here(t, m)
		session(t, m, db, "CREATE TABLE a (id INT PRIMARY KEY, b VARCHAR(9) CHARACTER SET gbk, e ENUM('p','q'))", "INSERT INTO a VALUES (1, '双', 'q')",
			"ALTER TABLE a DROP COLUMN b, ADD COLUMN z INT UNSIGNED FIRST, MODIFY e ENUM('q','p')", "INSERT INTO a VALUES (4294967295, 2, 'q')",
			"DROP TABLE a", "CREATE TABLE a (x VARCHAR(9), y DATE)", "INSERT INTO a VALUES ('r', '2024-01-01')", "DROP TABLE a")
		x := read(t, config(m, db), from)
		var got []string
		for range 8 {
			txn := x.txn()
			if txn.Payload.Statement != nil {
				if !txn.Barrier || !txn.Payload.Statement.DDL || txn.Payload.Statement.DB != db {
					t.Errorf("statement %+v, barrier %v", txn.Payload.Statement, txn.Barrier)
				}
				continue
			}
			if len(txn.Keys) == 0 {
				t.Error("no keys")
			}
			got = append(got, print(&txn.Payload))
		}
		want := []string{"ac(>1,\xcb\xab,q)", "ac(>4294967295,2,q)", "ac(>r,2024-01-01)"}
		if !slices.Equal(got, want) {
			t.Errorf("got %q, want %q", got, want)
		}
	})
}

func TestCompressedTransactions(t *testing.T) {
	servers.EachFlavor(t, func(t *testing.T, m *servers.MySQL) {
		db := m.NewDatabase(t)
		exec(t, m.Admin(db), "CREATE TABLE a (id INT PRIMARY KEY, v LONGTEXT, ts TIMESTAMP(6) NULL, u INT UNSIGNED)")
		from := here(t, m)
		on := "SET SESSION binlog_transaction_compression = ON"
		if m.Flavor == sqldb.MariaDB {
			on = "SET GLOBAL log_bin_compress = ON"
			defer exec(t, m.Admin(""), "SET GLOBAL log_bin_compress = OFF")
		}
		session(t, m, db, on, "SET time_zone = '+08:00'", "BEGIN", "INSERT INTO a VALUES (1, REPEAT('双', 9000), '2024-03-31 02:30:00.5', 4294967295)",
			"UPDATE a SET id = 2", "DELETE FROM a", "COMMIT", "ALTER TABLE a COMMENT '"+strings.Repeat("x", 900)+"'", "INSERT INTO a (id) VALUES (3)")
		x := read(t, config(m, db), from)
		long := strings.Repeat("双", 9000) + ",2024-03-30 18:30:00.500000,4294967295"
		want := []string{"ac(>1," + long + ") au(1," + long + ">2," + long + ") ad(2," + long + ">)",
			"ALTER TABLE a COMMENT '" + strings.Repeat("x", 900) + "'", "ac(>3,NULL,NULL,NULL)"}
		for i, w := range want {
			txn := x.txn()
			if got := print(&txn.Payload); got != w {
				t.Errorf("transaction %d is %.200s ...", i, got)
			}
			if txn.Payload.Pos == 0 || txn.End.GTIDSet == "" {
				t.Errorf("transaction %d ends at %v", i, txn.End)
			}
		}
	})
}

func TestRowImagesThatAreNotFull(t *testing.T) {
	servers.EachFlavor(t, func(t *testing.T, m *servers.MySQL) {
		db := m.NewDatabase(t)
		exec(t, m.Admin(db), "CREATE TABLE a (id INT PRIMARY KEY, v INT, w INT, t TEXT)", "INSERT INTO a VALUES (1, 1, 1, 't')")
		from := here(t, m)
		session(t, m, db, "SET SESSION binlog_row_image = MINIMAL", "UPDATE a SET v = NULL WHERE id = 1", "DELETE FROM a WHERE id = 1", "INSERT INTO a (id, w) VALUES (2, 2)",
			"SET SESSION binlog_row_image = NOBLOB", "UPDATE a SET v = 3 WHERE id = 2")
		x := read(t, config(m, db), from)
		for _, want := range []string{"au(1,?,?,?>?,NULL,?,?)", "ad(1,?,?,?>)", "", "au(2,NULL,2,?>2,3,2,?)"} {
			if got := print(&x.txn().Payload); want != "" && got != want {
				t.Errorf("got %s, want %s", got, want)
			}
		}
	})
}
