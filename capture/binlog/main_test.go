package binlog_test

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"log/slog"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/tandem-dc/tandem/capture/binlog"
	"github.com/tandem-dc/tandem/testbench/servers"
)

func TestMain(m *testing.M) { os.Exit(servers.Main(m)) }

// limit bounds every wait of these tests.
const limit = time.Minute

func exec(t testing.TB, db interface {
	ExecContext(context.Context, string, ...any) (sql.Result, error)
}, statements ...string) {
	t.Helper()
	for _, s := range statements {
		if _, err := db.ExecContext(t.Context(), s); err != nil {
			t.Fatalf("%.200s: %v", s, err)
		}
	}
}

// session runs statements on a connection of root's that is not used again.
func session(t testing.TB, m *servers.MySQL, db string, statements ...string) {
	t.Helper()
	c, err := m.Admin(db).Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	exec(t, c, statements...)
	_ = c.Raw(func(any) error { return driver.ErrBadConn }) // the pool forgets it
}

func here(t testing.TB, m *servers.MySQL) binlog.Position {
	t.Helper()
	p, err := binlog.Current(t.Context(), m.Admin(""))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func config(m *servers.MySQL, include ...string) binlog.Config {
	return binlog.Config{MySQL: m.Config(servers.Capture), Include: include, Heartbeat: 200 * time.Millisecond}
}

// reading is a Run in the background.
type reading struct {
	t     testing.TB
	items chan binlog.Item
	ended chan error
	stop  context.CancelFunc
}

func read(t testing.TB, cfg binlog.Config, from binlog.Position) *reading {
	t.Helper()
	r, err := binlog.New(cfg, slog.New(slog.NewTextHandler(testWriter{t}, nil)))
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	x := &reading{t: t, items: make(chan binlog.Item), ended: make(chan error, 1), stop: stop}
	go func() { x.ended <- r.Run(ctx, from, x.items) }()
	t.Cleanup(func() { x.end() })
	return x
}

type testWriter struct{ t testing.TB }

func (w testWriter) Write(b []byte) (int, error) {
	w.t.Log(strings.TrimSpace(string(b)))
	return len(b), nil
}

// end stops the Run and returns its error.
func (x *reading) end() error {
	x.stop()
	err := <-x.ended
	x.ended <- err
	return err
}

// next returns the next item that is not idle.
func (x *reading) next() binlog.Item {
	x.t.Helper()
	for {
		if i := x.any(); i.Skipped != binlog.Idle {
			return i
		}
	}
}

func (x *reading) any() binlog.Item {
	x.t.Helper()
	select {
	case i := <-x.items:
		return i
	case err := <-x.ended:
		x.ended <- err
		x.t.Fatalf("the reader ended: %v", err)
	case <-time.After(limit):
		x.t.Fatal("nothing was read in time")
	}
	panic("unreachable")
}

// txn returns the next transaction to send.
func (x *reading) txn() *binlog.Txn {
	x.t.Helper()
	for {
		if i := x.next(); i.Txn != nil {
			return i.Txn
		}
	}
}

// failure waits for the Run to end by itself.
func (x *reading) failure() error {
	x.t.Helper()
	for {
		select {
		case <-x.items:
		case err := <-x.ended:
			x.ended <- err
			return err
		case <-time.After(limit):
			x.t.Fatal("the reader does not end")
		}
	}
}
