package ledger_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tandem-dc/tandem/shared/ledger"
	"github.com/tandem-dc/tandem/shared/sqldb"
	"github.com/tandem-dc/tandem/testbench/servers"
)

func TestMain(m *testing.M) { os.Exit(servers.Main(m)) }

func migrated(t *testing.T, m *servers.MySQL) *sql.DB {
	t.Helper()
	db := m.Admin("")
	if err := ledger.Migrate(t.Context(), db); err != nil {
		t.Fatal(err)
	}
	return db
}

func exec(t *testing.T, db ledger.Execer, q string, args ...any) {
	t.Helper()
	if _, err := db.ExecContext(t.Context(), q, args...); err != nil {
		t.Fatalf("%s: %v", q, err)
	}
}

func read(t *testing.T, db *sql.DB, origin string) ledger.State {
	t.Helper()
	s, err := ledger.Read(t.Context(), db, origin)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// claim claims sequences in a transaction of its own.
func claim(t *testing.T, db *sql.DB, origin string, epoch uint64, seqs ...uint64) []bool {
	t.Helper()
	tx, err := db.BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback()
	got, err := ledger.Claim(t.Context(), tx, rows(origin, epoch, seqs...)...)
	if err != nil {
		t.Fatal(err)
	}
	if err := tx.Commit(); err != nil {
		t.Fatal(err)
	}
	return got
}

func rows(origin string, epoch uint64, seqs ...uint64) (out []ledger.Row) {
	for _, seq := range seqs {
		out = append(out, ledger.Row{Origin: origin, Epoch: epoch, Seq: seq, GTID: fmt.Sprint("uuid:", seq), CommittedUS: 1})
	}
	return out
}

func TestMigrateRunsAnyNumberOfTimesAtOnce(t *testing.T) {
	servers.EachFlavor(t, func(t *testing.T, m *servers.MySQL) {
		exec(t, m.Admin(""), "DROP DATABASE IF EXISTS tandem")
		var wg sync.WaitGroup
		for range 6 {
			wg.Go(func() {
				if err := ledger.Migrate(t.Context(), m.Admin("")); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		// Half done, as after a crash: the tables are there, the version is not.
		exec(t, m.Admin(""), "DELETE FROM tandem.schema_version")
		exec(t, m.Admin(""), "DROP TABLE tandem.stream")
		migrated(t, m)
		exec(t, m.Admin(""), "SELECT 1 FROM tandem.stream")
	})
}

func TestScriptIsAccepted(t *testing.T) {
	servers.EachFlavor(t, func(t *testing.T, m *servers.MySQL) {
		exec(t, m.Admin(""), "DROP DATABASE IF EXISTS tandem")
		for range 2 {
			for _, s := range strings.Split(strings.TrimSpace(ledger.Script()), ";\n") {
				if s = strings.TrimSuffix(strings.TrimSpace(s), ";"); s != "" {
					exec(t, m.Admin(""), s)
				}
			}
		}
		apply, err := sqldb.Open(m.Config(servers.Apply), sqldb.Session{})
		if err != nil {
			t.Fatal(err)
		}
		defer apply.Close()
		if err := ledger.Migrate(t.Context(), apply); err != nil {
			t.Errorf("nothing is to be done, but: %v", err)
		}
	})
}

func TestMigrateWithoutRightsNamesTheGrant(t *testing.T) {
	servers.EachFlavor(t, func(t *testing.T, m *servers.MySQL) {
		exec(t, m.Admin(""), "DROP DATABASE IF EXISTS tandem")
		apply, err := sqldb.Open(m.Config(servers.Apply), sqldb.Session{})
		if err != nil {
			t.Fatal(err)
		}
		defer apply.Close()
		err = ledger.Migrate(t.Context(), apply)
		if !errors.Is(err, ledger.ErrRights) || !strings.Contains(err.Error(), "GRANT CREATE") || !strings.Contains(err.Error(), "'apply'@'%'") {
			t.Errorf("error does not name the grant: %v", err)
		}
		migrated(t, m)
	})
}

func TestClaim(t *testing.T) {
	servers.EachFlavor(t, func(t *testing.T, m *servers.MySQL) {
		db := migrated(t, m)
		const o = "claim"
		if s := read(t, db, o); s.Slots != 0 || s.Epoch != 0 {
			t.Fatalf("before the start: %+v", s)
		}
		for range 2 {
			if err := ledger.Fill(t.Context(), db, o); err != nil {
				t.Fatal(err)
			}
		}
		check := func(epoch, low uint64, done ...uint64) {
			t.Helper()
			if s := read(t, db, o); s.Slots != ledger.RingSize || s.Epoch != epoch || s.Low != low || !slices.Equal(s.Done, done) {
				t.Errorf("state is %+v, want epoch %d low %d done %v", s, epoch, low, done)
			}
		}
		got := func(epoch uint64, seqs []uint64, want ...bool) {
			t.Helper()
			if g := claim(t, db, o, epoch, seqs...); !slices.Equal(g, want) {
				t.Errorf("claim of %d/%v got %v, want %v", epoch, seqs, g, want)
			}
		}
		check(0, 0)
		got(1, []uint64{2}, true)
		check(1, 0, 2)
		got(1, []uint64{2}, false)
		got(1, []uint64{3, 1, 2}, true, true, false)
		check(1, 3)
		got(1, []uint64{1, 2, 3}, false, false, false)
		got(1, []uint64{ledger.RingSize + 2, 4, ledger.RingSize}, true, true, true)
		check(1, 4, ledger.RingSize, ledger.RingSize+2)
		got(1, []uint64{2}, false) // the slot holds a later one
		if err := ledger.Advance(t.Context(), db, o, 5); err != nil {
			t.Fatal(err)
		}
		check(5, 0)
		got(4, []uint64{9}, false)
		got(4, []uint64{9, 10}, false, false)
		got(5, []uint64{1, 2}, true, true)
		check(5, 2)
		if err := ledger.Advance(t.Context(), db, o, 5); err != nil {
			t.Fatal(err)
		}
		check(5, 2)
	})
}

func TestRollbackFreesTheSlot(t *testing.T) {
	servers.EachFlavor(t, func(t *testing.T, m *servers.MySQL) {
		db := migrated(t, m)
		if err := ledger.Fill(t.Context(), db, "rollback"); err != nil {
			t.Fatal(err)
		}
		tx, err := db.BeginTx(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := ledger.Claim(t.Context(), tx, rows("rollback", 1, 1, 2, 3)...); err != nil || !got[0] {
			t.Fatal(got, err)
		}
		if err := tx.Rollback(); err != nil {
			t.Fatal(err)
		}
		if got := claim(t, db, "rollback", 1, 1, 2, 3); !got[0] || !got[1] || !got[2] {
			t.Errorf("after a rollback got %v", got)
		}
	})
}

// Groups of one stream run at once: their claims must not lock each other's
// slots, not even right after the ring was laid out, when the server knows nothing of its size.
func TestClaimsOfOtherSlotsDoNotWait(t *testing.T) {
	servers.EachFlavor(t, func(t *testing.T, m *servers.MySQL) {
		migrated(t, m)
		db, err := sqldb.Open(m.Config(servers.Apply), sqldb.Session{MaxOpen: 20, Vars: map[string]string{"innodb_lock_wait_timeout": "3"}})
		if err != nil {
			t.Fatal(err)
		}
		defer db.Close()
		if err := ledger.Fill(t.Context(), db, "side-by-side"); err != nil {
			t.Fatal(err)
		}
		for _, size := range []int{1, 2, 5, 32, 64} {
			var open []*sql.Tx
			for g := range 8 {
				tx, err := db.BeginTx(t.Context(), &sql.TxOptions{Isolation: sql.LevelReadCommitted})
				if err != nil {
					t.Fatal(err)
				}
				open = append(open, tx)
				var seqs []uint64
				for i := range size {
					seqs = append(seqs, uint64(1+i*8+g)) // interleaved
				}
				ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
				got, err := ledger.Claim(ctx, tx, rows("side-by-side", 1, seqs...)...)
				cancel()
				if err != nil || slices.Contains(got, false) {
					t.Errorf("group %d of %d: %v %v", g, size, got, err)
				}
			}
			for _, tx := range open {
				if err := tx.Rollback(); err != nil {
					t.Error(err)
				}
			}
		}
	})
}

func TestHeartbeatOnlyMovesForward(t *testing.T) {
	servers.EachFlavor(t, func(t *testing.T, m *servers.MySQL) {
		db := migrated(t, m)
		if err := ledger.Fill(t.Context(), db, "beat"); err != nil {
			t.Fatal(err)
		}
		for _, h := range [][3]uint64{{2, 10, 100}, {2, 9, 90}, {1, 50, 500}, {2, 11, 110}, {2, 11, 110}} {
			if err := ledger.Heartbeat(t.Context(), db, "beat", h[0], h[1], h[2]); err != nil {
				t.Fatal(err)
			}
		}
		var epoch, seq, us uint64
		if err := db.QueryRowContext(t.Context(), "SELECT epoch, seq, heartbeat_us FROM tandem.stream WHERE origin = 'beat'").Scan(&epoch, &seq, &us); err != nil {
			t.Fatal(err)
		}
		if epoch != 2 || seq != 11 || us != 110 {
			t.Errorf("heartbeat is %d %d %d", epoch, seq, us)
		}
	})
}
