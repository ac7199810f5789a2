package cluster_test

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/tandem-dc/tandem/testbench/cluster"
	"github.com/tandem-dc/tandem/testbench/link"
	"github.com/tandem-dc/tandem/testbench/servers"
	"github.com/tandem-dc/tandem/testbench/verify"
)

func TestMain(m *testing.M) { os.Exit(servers.Main(m)) }

// makeTable makes db.t on both sides, before replication.
func makeTable(ctx context.Context, c *cluster.Cluster) error {
	var group errgroup.Group
	for _, s := range c.Sides {
		group.Go(func() error {
			_, err := s.SQL.Admin("db").ExecContext(ctx, "CREATE TABLE t (id INT PRIMARY KEY, v VARCHAR(100), updated_at TIMESTAMP(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6) ON UPDATE CURRENT_TIMESTAMP(6))")
			return err
		})
	}
	return group.Wait()
}

func TestBothSidesEndEqual(t *testing.T) {
	for _, flavor := range servers.Flavors {
		t.Run(string(flavor), func(t *testing.T) {
			c := cluster.StartForTest(t, cluster.Options{Flavor: flavor, Databases: []string{"db"}, Prepare: makeTable,
				Link: link.Options{Latency: 20 * time.Millisecond, Jitter: 10 * time.Millisecond}})
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			for i, s := range c.Sides {
				db := s.SQL.Admin("db")
				for n := range 50 {
					if _, err := db.ExecContext(ctx, "INSERT INTO t (id, v) VALUES (?, ?)", 2*n+i, fmt.Sprint("from ", s.Name)); err != nil {
						t.Fatal(err)
					}
				}
			}
			drainAndCompare(ctx, t, c, 100)

			// What was written while a side's programs are dead arrives when they are back.
			for _, s := range c.Sides {
				for _, w := range s.Runtime.Workloads() {
					for _, i := range s.Runtime.Instances(w) {
						if err := i.Kill(); err != nil {
							t.Fatal(err)
						}
					}
				}
				if _, err := s.SQL.Admin("db").ExecContext(ctx, "UPDATE t SET v='again' WHERE id%2=?", s.Number-1); err != nil {
					t.Fatal(err)
				}
			}
			drainAndCompare(ctx, t, c, 100)
			for _, s := range c.Sides {
				l, err := s.Losses(ctx)
				if err != nil || l != (cluster.Losses{}) {
					t.Errorf("%s: %+v, %v", s.Name, l, err)
				}
				// The 50 rows, one update, two moves of the marker: nothing looped, nothing was cut.
				if x, err := s.Stream(ctx, s.Peer.Name); err != nil || x.Sequence != 53 {
					t.Errorf("%s: %+v, %v", s.Name, x, err)
				}
			}
		})
	}
}

func drainAndCompare(ctx context.Context, t *testing.T, c *cluster.Cluster, rows int64) {
	t.Helper()
	if err := c.Drain(ctx); err != nil {
		t.Fatal(err)
	}
	r, err := c.Verify(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if !r.Equal() || r.Rows() != rows+2 {
		var report strings.Builder
		r.Write(&report)
		t.Errorf("%d rows\n%s", r.Rows(), &report)
	}
}

// A comparison that cannot fail proves nothing.
func TestDifferenceIsSeen(t *testing.T) {
	c := cluster.StartForTest(t, cluster.Options{Flavor: "mariadb", Databases: []string{"db"}, Prepare: makeTable})
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	conn, err := c.Sides[0].SQL.Admin("db").Conn(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	for _, s := range []string{"SET SESSION sql_log_bin=0", "INSERT INTO t (id, v) VALUES (1, 'never sent')", "SET SESSION sql_log_bin=1"} {
		if _, err := conn.ExecContext(ctx, s); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.Drain(ctx); err != nil {
		t.Fatal(err)
	}
	r, err := c.Verify(ctx)
	if err != nil || r.Equal() || r.Count(verify.Missing) != 1 {
		t.Errorf("%+v, %v", r, err)
	}
}

// A link that is cut is why Drain does not return, and says so.
func TestDrainSaysWhatIsMissing(t *testing.T) {
	c := cluster.StartForTest(t, cluster.Options{Flavor: "mariadb"})
	c.Sides[0].Route.Cut()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	err := c.Drain(ctx)
	if err == nil || !strings.Contains(err.Error(), "drain beijing to guangzhou") || !strings.Contains(err.Error(), "marker") {
		t.Errorf("%v", err)
	}
	if err := c.Sides[0].Route.Restore(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel = context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := c.Drain(ctx); err != nil {
		t.Error(err)
	}
}

func TestMissingProgramsAreNamed(t *testing.T) {
	_, err := cluster.Start(t.Context(), cluster.Options{Bin: "/no/such/place", Triggers: t.TempDir()})
	if err == nil || !strings.Contains(err.Error(), "make build") {
		t.Errorf("%v", err)
	}
}
