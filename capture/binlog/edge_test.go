package binlog_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tandem-dc/tandem/capture/binlog"
	"github.com/tandem-dc/tandem/shared/sqldb"
	"github.com/tandem-dc/tandem/testbench/link"
	"github.com/tandem-dc/tandem/testbench/servers"
)

// refused waits for a StopError that tells what to do.
func refused(t *testing.T, x *reading, words ...string) {
	t.Helper()
	err := x.failure()
	var stop *binlog.StopError
	if !errors.As(err, &stop) {
		t.Fatalf("the reader ends with %v, want a StopError", err)
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("%q does not say %q", err, w)
		}
	}
}

func TestXATransactions(t *testing.T) {
	servers.EachFlavor(t, func(t *testing.T, m *servers.MySQL) {
		db := m.NewDatabase(t)
		exec(t, m.Admin(db), "CREATE TABLE a (id INT PRIMARY KEY)")
		from := here(t, m)
		x := read(t, config(m, db), from)
		session(t, m, db, "XA START 'one'", "INSERT INTO a VALUES (1)", "XA END 'one'", "XA COMMIT 'one' ONE PHASE")
		if got := print(&x.txn().Payload); got != "ac(>1)" {
			t.Errorf("one phase: %s", got)
		}
		session(t, m, db, "XA START 'two','b',7", "INSERT INTO a VALUES (2)", "XA END 'two','b',7", "XA PREPARE 'two','b',7")
		session(t, m, db, "XA START 'three'", "INSERT INTO a VALUES (3)", "XA END 'three'", "XA PREPARE 'three'")
		session(t, m, db, "INSERT INTO a VALUES (4)")
		between := x.txn()
		if got := print(&between.Payload); got != "ac(>4)" {
			t.Errorf("a prepared transaction is sent: %s", got)
		}
		session(t, m, db, "XA ROLLBACK 'three'", "XA COMMIT 'two','b',7", "INSERT INTO a VALUES (5)")
		for _, want := range []string{"ac(>2)", "ac(>5)"} {
			txn := x.txn()
			if got := print(&txn.Payload); got != want {
				t.Errorf("got %s, want %s", got, want)
			}
			if want == "ac(>5)" && txn.End.GTIDSet != here(t, m).GTIDSet {
				t.Errorf("ends at %v, the server is at %v", txn.End, here(t, m))
			}
		}
		// Reading starts again between prepare and commit.
		again := read(t, config(m, db), between.End)
		if m.Flavor == sqldb.MariaDB {
			refused(t, again, "before its XA PREPARE")
			return
		}
		for _, want := range []string{"ac(>2)", "ac(>5)"} {
			if got := print(&again.txn().Payload); got != want {
				t.Errorf("after a restart got %s, want %s", got, want)
			}
		}
	})
}

func TestStatements(t *testing.T) {
	servers.EachFlavor(t, func(t *testing.T, m *servers.MySQL) {
		db := m.NewDatabase(t)
		from := here(t, m)
		session(t, m, db, "CREATE TABLE a (id INT PRIMARY KEY)", "CREATE USER 'u"+db+"'@'%'", "GRANT SELECT ON *.* TO 'u"+db+"'@'%'", "FLUSH TABLES",
			"DROP USER 'u"+db+"'@'%'", "ANALYZE TABLE a", "CREATE INDEX i ON a (id)", "CREATE TABLE mysql.x"+db+" (i INT)", "DROP TABLE mysql.x"+db,
			"SET SESSION binlog_format = STATEMENT", "INSERT INTO a VALUES (1)", "SET SESSION binlog_format = ROW",
			"CREATE TABLE c SELECT id, 7 AS v FROM a", "CREATE TEMPORARY TABLE tt (i INT)", "INSERT INTO tt VALUES (1)", "DROP TABLE tt", "DROP TABLE a, c")
		x := read(t, config(m, db), from)
		var got []string
		for len(got) == 0 || !strings.Contains(got[len(got)-1], "DROP TABLE") {
			txn := x.txn()
			if txn.Payload.Statement == nil {
				t.Fatalf("rows without a statement: %s", print(&txn.Payload))
			}
			got = append(got, fmt.Sprintf("%v %d %.25s", txn.Payload.Statement.DDL, len(txn.Payload.Rows), txn.Payload.Statement.SQL))
			if !txn.Barrier {
				t.Error("a statement is no barrier")
			}
		}
		for i, want := range []string{"true 0 CREATE TABLE a", "true 0 CREATE INDEX i", "false 0 INSERT INTO a", "false 1 CREATE", "true 0 DROP TABLE"} {
			if i >= len(got) || !strings.HasPrefix(got[i], want) {
				t.Fatalf("statements are %q, number %d should be %s", got, i, want)
			}
		}
	})
}

