package doctor

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"strings"

	"github.com/tandem-dc/tandem/shared/sqldb"
)

func accountChecks() []check {
	return []check{
		{"account.capture", Refuse, "", captureGrants},
		{"account.apply", Refuse, "", applyGrants},
		{"account.apply-session", Refuse, "", applySession},
	}
}

func captureGrants(ctx context.Context, x *exam) ([]Finding, error) {
	if x.Capture == nil {
		return nil, nil
	}
	a, err := readAccount(ctx, x.Capture)
	if err != nil {
		return nil, err
	}
	status := "REPLICATION CLIENT"
	if x.mariadb() {
		status = "BINLOG MONITOR"
	}
	var out []Finding
	for _, p := range []struct{ privilege, why string }{
		{"REPLICATION SLAVE", "The server sends its binlog only to an account that may replicate."},
		{status, "Capture asks where the binlog stands and which transactions it holds."},
	} {
		if !a.global(p.privilege) {
			out = append(out, Finding{Severity: Refuse, Where: a.name, What: a.name + " lacks " + p.privilege, Why: p.why,
				Fix: []string{"GRANT " + p.privilege + " ON *.* TO " + a.quoted()}})
		}
	}
	out = append(out, a.missing(x, []string{"SELECT"}, "Capture reads the tables' keys, to know which transactions depend on each other.")...)
	return orGood(out, a.name+" may read the binlog and the tables"), nil
}

func applyGrants(ctx context.Context, x *exam) ([]Finding, error) {
	if x.Apply == nil {
		return nil, nil
	}
	a, err := readAccount(ctx, x.Apply)
	if err != nil {
		return nil, err
	}
	return orGood(a.missing(x, []string{"SELECT", "INSERT", "UPDATE", "DELETE"}, "Apply writes the other datacenter's rows here; without the right they are parked as dead letters."),
		a.name+" may write the tables"), nil
}

// applySession tries the settings that apply needs: servers differ in which of
// them they let an ordinary account change.
func applySession(ctx context.Context, x *exam) (out []Finding, err error) {
	if x.Apply == nil {
		return nil, nil
	}
	conn, err := x.Apply.Conn(ctx)
	if err != nil {
		return nil, fmt.Errorf("log in as apply: %w", err)
	}
	defer conn.Close()
	var name, charset string
	if err := conn.QueryRowContext(ctx, "SELECT CURRENT_USER(), @@character_set_client").Scan(&name, &charset); err != nil {
		return nil, err
	}
	if charset != "binary" {
		out = append(out, Finding{Severity: Refuse, Where: "character_set_client", What: "a session that asks for the character set binary gets " + charset,
			Why: "Bytes would be converted on the way into the column.", Setting: "remove skip-character-set-client-handshake (and restart)"})
	}
	for _, v := range []string{"foreign_key_checks=@@session.foreign_key_checks", "unique_checks=@@session.unique_checks", "innodb_lock_wait_timeout=@@session.innodb_lock_wait_timeout", "sql_mode=@@session.sql_mode"} {
		if _, err := conn.ExecContext(ctx, "SET SESSION "+v); err != nil {
			user, host, _ := cutLast(name, "@")
			setting, _, _ := strings.Cut(v, "=")
			out = append(out, Finding{Severity: Refuse, Where: name, What: fmt.Sprintf("%s may not set %s: %v", name, setting, err),
				Why: "Apply writes rows exactly as the source had them, which its session settings allow.",
				Fix: []string{"GRANT SESSION_VARIABLES_ADMIN ON *.* TO " + sqldb.QuoteString(user) + "@" + sqldb.QuoteString(host)}})
		}
	}
	return orGood(out, "apply's session can be set up"), nil
}

func orGood(out []Finding, good string) []Finding {
	if len(out) > 0 {
		return out
	}
	return []Finding{{Severity: OK, What: good}}
}

// account is who a pool is logged in as, and what it may do.
type account struct {
	name   string // user@host
	grants []grant
}

// grant is one line of SHOW GRANTS.
type grant struct {
	revoke     bool // a partial revoke
	privileges []string
	db, table  string // "*" for all; db is a pattern of LIKE
}

func (a *account) quoted() string {
	user, host, _ := cutLast(a.name, "@")
	return sqldb.QuoteString(user) + "@" + sqldb.QuoteString(host)
}

func readAccount(ctx context.Context, db *sql.DB) (*account, error) {
	a := &account{}
	var role sql.NullString
	if err := db.QueryRowContext(ctx, "SELECT CURRENT_USER(), CURRENT_ROLE()").Scan(&a.name, &role); err != nil {
		return nil, fmt.Errorf("log in: %w", err)
	}
	show := "SHOW GRANTS"
	if strings.HasPrefix(role.String, "`") { // MySQL lists a role's rights only on demand
		show += " FOR CURRENT_USER() USING " + role.String
	}
	err := query(ctx, db, show, func(v []string) {
		if g, ok := parseGrant(v[0]); ok {
			a.grants = append(a.grants, g)
		}
	})
	if err != nil {
		return nil, fmt.Errorf("%s for %s: %w", show, a.name, err)
	}
	return a, nil
}

