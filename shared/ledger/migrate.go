package ledger

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/go-sql-driver/mysql"
)

//go:embed schema/*.sql
var schema embed.FS

const (
	lockName = "tandem.migrate"
	lockWait = 30 * time.Second
	// A statement on tandem's small tables; generous, because a metadata lock may be in the way.
	statementLimit = 2 * time.Minute

	createDatabase = "CREATE DATABASE IF NOT EXISTS tandem CHARACTER SET utf8mb4"
	createVersions = `CREATE TABLE IF NOT EXISTS tandem.schema_version (
  version    INT UNSIGNED NOT NULL PRIMARY KEY,
  applied_at TIMESTAMP(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4`
	recordVersion = "INSERT IGNORE INTO tandem.schema_version (version) VALUES (%d)"
)

// ErrRights tells that the account may not create or change the tandem schema.
var ErrRights = errors.New("the account may not create the tandem schema")

// Migrate brings the tandem schema to this program's version. It may run any
// number of times, in several processes at once, and after a crash in the
// middle. Where nothing is to be done, SELECT on tandem.* is enough; else the error wraps
// ErrRights and names the grant.
func Migrate(ctx context.Context, db *sql.DB) error {
	steps := migrations()
	if v, err := version(ctx, db); err == nil && v >= len(steps) {
		return nil
	}
	conn, err := db.Conn(ctx)
	if err != nil {
		return fmt.Errorf("tandem schema: %w", err)
	}
	defer conn.Close()
	unlock, err := lock(ctx, conn)
	if err != nil {
		return err
	}
	defer unlock()
	for _, s := range []string{createDatabase, createVersions} {
		if err := exec(ctx, conn, s); err != nil {
			return err
		}
	}
	have, err := version(ctx, conn)
	if err != nil {
		return fmt.Errorf("tandem schema: read its version: %w", explain(ctx, conn, err))
	}
	for v := have; v < len(steps); v++ {
		for _, s := range append(steps[v], fmt.Sprintf(recordVersion, v+1)) {
			if err := exec(ctx, conn, s); err != nil {
				return err
			}
		}
	}
	return nil
}

// Script is Migrate as text, for an administrator.
func Script() string {
	var b strings.Builder
	write := func(s string) { b.WriteString(s + ";\n\n") }
	write(createDatabase)
	write(createVersions)
	for v, step := range migrations() {
		for _, s := range step {
			write(s)
		}
		write(fmt.Sprintf(recordVersion, v+1))
	}
	return b.String()
}

// migrations returns the statements of each version, the first is version 1.
// Each is harmless when it runs again.
func migrations() [][]string {
	files, err := schema.ReadDir("schema") // sorted by name
	if err != nil {
		return nil // embedded: cannot fail
	}
	var steps [][]string
	for _, f := range files {
		text, err := schema.ReadFile("schema/" + f.Name())
		if err != nil {
			return nil
		}
		var step []string
		for s := range strings.SplitSeq(string(text), ";\n") {
			if s = stripComments(s); s != "" {
				step = append(step, s)
			}
		}
		steps = append(steps, step)
	}
	return steps
}

func stripComments(s string) string {
	var lines []string
	for line := range strings.SplitSeq(s, "\n") {
		if !strings.HasPrefix(line, "--") {
			lines = append(lines, line)
		}
	}
	return strings.TrimSpace(strings.Join(lines, "\n"))
}

type querier interface {
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

func version(ctx context.Context, q querier) (int, error) {
	var v sql.NullInt64
	err := q.QueryRowContext(ctx, "SELECT MAX(version) FROM tandem.schema_version").Scan(&v)
	return int(v.Int64), err
}

// lock keeps other migrators out. The lock is the connection's, so it ends with
// this process too.
func lock(ctx context.Context, conn *sql.Conn) (unlock func(), err error) {
	var got sql.NullInt64
	if err := conn.QueryRowContext(ctx, "SELECT GET_LOCK(?, ?)", lockName, int(lockWait.Seconds())).Scan(&got); err != nil {
		return nil, fmt.Errorf("tandem schema: lock %s: %w", lockName, err)
	}
	if got.Int64 != 1 {
		return nil, fmt.Errorf("tandem schema: another process has migrated it for %v: see SHOW PROCESSLIST for who holds the lock %s", lockWait, lockName)
	}
	return func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		_, _ = conn.ExecContext(ctx, "DO RELEASE_LOCK(?)", lockName)
	}, nil
}

func exec(ctx context.Context, conn *sql.Conn, statement string) error {
	ctx, cancel := context.WithTimeout(ctx, statementLimit)
	defer cancel()
	if _, err := conn.ExecContext(ctx, statement); err != nil {
		words := strings.Fields(statement)
		return fmt.Errorf("tandem schema: %s: %w", strings.Join(words[:min(6, len(words))], " "), explain(ctx, conn, err))
	}
	return nil
}

// explain turns a refusal by the server into one that names the remedy.
func explain(ctx context.Context, conn *sql.Conn, err error) error {
	var refused *mysql.MySQLError
	if !errors.As(err, &refused) || !slices.Contains([]uint16{1044, 1045, 1142, 1227, 1370}, refused.Number) {
		return err
	}
	account := "<account>"
	_ = conn.QueryRowContext(ctx, "SELECT CURRENT_USER()").Scan(&account)
	if user, host, ok := strings.Cut(account, "@"); ok {
		account = "'" + user + "'@'" + host + "'"
	}
	return fmt.Errorf("%w: run `tandem schema | mysql` as an administrator, or GRANT CREATE, ALTER, INDEX, SELECT, INSERT, UPDATE, DELETE ON `tandem`.* TO %s: %w",
		ErrRights, account, err)
}
