package apply_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	ce "github.com/cloudevents/sdk-go/v2/event"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/tandem-dc/tandem/functions/apply"
	"github.com/tandem-dc/tandem/shared/event"
	"github.com/tandem-dc/tandem/shared/fnhost"
	"github.com/tandem-dc/tandem/shared/ledger"
	"github.com/tandem-dc/tandem/testbench/servers"
)

func TestMain(m *testing.M) { os.Exit(servers.Main(m)) }

// here is the datacenter that applies; origins of tests sort before or after it.
const here = "m-here"

// world is a database on a server, and a stream of one origin into it.
type world struct {
	t      testing.TB
	m      *servers.MySQL
	db     *sql.DB // root's, in the database
	name   string
	origin string
	sent   *letters
}

func eachWorld(t *testing.T, f func(t *testing.T, w *world)) {
	servers.EachFlavor(t, func(t *testing.T, m *servers.MySQL) { f(t, newWorld(t, m)) })
}

func newWorld(t testing.TB, m *servers.MySQL) *world {
	t.Helper()
	if err := ledger.Migrate(t.Context(), m.Admin("")); err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, m: m, name: m.NewDatabase(t), origin: fmt.Sprintf("a-%x", rand.Uint32()), sent: &letters{}}
	w.db = m.Admin(w.name)
	t.Cleanup(func() {
		if !m.Running() {
			return
		}
		for _, table := range []string{"ledger", "stream", "pending"} {
			if _, err := m.Admin("").Exec("DELETE FROM tandem."+table+" WHERE origin = ?", w.origin); err != nil {
				t.Error(err)
			}
		}
		if _, err := m.Admin("").Exec("UPDATE tandem.dead_letter SET state = 'skipped', published_at = NOW() WHERE origin = ?", w.origin); err != nil {
			t.Error(err)
		}
	})
	return w
}

func (w *world) exec(q string, args ...any) {
	w.t.Helper()
	if _, err := w.db.ExecContext(w.t.Context(), q, args...); err != nil {
		w.t.Fatalf("%s: %v", q, err)
	}
}

// query returns the rows of a query, columns joined by |, rows by newlines.
func (w *world) query(q string, args ...any) string {
	w.t.Helper()
	rows, err := w.db.QueryContext(w.t.Context(), q, args...)
	if err != nil {
		w.t.Fatalf("%s: %v", q, err)
	}
	defer rows.Close()
	names, err := rows.Columns()
	if err != nil {
		w.t.Fatal(err)
	}
	var lines []string
	for rows.Next() {
		values := make([]sql.NullString, len(names))
		dst := make([]any, len(names))
		for i := range values {
			dst[i] = &values[i]
		}
		if err := rows.Scan(dst...); err != nil {
			w.t.Fatal(err)
		}
		var parts []string
		for _, v := range values {
			if !v.Valid {
				v.String = "NULL"
			}
			parts = append(parts, v.String)
		}
		lines = append(lines, strings.Join(parts, "|"))
	}
	if err := rows.Err(); err != nil {
		w.t.Fatal(err)
	}
	return strings.Join(lines, "\n")
}

func (w *world) want(want, q string, args ...any) {
	w.t.Helper()
	if got := w.query(q, args...); got != want {
		w.t.Errorf("%s\ngot:\n%s\nwant:\n%s", q, got, want)
	}
}

// until waits for a condition that other goroutines bring about.
func until(t testing.TB, what string, f func() bool) {
	t.Helper()
	limit := time.After(30 * time.Second)
	for !f() {
		select {
		case <-limit:
			t.Fatalf("%s: not within 30 s", what)
		case <-time.After(2 * time.Millisecond):
		}
	}
}

func (w *world) untilQuery(want, q string, args ...any) {
	w.t.Helper()
	until(w.t, q+" = "+want, func() bool { return w.query(q, args...) == want })
}

func (w *world) low() uint64 {
	s, err := ledger.Read(w.t.Context(), w.m.Admin(""), w.origin)
	if err != nil {
		w.t.Fatal(err)
	}
	return s.Low
}

// letters is a dead-letter topic that can be out of order.
type letters struct {
	mu     sync.Mutex
	broken bool
	got    []event.Meta
	data   [][]byte
}

func (l *letters) Publish(_ context.Context, m event.Meta, data []byte) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.broken {
		return errors.New("no broker")
	}
	l.got = append(l.got, m)
	l.data = append(l.data, data)
	return nil
}

func (l *letters) setBroken(b bool) { l.mu.Lock(); l.broken = b; l.mu.Unlock() }

func (l *letters) all() []event.Meta {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]event.Meta{}, l.got...)
}

// of returns those of one origin.
func (l *letters) of(origin string) (out []event.Meta) {
	for _, m := range l.all() {
		if m.Origin == origin {
			out = append(out, m)
		}
	}
	return out
}

// instance is a running Function.
type instance struct {
	*apply.Function
	w    *world
	kill context.CancelFunc
	done chan struct{}
	reg  *prometheus.Registry
}

