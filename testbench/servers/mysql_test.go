package servers_test

import (
	"context"
	"database/sql"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"

	"github.com/tandem-dc/tandem/shared/sqldb"
	"github.com/tandem-dc/tandem/testbench/servers"
)

func TestMain(m *testing.M) { os.Exit(servers.Main(m)) }

func TestSettings(t *testing.T) {
	servers.EachFlavor(t, func(t *testing.T, m *servers.MySQL) {
		want := map[string]string{
			"log_bin": "1", "binlog_format": "ROW", "binlog_row_image": "FULL", "binlog_row_metadata": "FULL",
			"sync_binlog": "1", "innodb_flush_log_at_trx_commit": "1", "character_set_server": "utf8mb4",
		}
		if m.Flavor == sqldb.MySQL {
			want["gtid_mode"] = "ON"
		}
		for name, value := range want {
			var got string
			if err := m.Admin("").QueryRow("SELECT @@global." + name).Scan(&got); err != nil {
				t.Fatal(err)
			}
			if got != value {
				t.Errorf("%s = %s, want %s", name, got, value)
			}
		}
		s, err := sqldb.Inspect(t.Context(), m.Admin(""))
		if err != nil {
			t.Fatal(err)
		}
		if s.Flavor != m.Flavor || s.ID != m.ServerID || !strings.HasPrefix(s.Version, m.Version) {
			t.Errorf("server says %+v, we think %s %s %d", s, m.Flavor, m.Version, m.ServerID)
		}
	})
}

func TestAccountsHaveTheRightsTheyNeedAndNoMore(t *testing.T) {
	servers.EachFlavor(t, func(t *testing.T, m *servers.MySQL) {
		db := m.NewDatabase(t)
		mustExec(t, m.Admin(""), "CREATE DATABASE IF NOT EXISTS tandem")
		mustExec(t, m.Admin("tandem"), "CREATE TABLE IF NOT EXISTS secret (id INT PRIMARY KEY)")
		cases := []struct {
			user, statement string
			allowed         bool
		}{
			{servers.App, "CREATE TABLE thing (id INT PRIMARY KEY)", true},
			{servers.App, "INSERT INTO thing VALUES (1)", true},
			{servers.App, "SELECT * FROM tandem.secret", false},
			{servers.App, "SELECT * FROM mysql.user", false},
			{servers.Capture, "SELECT * FROM thing", true},
			{servers.Capture, "SHOW BINARY LOGS", true},
			{servers.Capture, "INSERT INTO thing VALUES (2)", false},
			{servers.Apply, "UPDATE thing SET id = 3", true},
			{servers.Apply, "INSERT INTO tandem.secret VALUES (1)", true},
			{servers.Apply, "DELETE FROM tandem.secret", true},
			{servers.Apply, "SET SESSION foreign_key_checks = 0", true},
			{servers.Apply, "DROP TABLE thing", false},
			{servers.Apply, "SELECT * FROM mysql.user", false},
		}
		for _, c := range cases {
			pool, err := sqldb.Open(m.Config(c.user), sqldb.Session{Database: db})
			if err != nil {
				t.Fatal(err)
			}
			_, err = pool.Exec(c.statement)
			pool.Close()
			var refused *mysql.MySQLError
			switch {
			case c.allowed && err != nil:
				t.Errorf("%s may not %q: %v", c.user, c.statement, err)
			case !c.allowed && err == nil:
				t.Errorf("%s may %q", c.user, c.statement)
			case !c.allowed && !errors.As(err, &refused):
				t.Errorf("%s: %q: %v", c.user, c.statement, err)
			}
		}
		// Nobody gets in without a password.
		for _, addr := range []string{m.Addr(), m.Socket()} {
			pool, err := sqldb.Open(sqldb.Config{Addr: addr, User: servers.Root}, sqldb.Session{})
			if err != nil {
				t.Fatal(err)
			}
			if err := pool.Ping(); err == nil {
				t.Errorf("root enters %s without a password", addr)
			}
			pool.Close()
		}
	})
}

func TestKilledServerKeepsWhatItCommitted(t *testing.T) {
	for _, flavor := range servers.Flavors {
		t.Run(string(flavor), func(t *testing.T) {
			t.Parallel()
			m := start(t, servers.MySQLOptions{Flavor: flavor})
			db, addr := m.NewDatabase(t), m.Addr()
			mustExec(t, m.Admin(db), "CREATE TABLE thing (id INT PRIMARY KEY)")
			for i := range 10 {
				mustExec(t, m.Admin(db), "INSERT INTO thing VALUES (?)", i)
				if i == 4 {
					if err := m.Kill(); err != nil {
						t.Fatal(err)
					}
					if err := m.Restart(t.Context()); err != nil {
						t.Fatal(err)
					}
				}
			}
			var n int
			if err := m.Admin(db).QueryRow("SELECT COUNT(*) FROM thing").Scan(&n); err != nil || n != 10 {
				t.Fatalf("%d rows, %v; want 10", n, err)
			}
			if m.Addr() != addr {
				t.Errorf("address went from %s to %s", addr, m.Addr())
			}
			began := time.Now()
			if err := m.Restart(t.Context()); err != nil {
				t.Fatal(err)
			}
			t.Logf("stop and start took %v", time.Since(began))
		})
	}
}

func TestPausedServerHangs(t *testing.T) {
	m := start(t, servers.MySQLOptions{Flavor: sqldb.MariaDB})
	if err := m.Pause(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if err := m.Admin("").PingContext(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a paused server answers: %v", err)
	}
	if err := m.Resume(); err != nil {
		t.Fatal(err)
	}
	if err := m.Admin("").PingContext(t.Context()); err != nil {
		t.Errorf("after Resume: %v", err)
	}
}

func TestWrongFlagIsReportedWithTheLog(t *testing.T) {
	_, err := servers.StartMySQL(t.Context(), servers.MySQLOptions{Flavor: sqldb.MariaDB, Flags: []string{"--no-such-flag"}})
	if err == nil || !strings.Contains(err.Error(), "no-such-flag") {
		t.Errorf("error %v does not name the flag", err)
	}
}

func start(t *testing.T, o servers.MySQLOptions) *servers.MySQL {
	t.Helper()
	began := time.Now()
	m, err := servers.StartMySQL(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%s %s started in %v", m.Flavor, m.Version, time.Since(began))
	t.Cleanup(func() {
		if err := m.Close(); err != nil {
			t.Error(err)
		}
	})
	return m
}

func mustExec(t *testing.T, db *sql.DB, statement string, args ...any) {
	t.Helper()
	if _, err := db.Exec(statement, args...); err != nil {
		t.Fatalf("%s: %v", statement, err)
	}
}
