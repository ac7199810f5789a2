package e2e_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/tandem-dc/tandem/shared/sqldb"
	"github.com/tandem-dc/tandem/testbench/cluster"
	"github.com/tandem-dc/tandem/testbench/link"
	"github.com/tandem-dc/tandem/testbench/servers"
	"github.com/tandem-dc/tandem/testbench/shop"
	"github.com/tandem-dc/tandem/testbench/verify"
)

func TestMain(m *testing.M) { os.Exit(servers.Main(closing{m})) }

// closing ends the shared clusters before servers.Main looks for what is left.
type closing struct{ *testing.M }

func (c closing) Run() int {
	code := c.M.Run()
	for _, w := range worlds {
		if err := w.close(code != 0); err != nil {
			fmt.Fprintln(os.Stderr, "e2e:", err)
			code = max(code, 1)
		}
	}
	return code
}

const (
	// tables is the database of tables that must be equal on both sides.
	tables = "e2e"
	// odd is that of tables that differ on purpose.
	odd = "odd"

	startLimit = 5 * time.Minute
	drainLimit = 90 * time.Second
	sqlLimit   = 30 * time.Second
)

// hasty are settings under which faults are noticed and repaired sooner than in production.
var hasty = map[string]map[string]string{"capture": {
	"TANDEM_LEASE_TTL": "3s", "TANDEM_DRAIN": "1s", "TANDEM_REPAIR_INTERVAL": "1s", "TANDEM_HEARTBEAT": "500ms",
}}

// world is a cluster that tests share. A test leaves it drained, with all
// programs running and links open; after one that failed the next gets a new one.
type world struct {
	*cluster.Cluster
	kind  servers.KafkaKind
	quiet [2]*sql.DB // as root; what they do is not in the binlog
	app   [2]*sql.DB // as the shop's application

	spoilt bool
}

var worlds = map[string]*world{}

// each runs f in a shared world of each flavour and broker.
func each(t *testing.T, f func(t *testing.T, w *world)) {
	t.Helper()
	for _, flavor := range servers.Flavors {
		t.Run(string(flavor), func(t *testing.T) {
			servers.EachKafka(t, func(t *testing.T, kind servers.KafkaKind) {
				f(t, shared(t, flavor, flavor, kind))
			})
		})
	}
}

// shared returns the world of these servers; the first call starts it.
func shared(t *testing.T, first, second sqldb.Flavor, kind servers.KafkaKind) *world {
	t.Helper()
	key := fmt.Sprintf("%s-%s-%s", first, second, kind)
	if w := worlds[key]; w != nil && w.spoilt {
		delete(worlds, key)
		if err := w.close(true); err != nil {
			t.Logf("close a spoilt cluster: %v", err)
		}
	}
	if worlds[key] == nil {
		w, err := startWorld(t, first, second, kind)
		if err != nil {
			t.Fatal(err)
		}
		worlds[key] = w
	}
	w := worlds[key]
	t.Cleanup(func() {
		if t.Failed() {
			w.spoilt = true
			t.Logf("logs of the cluster: %s", w.Dir())
		}
	})
	return w
}

func startWorld(t *testing.T, first, second sqldb.Flavor, kind servers.KafkaKind) (*world, error) {
	began := time.Now()
	dir, err := servers.ScratchDir("e2e")
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(t.Context(), startLimit)
	defer cancel()
	c, err := cluster.StartBuilt(ctx, cluster.Options{
		Flavor: first, Second: second, Broker: kind, Dir: dir, Env: hasty,
		Databases: []string{shop.Database, tables, odd}, Prepare: openShop,
	})
	if err != nil {
		return nil, err
	}
	w := &world{Cluster: c, kind: kind}
	for i, s := range c.Sides {
		if w.quiet[i], err = sqldb.Open(s.SQL.Config(servers.Root), sqldb.Session{MaxOpen: 4, Vars: map[string]string{"sql_log_bin": "0"}}); err == nil {
			w.app[i], err = sqldb.Open(s.SQL.Config(servers.App), sqldb.Session{Database: shop.Database, MaxOpen: 40})
		}
		if err != nil {
			return nil, errors.Join(err, w.close(true))
		}
	}
	t.Logf("a cluster of %s, %s and %s stands after %v", first, second, kind, time.Since(began).Round(time.Millisecond))
	return w, nil
}

func openShop(ctx context.Context, c *cluster.Cluster) error {
	group, ctx := errgroup.WithContext(ctx)
	for _, s := range c.Sides {
		group.Go(func() error {
			db := s.SQL.Admin(shop.Database)
			if err := shop.Create(ctx, db); err != nil {
				return err
			}
			return shop.Seed(ctx, db, shop.Catalog{})
		})
	}
	return group.Wait()
}

func (w *world) close(keep bool) error {
	for i := range w.app {
		if w.quiet[i] != nil {
			_ = w.quiet[i].Close() // its server ends next
		}
		if w.app[i] != nil {
			_ = w.app[i].Close()
		}
	}
	return w.Close(keep)
}

// far puts the datacenters apart for the test.
func (w *world) far(t *testing.T, o link.Options) {
	t.Helper()
	set := func(o link.Options) {
		for _, s := range w.Sides {
			if err := s.Route.SetLatency(o); err != nil {
				t.Error(err)
			}
		}
	}
	set(o)
	t.Cleanup(func() { set(link.Options{}) })
}

var named atomic.Int64

