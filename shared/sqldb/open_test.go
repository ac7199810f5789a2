package sqldb_test

import (
	"context"
	"database/sql"
	"encoding/hex"
	"fmt"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/tandem-dc/tandem/shared/sqldb"
	"github.com/tandem-dc/tandem/shared/tlsconf"
	"github.com/tandem-dc/tandem/testbench/servers"
)

func TestMain(m *testing.M) { os.Exit(servers.Main(m)) }

func open(t *testing.T, c sqldb.Config, s sqldb.Session) *sql.DB {
	t.Helper()
	db, err := sqldb.Open(c, s)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return db
}

func exec(t *testing.T, db *sql.DB, statement string, args ...any) int64 {
	t.Helper()
	r, err := db.ExecContext(t.Context(), statement, args...)
	if err != nil {
		t.Fatalf("%s: %v", statement, err)
	}
	n, err := r.RowsAffected()
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func query(t *testing.T, db *sql.DB, statement string, args ...any) string {
	t.Helper()
	var v []byte
	if err := db.QueryRowContext(t.Context(), statement, args...).Scan(&v); err != nil {
		t.Fatalf("%s: %v", statement, err)
	}
	return string(v)
}

func TestSessionSettings(t *testing.T) {
	servers.EachFlavor(t, func(t *testing.T, m *servers.MySQL) {
		db := open(t, m.Config("root"), sqldb.Session{Vars: map[string]string{
			"sql_mode":           "NO_BACKSLASH_ESCAPES,STRICT_ALL_TABLES",
			"foreign_key_checks": "0",
			"unique_checks":      "OFF",
			"lock_wait_timeout":  "77",
			"@tandem_origin":     "it's \"beijing\"",
		}})
		for expr, want := range map[string]string{
			"@@sql_mode":                              "NO_BACKSLASH_ESCAPES,STRICT_ALL_TABLES",
			"@@foreign_key_checks":                    "0",
			"@@unique_checks":                         "0",
			"@@lock_wait_timeout":                     "77",
			"@tandem_origin":                          "it's \"beijing\"",
			"@@time_zone":                             "+00:00",
			"CAST(FROM_UNIXTIME(1.5) AS DATETIME(6))": "1970-01-01 00:00:01.500000",
			"@@character_set_client":                  "utf8mb4",
			"@@character_set_results":                 "utf8mb4",
			"@@character_set_connection":              "utf8mb4",
		} {
			if got := query(t, db, "SELECT "+expr); got != want {
				t.Errorf("%s is %q, want %q", expr, got, want)
			}
		}
	})
}

func TestUpdateCountsMatchedRows(t *testing.T) {
	servers.EachFlavor(t, func(t *testing.T, m *servers.MySQL) {
		db := open(t, m.Config("root"), sqldb.Session{Database: m.NewDatabase(t)})
		exec(t, db, "CREATE TABLE t (id INT PRIMARY KEY, v INT)")
		exec(t, db, "INSERT INTO t VALUES (1, 7)")
		if n := exec(t, db, "UPDATE t SET v = ? WHERE id = ?", 7, 1); n != 1 {
			t.Errorf("an update to the same value affects %d rows, want the 1 that matched", n)
		}
	})
}

// Every byte of every character set must arrive as it was sent, both ways.
func TestBinarySessionIsByteExact(t *testing.T) {
	columns := []struct{ charset, hex string }{
		{"utf8mb4", "F09F9880C3A9E58F8C"}, // 😀é双
		{"utf8mb3", "E58F8CC3A9"},
		{"gbk", "CBABBBEEFE50815C"}, // the last has a backslash as its second byte
		{"big5", "A55C"},            // 功, likewise
		{"latin1", "E9275C22FF"},
		{"cp932", "83658358835C"},
		{"utf16", "53CCD83DDE00"},
		{"utf32", "0001F600"},
		{"ucs2", "53CC00E9"},
		{"ascii", "6127225C"},
		{"binary", "00FF275C80"},
	}
	servers.EachFlavor(t, func(t *testing.T, m *servers.MySQL) {
		name := m.NewDatabase(t)
		vars := map[string]string{"sql_mode": "STRICT_ALL_TABLES"}
		raw := open(t, m.Config("root"), sqldb.Session{Database: name, Charset: "binary", Vars: vars})
		for _, c := range columns {
			t.Run(c.charset, func(t *testing.T) {
				table := sqldb.Quote("表_" + c.charset)
				exec(t, raw, fmt.Sprintf("CREATE TABLE %s (`名` VARCHAR(40) CHARACTER SET %s, t TEXT CHARACTER SET %s, c CHAR(40) CHARACTER SET %s)",
					table, c.charset, c.charset, c.charset))
				want := unhex(t, c.hex)
				exec(t, raw, "INSERT INTO "+table+" (`名`, t, c) VALUES (?, ?, ?)", want, want, want)
				for _, column := range []string{"名", "t", "c"} {
					if c.charset == "binary" && column == "c" {
						continue // BINARY(40) is padded
					}
					if got := query(t, raw, "SELECT HEX("+sqldb.Quote(column)+") FROM "+table); got != c.hex {
						t.Errorf("%s holds %s, want %s", column, got, c.hex)
					}
					if got := query(t, raw, "SELECT "+sqldb.Quote(column)+" FROM "+table); got != string(want) {
						t.Errorf("%s reads as %x, want %x", column, got, want)
					}
				}
				if n := exec(t, raw, "UPDATE "+table+" SET t = ? WHERE `名` = ?", want, want); n != 1 {
					t.Errorf("%d rows are found by the bytes of the value, want 1", n)
				}
			})
		}
	})
}

// The normal session converts, so that what a person reads is the same.
func TestUTF8SessionConverts(t *testing.T) {
	servers.EachFlavor(t, func(t *testing.T, m *servers.MySQL) {
		db := open(t, m.Config("root"), sqldb.Session{Database: m.NewDatabase(t)})
		exec(t, db, "CREATE TABLE 表 (g VARCHAR(9) CHARACTER SET gbk, l VARCHAR(9) CHARACTER SET latin1, u VARCHAR(9) CHARACTER SET utf8mb4)")
		exec(t, db, "INSERT INTO 表 VALUES (?, ?, ?)", "双活", "é", "😀")
		if got, want := query(t, db, "SELECT CONCAT_WS(',', HEX(g), HEX(l), HEX(u)) FROM 表"), "CBABBBEE,E9,F09F9880"; got != want {
			t.Errorf("columns hold %s, want %s", got, want)
		}
		if got := query(t, db, "SELECT g FROM 表"); got != "双活" {
			t.Errorf("gbk column reads as %q", got)
		}
	})
}

func TestNamesInABinarySession(t *testing.T) {
	servers.EachFlavor(t, func(t *testing.T, m *servers.MySQL) {
		db := open(t, m.Config("root"), sqldb.Session{Database: m.NewDatabase(t), Charset: "binary"})
		weird := "订单 `a` 'b' \\c é"
		exec(t, db, "CREATE TABLE "+sqldb.Quote(weird)+" ("+sqldb.Quote("列é")+" INT)")
		exec(t, db, "INSERT INTO "+sqldb.Quote(weird)+" ("+sqldb.Quote("列é")+") VALUES (?)", 1)
		if got := query(t, db, "SELECT table_name FROM information_schema.tables WHERE table_schema = DATABASE() AND table_name = ?", weird); got != weird {
			t.Errorf("table is called %q, want %q", got, weird)
		}
		rows, err := db.QueryContext(t.Context(), "SELECT * FROM "+sqldb.Quote(weird))
		if err != nil {
			t.Fatal(err)
		}
		defer rows.Close()
		if names, err := rows.Columns(); err != nil || len(names) != 1 || names[0] != "列é" {
			t.Errorf("columns are %q, %v", names, err)
		}
	})
}

// The documented exception of the binary session.
func TestJSONInABinarySession(t *testing.T) {
	servers.EachFlavor(t, func(t *testing.T, m *servers.MySQL) {
		db := open(t, m.Config("root"), sqldb.Session{Database: m.NewDatabase(t), Charset: "binary"})
		exec(t, db, "CREATE TABLE t (j JSON)")
		exec(t, db, "INSERT INTO t VALUES (CONVERT(? USING utf8mb4))", []byte(`{"a": "双😀"}`))
		if got := query(t, db, "SELECT j FROM t"); got != `{"a": "双😀"}` {
			t.Errorf("JSON reads as %s", got)
		}
	})
}

func TestQuoteStringUnderEverySQLMode(t *testing.T) {
	servers.EachFlavor(t, func(t *testing.T, m *servers.MySQL) {
		name := m.NewDatabase(t)
		for i, mode := range []string{"", "NO_BACKSLASH_ESCAPES", "ANSI_QUOTES", "ANSI,NO_BACKSLASH_ESCAPES", "TRADITIONAL"} {
			db := open(t, m.Config("root"), sqldb.Session{Database: name, Vars: map[string]string{"sql_mode": mode}})
			exec(t, db, fmt.Sprintf("CREATE TABLE t%d (a INT) COMMENT %s", i, sqldb.QuoteString("it's \"x\" \\' \x00; -- 双\n")))
			got := query(t, db, "SELECT table_comment FROM information_schema.tables WHERE table_schema = ? AND table_name = ?", name, fmt.Sprintf("t%d", i))
			if want := "it's \"x\" /' ; -- 双\n"; got != want {
				t.Errorf("sql_mode %q: comment is %q, want %q", mode, got, want)
			}
		}
	})
}

func TestUnixSocket(t *testing.T) {
	servers.EachFlavor(t, func(t *testing.T, m *servers.MySQL) {
		c := m.Config("root")
		c.Addr = m.Socket()
		if got := query(t, open(t, c, sqldb.Session{}), "SELECT 'here'"); got != "here" {
			t.Errorf("got %q", got)
		}
	})
}

func TestTLS(t *testing.T) {
	servers.EachFlavor(t, func(t *testing.T, m *servers.MySQL) {
		c := m.Config("root")
		c.TLS = tlsconf.Config{Enabled: true, SkipVerify: true}
		db := open(t, c, sqldb.Session{})
		if flavor(t) == sqldb.MariaDB { // 10.11 makes no certificate of its own
			if err := db.PingContext(t.Context()); err == nil || !strings.Contains(err.Error(), "TLS") {
				t.Errorf("a server without TLS is accepted: %v", err)
			}
			return
		}
		if got := query(t, db, "SELECT variable_value FROM performance_schema.session_status WHERE variable_name = 'Ssl_version'"); !strings.HasPrefix(got, "TLSv1.") {
			t.Errorf("connection uses %q", got)
		}
		c.TLS.SkipVerify = false
		if err := open(t, c, sqldb.Session{}).PingContext(t.Context()); err == nil || !strings.Contains(err.Error(), "certificate") {
			t.Errorf("a certificate by nobody we know is accepted: %v", err)
		}
	})
}

func flavor(t *testing.T) sqldb.Flavor {
	return sqldb.Flavor(t.Name()[strings.LastIndexByte(t.Name(), '/')+1:])
}

func TestInspect(t *testing.T) {
	servers.EachFlavor(t, func(t *testing.T, m *servers.MySQL) {
		s, err := sqldb.Inspect(t.Context(), m.Admin(""))
		if err != nil {
			t.Fatal(err)
		}
		if s.Flavor != flavor(t) || s.Version == "" || s.ID == 0 || (len(s.UUID) == 36) != (flavor(t) == sqldb.MySQL) {
			t.Errorf("server is %+v", s)
		}
	})
}

func TestWrongPasswordIsToldWithoutIt(t *testing.T) {
	servers.EachFlavor(t, func(t *testing.T, m *servers.MySQL) {
		c := m.Config("app")
		c.Password = "Xsecret'Q"
		err := open(t, c, sqldb.Session{}).PingContext(t.Context())
		if err == nil || strings.Contains(err.Error(), c.Password) || !strings.Contains(err.Error(), "1045") {
			t.Errorf("got %v", err)
		}
		if sqldb.IsTransient(err) {
			t.Error("a wrong password does not pass by itself")
		}
	})
}

func TestOpenRefuses(t *testing.T) {
	ok := sqldb.Config{Addr: "127.0.0.1:3306", User: "u"}
	for want, open := range map[string]func() error{
		"addr":         func() error { c := ok; c.Addr = ""; return try(c, sqldb.Session{}) },
		"user":         func() error { c := ok; c.User = ""; return try(c, sqldb.Session{}) },
		"dial-timeout": func() error { c := ok; c.DialTimeout = -1; return try(c, sqldb.Session{}) },
		"unix socket":  func() error { c := ok; c.Addr = "/s"; c.TLS.Enabled = true; return try(c, sqldb.Session{}) },
		"tls.ca": func() error {
			c := ok
			c.TLS = tlsconf.Config{Enabled: true, CA: "/nowhere"}
			return try(c, sqldb.Session{})
		},
		"gbk":        func() error { return try(ok, sqldb.Session{Charset: "gbk"}) },
		"plain name": func() error { return try(ok, sqldb.Session{Vars: map[string]string{"a = 1, b": "1"}}) },
		"backslash":  func() error { return try(ok, sqldb.Session{Vars: map[string]string{"a": `\`}}) },
		"time_zone":  func() error { return try(ok, sqldb.Session{Vars: map[string]string{"Time_Zone": "SYSTEM"}}) },
	} {
		if err := open(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want an error that names %q, got %v", want, err)
		}
	}
}

func try(c sqldb.Config, s sqldb.Session) error {
	db, err := sqldb.Open(c, s)
	if err == nil {
		db.Close()
	}
	return err
}

func TestTransientErrorsOfARealServer(t *testing.T) {
	servers.EachFlavor(t, func(t *testing.T, m *servers.MySQL) {
		db := open(t, m.Config("root"), sqldb.Session{Database: m.NewDatabase(t), Vars: map[string]string{"innodb_lock_wait_timeout": "1"}})
		exec(t, db, "CREATE TABLE t (id INT PRIMARY KEY, v INT)")
		exec(t, db, "INSERT INTO t VALUES (1, 0), (2, 0)")
		begin := func() *sql.Tx {
			tx, err := db.BeginTx(t.Context(), nil)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = tx.Rollback() })
			return tx
		}
		update := func(tx *sql.Tx, id int) error {
			_, err := tx.ExecContext(context.Background(), "UPDATE t SET v = v + 1 WHERE id = ?", id)
			return err
		}
		a, b := begin(), begin()
		if err := update(a, 1); err != nil {
			t.Fatal(err)
		}
		if err := update(b, 1); !sqldb.IsTransient(err) {
			t.Errorf("lock wait timeout is not transient: %v", err)
		}
		if err := update(b, 2); err != nil {
			t.Fatal(err)
		}
		waits := make(chan error, 1)
		go func() { waits <- update(a, 2) }()
		second := update(b, 1)
		if first := <-waits; !sqldb.IsTransient(first) && !sqldb.IsTransient(second) {
			t.Errorf("no transient error from a deadlock: %v, %v", first, second)
		}
		_, _ = a.Rollback(), b.Rollback()

		conn, err := db.Conn(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		var id int
		if err := conn.QueryRowContext(t.Context(), "SELECT CONNECTION_ID()").Scan(&id); err != nil {
			t.Fatal(err)
		}
		exec(t, db, fmt.Sprintf("KILL %d", id))
		_, err = conn.ExecContext(t.Context(), "DO SLEEP(1)")
		if !sqldb.IsTransient(err) {
			t.Errorf("a killed connection is not transient: %v", err)
		}
		if _, err := db.ExecContext(t.Context(), "INSERT INTO t VALUES (1, 1)"); err == nil || sqldb.IsTransient(err) {
			t.Errorf("a duplicate key is transient: %v", err)
		}
	})
}

func TestServerThatIsNotThere(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	l.Close()
	err = open(t, sqldb.Config{Addr: addr, User: "u", DialTimeout: time.Second}, sqldb.Session{}).PingContext(t.Context())
	if !sqldb.IsTransient(err) || !strings.Contains(err.Error(), addr) {
		t.Errorf("got %v", err)
	}
}

// A server that accepts and then is silent must not hold anyone for ever.
func TestServerThatIsSilent(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	err = open(t, sqldb.Config{Addr: l.Addr().String(), User: "u", ReadTimeout: 50 * time.Millisecond}, sqldb.Session{}).PingContext(t.Context())
	if !sqldb.IsTransient(err) {
		t.Errorf("got %v", err)
	}
}

func unhex(t *testing.T, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