// parseGrant reads a line such as
//
//	GRANT SELECT, INSERT (`a`, `b`) ON `my\_db`.* TO `u`@`%`
//
// Lines about roles, routines and proxies are passed over.
func parseGrant(line string) (grant, bool) {
	var g grant
	rest, ok := strings.CutPrefix(line, "GRANT ")
	if !ok {
		if rest, ok = strings.CutPrefix(line, "REVOKE "); !ok {
			return g, false
		}
		g.revoke = true
	}
	list, rest, ok := cutUnquoted(rest, " ON ")
	if !ok {
		return g, false
	}
	object, _, ok := cutUnquoted(rest, " TO ")
	if !ok {
		if object, _, ok = cutUnquoted(rest, " FROM "); !ok {
			return g, false
		}
	}
	db, table, ok := cutUnquoted(strings.TrimPrefix(object, "TABLE "), ".")
	if !ok {
		return g, false
	}
	for _, word := range []string{"PROCEDURE ", "FUNCTION ", "PACKAGE "} {
		if strings.HasPrefix(object, word) {
			return g, false
		}
	}
	g.db, g.table = unquote(db), unquote(table)
	if db == "*" {
		g.db = "%"
	}
	for list != "" {
		var p string
		p, list, _ = cutUnquoted(list, ", ")
		if strings.Contains(p, "(") { // some columns only: not enough
			if !strings.Contains(p, ")") { // the commas inside the parentheses
				_, list, _ = cutUnquoted(list, "), ")
			}
			continue
		}
		g.privileges = append(g.privileges, strings.ToUpper(strings.TrimSpace(p)))
	}
	return g, true
}

// cutUnquoted cuts s around the first sep outside of quoted names.
func cutUnquoted(s, sep string) (before, after string, found bool) {
	var quote byte
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case quote != 0:
			if c == quote {
				quote = 0
			}
		case strings.HasPrefix(s[i:], sep):
			return s[:i], s[i+len(sep):], true
		case c == '`' || c == '"' || c == '\'':
			quote = c
		}
	}
	return s, "", false
}

func cutLast(s, sep string) (before, after string, found bool) {
	if i := strings.LastIndex(s, sep); i >= 0 {
		return s[:i], s[i+len(sep):], true
	}
	return s, "", false
}

func unquote(s string) string {
	if len(s) >= 2 && (s[0] == '`' || s[0] == '"') && s[len(s)-1] == s[0] {
		return strings.ReplaceAll(s[1:len(s)-1], s[:1]+s[:1], s[:1])
	}
	return s
}

func (g *grant) holds(privilege string) bool {
	return slices.Contains(g.privileges, privilege) || slices.Contains(g.privileges, "ALL PRIVILEGES") || slices.Contains(g.privileges, "ALL")
}

// covers reports whether g speaks of the table; "" asks for the whole database.
func (g *grant) covers(db, table string) bool {
	if g.table == "*" {
		return like(g.db, db)
	}
	return g.db == db && g.table == table
}

func (a *account) global(privilege string) bool {
	privileges := []string{privilege}
	if privilege == "REPLICATION SLAVE" {
		privileges = append(privileges, "REPLICATION REPLICA")
	}
	for i := range a.grants {
		g := &a.grants[i]
		if g.revoke || g.db != "%" || g.table != "*" {
			continue
		}
		for _, p := range privileges {
			if g.holds(p) {
				return true
			}
		}
	}
	return false
}

func (a *account) may(privilege, db, table string) bool {
	ok := false
	for i := range a.grants {
		if g := &a.grants[i]; g.holds(privilege) && g.covers(db, table) {
			if g.revoke {
				return false
			}
			ok = true
		}
	}
	return ok
}

// missing names the databases in which the account lacks one of the privileges,
// for the database as a whole or for one of its tables.
func (a *account) missing(x *exam, privileges []string, why string) []Finding {
	var out []Finding
	for _, db := range append([]string{markerDatabase}, x.databases()...) {
		var lacks []string
		for _, p := range privileges {
			if !a.may(p, db, "") && !a.mayEach(p, db, x.tables) {
				lacks = append(lacks, p)
			}
		}
		if len(lacks) == 0 {
			continue
		}
		pattern := strings.NewReplacer(`\`, `\\`, `_`, `\_`, `%`, `\%`).Replace(db)
		out = append(out, Finding{Severity: Refuse, Where: a.name, What: fmt.Sprintf("%s lacks %s on %s", a.name, strings.Join(lacks, ", "), db), Why: why,
			Fix: []string{"GRANT " + strings.Join(lacks, ", ") + " ON " + sqldb.Quote(pattern) + ".* TO " + a.quoted()}})
	}
	return out
}

// mayEach reports whether rights to single tables add up to the database.
func (a *account) mayEach(privilege, db string, tables []tableInfo) bool {
	n := 0
	for i := range tables {
		if tables[i].db == db {
			n++
			if !a.may(privilege, db, tables[i].name) {
				return false
			}
		}
	}
	return n > 0
}

// like matches SQL's LIKE with backslash as the escape.
func like(pattern, s string) bool {
	for pattern != "" {
		switch c := pattern[0]; {
		case c == '%':
			for i := 0; i <= len(s); i++ {
				if like(pattern[1:], s[i:]) {
					return true
				}
			}
			return false
		case c == '\\' && len(pattern) > 1:
			pattern = pattern[1:]
			if s == "" || s[0] != pattern[0] {
				return false
			}
		case s == "" || c != '_' && s[0] != c:
			return false
		}
		pattern, s = pattern[1:], s[1:]
	}
	return s == ""
}