func TestWithoutFullMetadata(t *testing.T) {
	for _, f := range servers.Flavors {
		t.Run(string(f), func(t *testing.T) {
			m, err := servers.StartMySQL(t.Context(), servers.MySQLOptions{Flavor: f, Flags: []string{"--binlog-row-metadata=MINIMAL"}})
			if err != nil {
				t.Fatal(err)
			}
			defer m.Close()
			db := m.NewDatabase(t)
			exec(t, m.Admin(db), "CREATE TABLE a (id BIGINT UNSIGNED PRIMARY KEY, e ENUM('x','it''s'), s SET('a','b'), b BINARY(3), v VARCHAR(9) CHARACTER SET gbk)")
			from := here(t, m)
			session(t, m, db, "INSERT INTO a VALUES (18446744073709551615, 'it''s', 'a,b', X'0100', '双')")
			x := read(t, config(m, db), from)
			p := x.txn().Payload
			if got, want := print(&p), "ac(>18446744073709551615,it's,a,b,\x01\x00\x00,\xcb\xab)"; got != want {
				t.Errorf("got %q, want %q", got, want)
			}
			if c := p.Tables[0].Columns; c[4].Name != "v" || c[4].Charset != "gbk" || !slices.Equal(p.Tables[0].Key, []int{0}) {
				t.Errorf("table is %+v", p.Tables[0])
			}
			exec(t, m.Admin(db), "ALTER TABLE a DROP COLUMN s")
			refused(t, read(t, config(m, db), from), "binlog_row_metadata=FULL", db+".a", "5 columns")
		})
	}
}

func TestPartialJSONIsRefused(t *testing.T) {
	m := servers.MySQLForTest(t, sqldb.MySQL)
	db := m.NewDatabase(t)
	exec(t, m.Admin(db), "CREATE TABLE a (id INT PRIMARY KEY, j JSON)", `INSERT INTO a VALUES (1, '{"a": "0123456789012345678901234567890123456789", "b": 1}')`)
	from := here(t, m)
	session(t, m, db, "SET binlog_row_value_options = PARTIAL_JSON", "UPDATE a SET j = '[1]'", "UPDATE a SET j = JSON_OBJECT('a', REPEAT('x', 100), 'b', 2)",
		"UPDATE a SET j = JSON_SET(j, '$.b', 3)")
	x := read(t, config(m, db), from)
	x.txn()
	x.txn()
	refused(t, x, "binlog_row_value_options", "binlog.")
}

func TestTransactionsThatAreTooLarge(t *testing.T) {
	servers.EachFlavor(t, func(t *testing.T, m *servers.MySQL) {
		db := m.NewDatabase(t)
		exec(t, m.Admin(db), "CREATE TABLE a (id INT PRIMARY KEY, v LONGTEXT)")
		from := here(t, m)
		session(t, m, db, "INSERT INTO a VALUES (1, REPEAT('x', 100000))", "INSERT INTO a VALUES (2, REPEAT('x', 300000))")
		cfg := config(m, db)
		cfg.MaxTxnBytes = 200_000
		x := read(t, cfg, from)
		x.txn()
		refused(t, x, "max-txn-bytes")
		if m.Flavor == sqldb.MySQL {
			end := here(t, m)
			session(t, m, db, "SET SESSION binlog_transaction_compression = ON", "INSERT INTO a VALUES (3, REPEAT('x', 300000))")
			refused(t, read(t, cfg, end), "max-txn-bytes")
		}
	})
}

