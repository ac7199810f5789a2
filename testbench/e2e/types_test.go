package e2e_test

import (
	"context"
	"database/sql/driver"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/tandem-dc/tandem/shared/sqldb"
	"github.com/tandem-dc/tandem/testbench/servers"
	"github.com/tandem-dc/tandem/testbench/types"
)

// Every type and value arrives exactly, in both directions: inserted, as before
// and after image of an update, and as the row that a delete finds.
func TestTypes(t *testing.T) {
	each(t, testTypes)
	// Between the two databases, those types that both have.
	t.Run("mysql-mariadb", func(t *testing.T) {
		servers.EachKafka(t, func(t *testing.T, kind servers.KafkaKind) {
			testTypes(t, shared(t, sqldb.MySQL, sqldb.MariaDB, kind))
		})
	})
}

// typed is a case with its tables, one written by each side.
type typed struct {
	types.Case
	tables [2]string
}

func testTypes(t *testing.T, w *world) {
	var cases []*typed
	for _, c := range types.All() {
		if c.On(w.Sides[0].Flavor) && c.On(w.Sides[1].Flavor) {
			cases = append(cases, &typed{Case: c})
		}
	}
	w.makeTables(t, cases)
	w.drain(t)
	before := w.losses(t)
	for _, step := range []struct {
		name       string
		statements func(c *typed, table string) []string
	}{
		{"insert", func(c *typed, table string) []string { return []string{c.Insert(table)} }},
		{"update", func(c *typed, table string) (all []string) { // each row gets the value of the next
			rows := c.Rows()
			for i := range rows {
				all = append(all, fmt.Sprintf("UPDATE %s SET v=%s WHERE id=%d", sqldb.Quote(table), rows[(i+1)%len(rows)], i+1))
			}
			return append(append([]string{"BEGIN"}, all...), "COMMIT")
		}},
		{"move", func(c *typed, table string) []string { // the key changes, v is in both images
			return []string{fmt.Sprintf("UPDATE %s SET id=id+100 ORDER BY id DESC", sqldb.Quote(table))}
		}},
		{"delete", func(c *typed, table string) []string { // but one row, else there were nothing to compare
			return []string{fmt.Sprintf("DELETE FROM %s WHERE id>101", sqldb.Quote(table))}
		}},
	} {
		t.Run(step.name, func(t *testing.T) {
			var group errgroup.Group
			group.SetLimit(8)
			for _, c := range cases {
				for writer := range w.Sides {
					group.Go(func() error {
						if err := w.as(t, writer, c.Session, step.statements(c, c.tables[writer])); err != nil {
							t.Errorf("%s on %s: %v", c.Name, w.Sides[writer].Flavor, err)
						}
						return nil
					})
				}
			}
			_ = group.Wait() // the errors are reported
			w.drain(t)
			for _, c := range cases {
				for writer, s := range w.Sides {
					query := fmt.Sprintf("SELECT CONCAT_WS(' ', id, COALESCE(%s, 'NULL')) FROM %s.%s ORDER BY id", c.Expr("v"), tables, sqldb.Quote(c.tables[writer]))
					var args []any
					if c.Type == "float" || c.Type == "double" {
						// The two servers print the same number differently; a prepared statement gives its bits.
						query, args = fmt.Sprintf("SELECT v FROM %s.%s WHERE id>? ORDER BY id", tables, sqldb.Quote(c.tables[writer])), []any{0}
					}
					here, there := w.lines(t, writer, query, args...), w.lines(t, 1-writer, query, args...)
					if len(here) == 0 || !slices.Equal(here, there) {
						t.Errorf("%s, %s to %s: %s\n is %.500q\n, not %.500q", c.Name, s.Flavor, s.Peer.Flavor, c.Column, there, here)
					}
				}
			}
			w.clean(t, before)
		})
	}
	t.Logf("%d types", len(cases))
}

func (w *world) makeTables(t *testing.T, cases []*typed) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(8)
	for _, c := range cases {
		for writer := range w.Sides {
			c.tables[writer] = fmt.Sprintf("t%d_%s_%d", writer, c.Name, named.Add(1))
			create := strings.Replace(c.CreateTable(c.tables[writer]), "CREATE TABLE ", "CREATE TABLE "+tables+".", 1)
			for side, s := range w.Sides {
				group.Go(func() error {
					if _, err := w.quiet[side].ExecContext(ctx, create); err != nil {
						return fmt.Errorf("%s: %s: %w", s.Flavor, create, err)
					}
					return nil
				})
			}
		}
	}
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
}

// as runs statements in a session set up as the case wants.
func (w *world) as(t *testing.T, side int, session string, statements []string) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	conn, err := w.Sides[side].SQL.Admin(tables).Conn(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	if session != "" {
		// What a session was set to must not stay in the pool.
		defer func() { _ = conn.Raw(func(any) error { return driver.ErrBadConn }) }()
		statements = append([]string{session}, statements...)
	}
	for _, s := range statements {
		if _, err := conn.ExecContext(ctx, s); err != nil {
			return fmt.Errorf("%.300s: %w", s, err)
		}
	}
	return nil
}
