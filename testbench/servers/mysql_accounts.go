package servers

import (
	"context"
	"crypto/rand"
	"database/sql"
	"fmt"
	"strings"
	"time"

	"github.com/tandem-dc/tandem/shared/sqldb"
)

// Accounts that every server has. Their passwords are drawn at start.
const (
	Root    = "root"    // everything: DDL, migrations
	App     = "app"     // what a shop needs in its databases; none of tandem's
	Capture = "capture" // reads the binlog, and rows and definitions where it must
	Apply   = "apply"   // reads and writes rows of the app's databases and of tandem's
)

const tandemDatabase = "tandem"

// Grants for one database of the application.
var databaseGrants = map[string]string{
	App: "SELECT, INSERT, UPDATE, DELETE, CREATE, DROP, ALTER, INDEX, REFERENCES, TRIGGER, " +
		"LOCK TABLES, CREATE VIEW, SHOW VIEW, CREATE ROUTINE, ALTER ROUTINE, EXECUTE, CREATE TEMPORARY TABLES",
	Capture: "SELECT",
	Apply:   "SELECT, INSERT, UPDATE, DELETE",
}

func accountGrants(f sqldb.Flavor) []string {
	status := "REPLICATION CLIENT"
	if f == sqldb.MariaDB {
		status = "BINLOG MONITOR"
	}
	grants := []string{
		"GRANT ALL PRIVILEGES ON *.* TO " + account(Root) + " WITH GRANT OPTION",
		"GRANT REPLICATION SLAVE, " + status + " ON *.* TO " + account(Capture),
		"GRANT SELECT ON " + sqldb.Quote(tandemDatabase) + ".* TO " + account(Capture),
		"GRANT SELECT, INSERT, UPDATE, DELETE ON " + sqldb.Quote(tandemDatabase) + ".* TO " + account(Apply),
	}
	if f == sqldb.MySQL {
		grants = append(grants, "GRANT SESSION_VARIABLES_ADMIN ON *.* TO "+account(Apply))
	}
	return grants
}

// account is a user that may come by the socket or from any address: the server
// listens on 127.0.0.1 only.
func account(user string) string { return sqldb.QuoteString(user) + "@'%'" }

// createAccounts logs in once as the passwordless root of a fresh server and
// leaves only accounts with passwords. Nothing of it is in the binlog, so
// nothing of it is replicated.
func (m *MySQL) createAccounts(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	db, err := sqldb.Open(sqldb.Config{Addr: m.Socket(), User: Root}, sqldb.Session{MaxOpen: 1, Vars: map[string]string{"sql_log_bin": "0"}})
	if err != nil {
		return err
	}
	defer db.Close()
	m.passwords = map[string]string{}
	var statements []string
	if m.Flavor == sqldb.MariaDB {
		// Anonymous users and more passwordless roots that initialising leaves.
		statements = append(statements,
			"DELETE FROM mysql.global_priv WHERE User = '' OR User = 'root' AND Host <> 'localhost'",
			"FLUSH PRIVILEGES")
	}
	for _, user := range []string{Root, App, Capture, Apply} {
		m.passwords[user] = rand.Text()
		statements = append(statements, "CREATE USER "+account(user)+" IDENTIFIED BY "+sqldb.QuoteString(m.passwords[user]))
	}
	statements = append(statements, accountGrants(m.Flavor)...)
	statements = append(statements, "ALTER USER 'root'@'localhost' IDENTIFIED BY "+sqldb.QuoteString(m.passwords[Root]))
	return execAll(ctx, db, statements)
}

// execAll names a failed statement by its first words only: the rest may hold a password.
func execAll(ctx context.Context, db *sql.DB, statements []string) error {
	for _, s := range statements {
		if _, err := db.ExecContext(ctx, s); err != nil {
			words := strings.Fields(s)
			return fmt.Errorf("%s ...: %w", strings.Join(words[:min(3, len(words))], " "), err)
		}
	}
	return nil
}

// Config is how one of the accounts logs in over TCP. An unknown user has no
// password.
func (m *MySQL) Config(user string) sqldb.Config {
	return sqldb.Config{
		Addr: m.Addr(), User: user, Password: m.passwords[user],
		DialTimeout: 5 * time.Second, ReadTimeout: 90 * time.Second, WriteTimeout: 30 * time.Second,
	}
}

// Admin is root's pool with a default database, or none if db is empty. It is
// shared, lives through restarts, and belongs to the server: do not close it.
func (m *MySQL) Admin(db string) *sql.DB {
	m.mu.Lock()
	defer m.mu.Unlock()
	if pool := m.admins[db]; pool != nil {
		return pool
	}
	pool, err := sqldb.Open(m.Config(Root), sqldb.Session{Database: db})
	if err != nil {
		panic("servers: our own configuration is wrong: " + err.Error())
	}
	m.admins[db] = pool
	return pool
}

// CreateDatabase makes a database and gives the accounts their rights to it.
// CREATE DATABASE is in the binlog, the grants are not.
func (m *MySQL) CreateDatabase(ctx context.Context, name string) error {
	if _, err := m.Admin("").ExecContext(ctx, "CREATE DATABASE "+sqldb.Quote(name)); err != nil {
		return fmt.Errorf("create database %s: %w", name, err)
	}
	return m.GrantDatabase(ctx, name)
}

// GrantDatabase gives app, capture and apply their rights to a database, which
// need not exist yet.
func (m *MySQL) GrantDatabase(ctx context.Context, name string) error {
	db, err := sqldb.Open(m.Config(Root), sqldb.Session{MaxOpen: 1, Vars: map[string]string{"sql_log_bin": "0"}})
	if err != nil {
		return err
	}
	defer db.Close()
	// In a GRANT the name is a pattern.
	pattern := strings.NewReplacer(`\`, `\\`, `_`, `\_`, `%`, `\%`).Replace(name)
	var statements []string
	for user, rights := range databaseGrants {
		statements = append(statements, "GRANT "+rights+" ON "+sqldb.Quote(pattern)+".* TO "+account(user))
	}
	return execAll(ctx, db, statements)
}