func TestPurgedBinlog(t *testing.T) {
	for _, f := range servers.Flavors {
		t.Run(string(f), func(t *testing.T) {
			m, err := servers.StartMySQL(t.Context(), servers.MySQLOptions{Flavor: f})
			if err != nil {
				t.Fatal(err)
			}
			defer m.Close()
			db := m.NewDatabase(t)
			exec(t, m.Admin(db), "CREATE TABLE a (id INT PRIMARY KEY)")
			from := here(t, m)
			exec(t, m.Admin(db), "INSERT INTO a VALUES (1)", "FLUSH BINARY LOGS", "INSERT INTO a VALUES (2)", "FLUSH BINARY LOGS")
			exec(t, m.Admin(db), fmt.Sprintf("PURGE BINARY LOGS TO '%s'", here(t, m).File))
			refused(t, read(t, config(m, db), from), "1236", "restore")
			from.GTIDSet = ""
			refused(t, read(t, config(m, db), from), "1236")
		})
	}
}

func TestIdleSourceTellsThatItLives(t *testing.T) {
	servers.EachFlavor(t, func(t *testing.T, m *servers.MySQL) {
		from := here(t, m)
		x := read(t, config(m), from)
		var last time.Time
		for range 3 {
			i := x.any()
			if i.Skipped == binlog.Idle && i.Position.GTIDSet != from.GTIDSet {
				t.Errorf("a heartbeat moves the position from %v to %v", from, i.Position)
			}
			if !i.Time.After(last) {
				t.Errorf("time %v does not go on from %v", i.Time, last)
			}
			last = i.Time
		}
	})
}

// A link that goes silent without a word must end the Run, and a context that ends
// must do so at once, even then.
func TestSilentLink(t *testing.T) {
	servers.EachFlavor(t, func(t *testing.T, m *servers.MySQL) {
		l, err := link.New(m.Addr(), link.Options{})
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		cfg := config(m)
		cfg.MySQL.Addr = l.Addr()
		from := here(t, m)
		x := read(t, cfg, from)
		y := read(t, cfg, from)
		x.any()
		y.any()
		if err := l.Hang(); err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		if err := y.end(); err == nil || time.Since(began) > 3*time.Second {
			t.Errorf("ending took %v: %v", time.Since(began), err)
		}
		err = x.failure()
		var stop *binlog.StopError
		if err == nil || errors.As(err, &stop) {
			t.Errorf("a silent link ends the reader with %v", err)
		}
	})
}

func TestServersWithoutGTIDs(t *testing.T) {
	m, err := servers.StartMySQL(t.Context(), servers.MySQLOptions{Flags: []string{"--gtid-mode=OFF", "--enforce-gtid-consistency=OFF"}})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	db := m.NewDatabase(t)
	exec(t, m.Admin(db), "CREATE TABLE a (id INT PRIMARY KEY)")
	from := here(t, m)
	if from.GTIDSet != "" {
		t.Fatalf("position is %v", from)
	}
	session(t, m, db, "INSERT INTO a VALUES (1)", "FLUSH BINARY LOGS", "INSERT INTO a VALUES (2)")
	for _, want := range []string{"ac(>1)", "ac(>2)"} {
		x := read(t, config(m), from)
		txn := x.txn()
		if got := print(&txn.Payload); got != want || txn.Payload.GTID != "" || len(txn.Payload.Server) != 36 || txn.CommitTime.Nanosecond()%1000 != 0 {
			t.Errorf("got %s of %+v at %v", got, txn.Payload, txn.CommitTime)
		}
		from = txn.End
		x.end()
	}
}