func (w *world) config() apply.Config {
	c := apply.Config{DC: here, MySQL: w.m.Config(servers.Apply)}
	c.Settings.Wait, c.Settings.Sweep, c.Settings.Refresh = 300*time.Millisecond, 100*time.Millisecond, 20*time.Millisecond
	c.Settings.Retry = 5 * time.Second
	return c
}

func (w *world) start(change ...func(*apply.Config)) *instance {
	w.t.Helper()
	c := w.config()
	for _, f := range change {
		f(&c)
	}
	reg := prometheus.NewRegistry()
	log := slog.New(slog.NewTextHandler(testLog{w.t}, nil))
	f, err := apply.New(c, apply.Deps{Log: log, Registry: reg, Letters: w.sent})
	if err != nil {
		w.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	i := &instance{Function: f, w: w, kill: cancel, done: make(chan struct{}), reg: reg}
	go func() {
		defer close(i.done)
		if err := f.Run(ctx); err != nil {
			w.t.Errorf("Run: %v", err)
		}
	}()
	w.t.Cleanup(i.stop)
	return i
}

// stop ends the instance without letting anyone finish.
func (i *instance) stop() {
	i.kill()
	<-i.done
	if err := i.Close(); err != nil {
		i.w.t.Error(err)
	}
}

// testLog writes to the test's log, which shows only when it fails.
type testLog struct{ t testing.TB }

func (l testLog) Write(b []byte) (int, error) {
	if os.Getenv("APPLY_TEST_LOG") != "" {
		os.Stderr.Write(b)
	}
	return len(b), nil
}

// send handles one event and returns its HTTP status.
func (i *instance) send(e ce.Event) int {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	return fnhost.Status(i.Handle(ctx, e))
}

// must handles events one after the other.
func (i *instance) must(events ...ce.Event) {
	i.w.t.Helper()
	for _, e := range events {
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		if err := i.Handle(ctx, e); err != nil {
			i.w.t.Fatalf("event %s: %v", e.ID(), err)
		}
		cancel()
	}
}

var commit = time.Date(2024, 5, 1, 12, 0, 0, 123456000, time.UTC)

func (w *world) meta(seq, last uint64) event.Meta {
	return event.Meta{
		ID: fmt.Sprintf("uuid:%d", seq), Source: event.Source(w.origin, "uuid"), Type: event.TypeTransaction, Time: commit,
		Origin: w.origin, Epoch: 1, Sequence: seq, LastCommitted: last,
	}
}

func (w *world) event(m event.Meta, data []byte) ce.Event {
	w.t.Helper()
	e, err := m.CloudEvent(data)
	if err != nil {
		w.t.Fatal(err)
	}
	return e
}

// change is one row change of a table.
type change struct {
	table         *event.Table
	before, after []event.Value
}

func (w *world) txn(seq, last uint64, changes ...change) ce.Event {
	w.t.Helper()
	return w.event(w.meta(seq, last), payload(fmt.Sprintf("uuid:%d", seq), changes...))
}

func payload(gtid string, changes ...change) []byte {
	x := &event.Transaction{Server: "uuid", GTID: gtid, File: "binlog.000001", Pos: 4}
	at := map[*event.Table]int{}
	for _, c := range changes {
		i, ok := at[c.table]
		if !ok {
			i = len(x.Tables)
			at[c.table] = i
			x.Tables = append(x.Tables, *c.table)
		}
		op := event.Update
		if c.before == nil {
			op = event.Insert
		} else if c.after == nil {
			op = event.Delete
		}
		x.Rows = append(x.Rows, event.Row{Table: i, Op: op, Before: c.before, After: c.after})
	}
	return x.AppendJSON(nil)
}

// table describes columns as "name type charset", comma-separated; the first is the key.
func (w *world) table(name, columns string) *event.Table {
	t := &event.Table{DB: w.name, Name: name, Key: []int{0}}
	for c := range strings.SplitSeq(columns, ",") {
		f := strings.Fields(c)
		col := event.Column{Name: f[0], Type: event.Type(f[1])}
		if col.Type.Textual() {
			col.Charset = "utf8mb4"
			if len(f) > 2 {
				col.Charset = f[2]
			}
		}
		col.Unsigned = len(f) > 2 && f[2] == "unsigned"
		t.Columns = append(t.Columns, col)
	}
	return t
}

// row makes values of text; NULL and ABSENT are what they say.
func row(values ...string) []event.Value {
	out := []event.Value{}
	for _, s := range values {
		switch s {
		case "NULL":
			out = append(out, event.Value{Kind: event.Null})
		case "ABSENT":
			out = append(out, event.Value{})
		case "ZERO":
			out = append(out, event.Value{Kind: event.Zero})
		default:
			out = append(out, event.Of(s))
		}
	}
	return out
}

func insert(t *event.Table, after ...string) change { return change{t, nil, row(after...)} }
func remove(t *event.Table, before ...string) change {
	return change{t, row(before...), nil}
}
func update(t *event.Table, before, after []event.Value) change { return change{t, before, after} }

func depsOf(t testing.TB) apply.Deps {
	return apply.Deps{Log: slog.New(slog.NewTextHandler(testLog{t}, nil)), Registry: prometheus.NewRegistry()}
}
