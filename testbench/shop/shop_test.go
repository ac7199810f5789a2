package shop_test

import (
	"context"
	"database/sql"
	"log/slog"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/tandem-dc/tandem/shared/sqldb"
	"github.com/tandem-dc/tandem/testbench/servers"
	"github.com/tandem-dc/tandem/testbench/shop"
)

func TestMain(m *testing.M) { os.Exit(servers.Main(m)) }

// small keeps the tests quick.
var small = shop.Catalog{Merchants: 5, ProductsPerMerchant: 10, Users: 50}

func newShop(t *testing.T, m *servers.MySQL) *sql.DB {
	t.Helper()
	db, err := sqldb.Open(m.Config(servers.App), sqldb.Session{Database: m.NewDatabase(t), MaxOpen: 20})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	if err := shop.Create(t.Context(), db); err != nil {
		t.Fatal(err)
	}
	if err := shop.Seed(t.Context(), db, small); err != nil {
		t.Fatal(err)
	}
	return db
}

// number runs a query that yields one.
func number(t *testing.T, db *sql.DB, query string, args ...any) (n int64) {
	t.Helper()
	if err := db.QueryRowContext(t.Context(), query, args...).Scan(&n); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	return n
}

func TestSeedIsTheSameEverywhere(t *testing.T) {
	servers.EachFlavor(t, func(t *testing.T, m *servers.MySQL) {
		a, b := newShop(t, m), newShop(t, m)
		for _, table := range shop.Tables() {
			var name string
			var sums [2]sql.NullInt64
			for i, db := range []*sql.DB{a, b} {
				if err := db.QueryRowContext(t.Context(), "CHECKSUM TABLE "+table).Scan(&name, &sums[i]); err != nil {
					t.Fatal(err)
				}
			}
			if sums[0] != sums[1] {
				t.Errorf("%s differs", table)
			}
		}
		if n := number(t, a, "SELECT COUNT(*) FROM products JOIN inventory ON id=product_id"); n != 2*5*10 {
			t.Errorf("%d products with inventory", n)
		}
	})
}

func TestLoadKeepsItsRateAndTheBooks(t *testing.T) {
	servers.EachFlavor(t, func(t *testing.T, m *servers.MySQL) {
		db := newShop(t, m)
		const rate, length = 100, 3 * time.Second
		l, err := shop.New(shop.Config{DC: 2, Catalog: small, Seed: 7, Rate: rate, Workers: 16}, db, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), length)
		defer cancel()
		if err := l.Run(ctx); err != nil {
			t.Fatal(err)
		}
		s := l.Stats()
		t.Logf("%+v; latency p50 %d, p99 %d µs", s, l.Latency().ValueAtQuantile(50), l.Latency().ValueAtQuantile(99))
		if s.Failed != 0 {
			t.Errorf("%d failed: %v", s.Failed, s.LastError)
		}
		if want := uint64(rate * length.Seconds()); s.Committed < want*6/10 || s.Committed > want*11/10 {
			t.Errorf("%d transactions, want about %d", s.Committed, want)
		}
		for i, name := range shop.Kinds()[:len(s.ByKind)-1] {
			if s.ByKind[i] == 0 {
				t.Errorf("no %s", name)
			}
		}
		if mean := float64(s.Statements) / float64(s.Committed); mean < 2 || mean > 4 {
			t.Errorf("%.1f statements on average", mean)
		}
		if l.Latency().TotalCount() != int64(s.Committed) {
			t.Errorf("%d latencies of %d transactions", l.Latency().TotalCount(), s.Committed)
		}
		for name, query := range map[string]string{
			"orders whose total is not the sum of their lines": "SELECT COUNT(*) FROM orders o WHERE total<>(SELECT SUM(quantity*price) FROM order_items WHERE order_id=o.id)",
			"payments of another amount than the order's":      "SELECT COUNT(*) FROM payments p JOIN orders o ON o.id=p.order_id WHERE p.amount<>o.total",
			"orders with a payment that are not paid":          "SELECT COUNT(*) FROM payments p JOIN orders o ON o.id=p.order_id WHERE o.status='placed'",
			"rows of another home":                             "SELECT COUNT(*) FROM orders WHERE id>>57<>2 OR user_id>>57<>2",
			"carts that count no items but hold some":          "SELECT COUNT(*) FROM carts c WHERE items=0 AND EXISTS (SELECT 1 FROM cart_items i WHERE i.user_id=c.user_id)",
		} {
			if n := number(t, db, query); n != 0 {
				t.Errorf("%d %s", n, name)
			}
		}
		if n := number(t, db, "SELECT COUNT(*) FROM orders"); n == 0 {
			t.Error("no orders: the books were checked on nothing")
		}
	})
}