// MariaDB's set holds one GTID for each domain, whatever servers wrote there.
func TestMariaDBDomains(t *testing.T) {
	m := servers.MySQLForTest(t, sqldb.MariaDB)
	db := m.NewDatabase(t)
	exec(t, m.Admin(db), "CREATE TABLE a (id INT PRIMARY KEY)")
	from := here(t, m)
	session(t, m, db, "SET gtid_domain_id = 7, server_id = 99", "INSERT INTO a VALUES (1)", "SET gtid_domain_id = 7, server_id = 98", "INSERT INTO a VALUES (2)",
		"SET gtid_domain_id = 0", "INSERT INTO a VALUES (3)", "INSERT INTO a VALUES (4)")
	for i := 1; i <= 4; i++ {
		x := read(t, config(m, db), from)
		txn := x.txn()
		if got, want := print(&txn.Payload), fmt.Sprintf("ac(>%d)", i); got != want {
			t.Fatalf("behind %v comes %s, want %s", from, got, want)
		}
		from = txn.End
		x.end()
	}
	if strings.Count(from.GTIDSet, "7-") != 1 || !strings.Contains(from.GTIDSet, "7-98-") {
		t.Errorf("set is %s", from.GTIDSet)
	}
}

// GTIDs with tags cannot be asked for; the file and position serve instead.
func TestTaggedGTIDs(t *testing.T) {
	m, err := servers.StartMySQL(t.Context(), servers.MySQLOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	db := m.NewDatabase(t)
	exec(t, m.Admin(db), "CREATE TABLE a (id INT PRIMARY KEY)")
	from := here(t, m)
	session(t, m, db, "SET gtid_next = 'AUTOMATIC:blue'", "INSERT INTO a VALUES (1)", "SET gtid_next = 'AUTOMATIC'", "INSERT INTO a VALUES (2)")
	for i, want := range []string{"ac(>1)", "ac(>2)"} {
		x := read(t, config(m), from)
		txn := x.txn()
		if got := print(&txn.Payload); got != want || strings.Contains(txn.Payload.GTID, ":blue:") != (i == 0) {
			t.Errorf("got %s with GTID %s, want %s", got, txn.Payload.GTID, want)
		}
		from = txn.End
		x.end()
	}
	if p := here(t, m); p.GTIDSet != "" || p.File == "" {
		t.Errorf("position is %v", p)
	}
}

func TestCheck(t *testing.T) {
	servers.EachFlavor(t, func(t *testing.T, m *servers.MySQL) {
		if err := binlog.Check(t.Context(), m.Admin("")); err != nil {
			t.Error(err)
		}
		exec(t, m.Admin(""), "SET GLOBAL binlog_row_image = MINIMAL")
		defer exec(t, m.Admin(""), "SET GLOBAL binlog_row_image = FULL")
		if err := binlog.Check(t.Context(), m.Admin("")); err == nil || !strings.Contains(err.Error(), "binlog_row_image=FULL") {
			t.Errorf("got %v", err)
		}
	})
}

func TestWhatCannotStart(t *testing.T) {
	m := servers.MySQLForTest(t, sqldb.MySQL)
	from := here(t, m)
	for want, spoil := range map[string]func(c *binlog.Config){
		"flavor":    func(c *binlog.Config) { c.Flavor = sqldb.MariaDB },
		"server-id": func(c *binlog.Config) { c.ServerID = m.ServerID },
		"1045":      func(c *binlog.Config) { c.MySQL.Password = "wrong" },
		"refused":   func(c *binlog.Config) { c.MySQL.Addr = "127.0.0.1:1" },
	} {
		cfg := config(m)
		spoil(&cfg)
		if err := read(t, cfg, from).failure(); err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), cfg.MySQL.Password) {
			t.Errorf("want an error that says %s, got %v", want, err)
		}
	}
}