// table makes a table on both sides, without a word in the binlog, and returns
// its name. ddl has %s for the name.
func (w *world) table(t *testing.T, db, base, ddl string) string {
	t.Helper()
	name := fmt.Sprintf("%s_%d", base, named.Add(1))
	for side := range w.Sides {
		w.hush(t, side, "CREATE TABLE "+fmt.Sprintf(ddl, sqldb.QuoteTable(db, name)))
	}
	return sqldb.QuoteTable(db, name)
}

// hush runs statements that the other side shall not learn of.
func (w *world) hush(t *testing.T, side int, statements ...string) {
	t.Helper()
	run(t, w.quiet[side], statements...)
}

// write runs statements as an application does, each a transaction.
func (w *world) write(t *testing.T, side int, statements ...string) {
	t.Helper()
	run(t, w.Sides[side].SQL.Admin(""), statements...)
}

func run(t *testing.T, db *sql.DB, statements ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), sqlLimit)
	defer cancel()
	for _, s := range statements {
		if _, err := db.ExecContext(ctx, s); err != nil {
			t.Fatalf("%.200s: %v", s, err)
		}
	}
}

// ask reads one value.
func (w *world) ask(ctx context.Context, side int, query string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, sqlLimit)
	defer cancel()
	var v sql.NullString
	err := w.Sides[side].SQL.Admin("").QueryRowContext(ctx, query).Scan(&v)
	if !v.Valid {
		return "NULL", err
	}
	return v.String, err
}

// shows is a condition: the query gives that value.
func (w *world) shows(side int, query, want string) func(context.Context) error {
	return func(ctx context.Context) error {
		got, err := w.ask(ctx, side, query)
		if err == nil && got != want {
			err = fmt.Errorf("%s: %.200s gives %q, not %q", w.Sides[side].Name, query, got, want)
		}
		return err
	}
}

// eventually waits until a condition holds.
func eventually(t testing.TB, limit time.Duration, condition func(context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	var last error
	for {
		err := condition(ctx)
		if err == nil {
			return
		}
		if ctx.Err() == nil || last == nil {
			last = err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("still not after %v: %v", limit, last)
		}
	}
}

// drain waits until each side has everything of the other.
func (w *world) drain(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), drainLimit)
	defer cancel()
	began := time.Now()
	if err := w.Drain(ctx); err != nil {
		for side := range w.Sides {
			w.letters(t, side)
		}
		t.Fatal(err)
	}
	t.Logf("drained in %v", time.Since(began).Round(time.Millisecond))
}

// equal compares databases row by row.
func (w *world) equal(t *testing.T, databases ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), drainLimit)
	defer cancel()
	a, b := w.Sides[0], w.Sides[1]
	r, err := verify.Compare(ctx, verify.Side{Name: a.Name, DB: a.SQL.Admin("")}, verify.Side{Name: b.Name, DB: b.SQL.Admin("")}, verify.Options{Databases: databases})
	if err != nil {
		t.Fatal(err)
	}
	if !r.Equal() || r.Rows() == 0 {
		var report strings.Builder
		r.Write(&report)
		t.Errorf("the sides differ, or are empty: %d rows\n%s", r.Rows(), &report)
	}
}

// losses counts what did not go the straight way, on both sides together. What was
// stored while it waited and is applied stays stored until the next sweep: it
// waits for that.
func (w *world) losses(t *testing.T) (sum cluster.Losses) {
	t.Helper()
	for _, s := range w.Sides {
		var l cluster.Losses
		eventually(t, 20*time.Second, func(ctx context.Context) (err error) {
			if l, err = s.Losses(ctx); err == nil && l.Pending > 0 {
				err = fmt.Errorf("%s: %d events are still stored", s.Name, l.Pending)
			}
			return err
		})
		sum.Conflicts += l.Conflicts
		sum.DeadLetters += l.DeadLetters
	}
	return sum
}

// clean fails the test if there are more losses than before.
func (w *world) clean(t *testing.T, before cluster.Losses) {
	t.Helper()
	if after := w.losses(t); after != before {
		t.Errorf("conflicts and dead letters went from %+v to %+v", before, after)
		for side := range w.Sides {
			w.letters(t, side)
			w.conflicts(t, side)
		}
	}
}

// letters prints the newest dead letters.
func (w *world) letters(t *testing.T, side int) {
	t.Helper()
	w.print(t, side, "dead letter", "SELECT CONCAT_WS(' ', origin, seq, kind, reason) FROM tandem.dead_letter ORDER BY id DESC LIMIT 10")
}

// conflicts prints the newest conflicts.
func (w *world) conflicts(t *testing.T, side int) {
	t.Helper()
	w.print(t, side, "conflict", "SELECT CONCAT_WS(' ', table_name, pk, kind, decision, origin, seq, 'local', local_image, 'before', before_image, 'after', after_image) FROM tandem.conflict_log ORDER BY id DESC LIMIT 10")
}

func (w *world) print(t *testing.T, side int, what, query string) {
	t.Helper()
	for _, line := range w.lines(t, side, query) {
		t.Logf("%s: %s: %.1000s", w.Sides[side].Name, what, line)
	}
}

// lines reads one column.
func (w *world) lines(t *testing.T, side int, query string, args ...any) (lines []string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), sqlLimit)
	defer cancel()
	rows, err := w.Sides[side].SQL.Admin("").QueryContext(ctx, query, args...)
	if err != nil {
		t.Fatalf("%.200s: %v", query, err)
	}
	defer rows.Close()
	for rows.Next() {
		var v sql.NullString
		if err := rows.Scan(&v); err != nil {
			t.Fatal(err)
		}
		if !v.Valid {
			v.String = "NULL"
		}
		lines = append(lines, v.String)
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return lines
}