// Contests of two datacenters hit the same rows at the same time.
func TestContestsMeet(t *testing.T) {
	servers.EachFlavor(t, func(t *testing.T, m *servers.MySQL) {
		ctx, cancel := context.WithTimeout(t.Context(), 1500*time.Millisecond)
		defer cancel()
		start := time.Now()
		var touched [2][]int64
		var dbs [2]*sql.DB
		var wg sync.WaitGroup
		for i := range dbs {
			dbs[i] = newShop(t, m)
			l, err := shop.New(shop.Config{DC: i + 1, Catalog: small, Rate: 100, Conflicts: 1, Start: start}, dbs[i], slog.New(slog.DiscardHandler))
			if err != nil {
				t.Fatal(err)
			}
			wg.Go(func() {
				_ = l.Run(ctx) // never fails
				if s := l.Stats(); s.Failed > 0 || s.Conflicts == 0 || s.Conflicts != s.Committed {
					t.Errorf("%+v", s)
				}
			})
		}
		wg.Wait()
		for i, db := range dbs {
			rows, err := db.QueryContext(t.Context(), "SELECT id FROM products WHERE updated_at>'2026-01-01' ORDER BY id")
			if err != nil {
				t.Fatal(err)
			}
			defer rows.Close()
			for rows.Next() {
				var id int64
				if err := rows.Scan(&id); err != nil {
					t.Fatal(err)
				}
				touched[i] = append(touched[i], id)
			}
			if err := rows.Err(); err != nil {
				t.Fatal(err)
			}
		}
		if len(touched[0]) < 8 || !slices.Equal(touched[0][:8], touched[1][:8]) {
			t.Errorf("they wrote %v and %v", touched[0], touched[1])
		}
	})
}

// A stall is charged to every transaction that it delayed, not to one.
func TestLatencyCountsFromTheSchedule(t *testing.T) {
	m := servers.MySQLForTest(t, sqldb.MariaDB)
	db := newShop(t, m)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	l, err := shop.New(shop.Config{DC: 1, Catalog: small, Rate: 100, Workers: 2, Start: time.Now().Add(-time.Second)}, db, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	_ = l.Run(ctx) // never fails
	if p := time.Duration(l.Latency().ValueAtQuantile(10)) * time.Microsecond; p > 900*time.Millisecond {
		t.Logf("behind all along: p10 %v", p)
	}
	if top := time.Duration(l.Latency().Max()) * time.Microsecond; top < 900*time.Millisecond {
		t.Errorf("a schedule that began a second ago shows at most %v", top)
	}
	if n := l.Stats().Committed; n < 200 {
		t.Errorf("%d transactions: the second that was missed is not made up for", n)
	}
}

func TestConfigIsChecked(t *testing.T) {
	m := servers.MySQLForTest(t, sqldb.MariaDB)
	db := newShop(t, m)
	for name, cfg := range map[string]shop.Config{
		"no datacenter":  {},
		"negative rate":  {DC: 1, Rate: -1},
		"conflict share": {DC: 1, Conflicts: 1.5},
		"catalog":        {DC: 1, Catalog: shop.Catalog{DCs: []int{0}}},
	} {
		if _, err := shop.New(cfg, db, slog.New(slog.DiscardHandler)); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	if _, err := shop.New(shop.Config{DC: 1}, nil, slog.New(slog.DiscardHandler)); err == nil {
		t.Error("no database: no error")
	}
}

// A pool smaller than the number of workers must not wait for itself.
func TestSmallPool(t *testing.T) {
	m := servers.MySQLForTest(t, sqldb.MariaDB)
	db := newShop(t, m)
	db.SetMaxOpenConns(2)
	l, err := shop.New(shop.Config{DC: 1, Catalog: small, Rate: 100, Workers: 16}, db, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	_ = l.Run(ctx) // never fails
	if s := l.Stats(); s.Failed > 0 || s.Committed < 10 {
		t.Errorf("%+v", s)
	}
}

// With the server gone, failures are counted and Run still ends.
func TestServerLoss(t *testing.T) {
	m, err := servers.StartMySQL(t.Context(), servers.MySQLOptions{Flavor: sqldb.MariaDB})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := m.Close(); err != nil {
			t.Error(err)
		}
	})
	db := newShop(t, m)
	l, err := shop.New(shop.Config{DC: 1, Catalog: small, Rate: 50}, db, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- l.Run(ctx) }()
	await := func(what string, ok func(shop.Stats) bool) {
		tick := time.NewTicker(10 * time.Millisecond)
		defer tick.Stop()
		for !ok(l.Stats()) {
			select {
			case <-tick.C:
			case <-ctx.Done():
				t.Fatalf("no %s: %+v", what, l.Stats())
			}
		}
	}
	await("first transactions", func(s shop.Stats) bool { return s.Committed > 10 })
	if err := m.Kill(); err != nil {
		t.Fatal(err)
	}
	await("failures", func(s shop.Stats) bool { return s.Failed > 5 && s.LastError != nil })
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}
