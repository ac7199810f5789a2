package verify_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/tandem-dc/tandem/shared/sqldb"
	"github.com/tandem-dc/tandem/testbench/servers"
	"github.com/tandem-dc/tandem/testbench/verify"
)

func TestMain(m *testing.M) { os.Exit(servers.Main(m)) }

// pair is two servers of one flavour.
type pair struct {
	flavor sqldb.Flavor
	a, b   *servers.MySQL
}

func eachPair(t *testing.T, f func(t *testing.T, p pair)) {
	servers.EachFlavor(t, func(t *testing.T, a *servers.MySQL) {
		b, err := servers.StartMySQL(t.Context(), servers.MySQLOptions{Flavor: a.Flavor})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := b.Close(); err != nil {
				t.Error(err)
			}
		})
		f(t, pair{a.Flavor, a, b})
	})
}

// database makes one on both servers and fills it.
func (p pair) database(t *testing.T, a, b []string) string {
	t.Helper()
	name := p.a.NewDatabase(t)
	if err := p.b.CreateDatabase(t.Context(), name); err != nil {
		t.Fatal(err)
	}
	exec(t, p.a, name, a)
	exec(t, p.b, name, b)
	return name
}

func exec(t *testing.T, m *servers.MySQL, db string, statements []string) {
	t.Helper()
	pool, err := sqldb.Open(m.Config(servers.Root), sqldb.Session{Database: db, MaxOpen: 1, Vars: map[string]string{"sql_mode": ""}})
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Close()
	for _, s := range statements {
		if s == "" {
			continue
		}
		if _, err := pool.ExecContext(t.Context(), s); err != nil {
			t.Fatalf("%s: %v", s, err)
		}
	}
}

func (p pair) compare(t *testing.T, o verify.Options) *verify.Result {
	t.Helper()
	r, err := verify.Compare(t.Context(), verify.Side{Name: "a", DB: p.a.Admin("")}, verify.Side{Name: "b", DB: p.b.Admin("")}, o)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestOneDifferenceIsFound(t *testing.T) {
	tests := []struct {
		name, columns, both string // both: rows on both sides
		a, b                string // one more statement on each side
		kind                verify.Kind
		want                string
	}{
		{"missing first", "id INT PRIMARY KEY, v INT", "(2,2),(3,3)", "INSERT INTO t VALUES (1,1)", "", verify.Missing, "id=1"},
		{"missing last", "id INT PRIMARY KEY, v INT", "(2,2),(3,3)", "INSERT INTO t VALUES (9,1)", "", verify.Missing, "id=9"},
		{"extra", "id INT PRIMARY KEY, v INT", "(1,1),(3,3)", "", "INSERT INTO t VALUES (2,1)", verify.Extra, "id=2"},
		{"negative numbers", "id INT PRIMARY KEY, v INT", "(-10,1),(-9,1),(5,1),(10,1)", "", "INSERT INTO t VALUES (-1,1)", verify.Extra, "id=-1"},
		{"unsigned above signed", "id BIGINT UNSIGNED PRIMARY KEY, v INT", "(1,1),(18446744073709551615,1)", "INSERT INTO t VALUES (9223372036854775808,1)", "", verify.Missing, "id=9223372036854775808"},
		{"value", "id INT PRIMARY KEY, v VARCHAR(20)", "(1,'x')", "UPDATE t SET v='y'", "", verify.Different, "v: 'y' / 'x'"},
		{"null is not empty", "id INT PRIMARY KEY, v VARCHAR(20)", "(1,'')", "UPDATE t SET v=NULL", "", verify.Different, "v: NULL / ''"},
		{"case under a collation", "id INT PRIMARY KEY, v VARCHAR(20) COLLATE utf8mb4_general_ci", "(1,'x')", "UPDATE t SET v='X'", "", verify.Different, "v: 'X' / 'x'"},
		{"trailing space", "id INT PRIMARY KEY, v VARCHAR(20)", "(1,'x')", "UPDATE t SET v='x '", "", verify.Different, "v: 'x ' / 'x'"},
		{"bytes of gbk", "id INT PRIMARY KEY, v VARCHAR(20) CHARACTER SET gbk", "(1,'双')", "UPDATE t SET v='活'", "", verify.Different, "v: 0xbbee / 0xcbab"},
		{"key by bytes, not collation", "k VARCHAR(20) COLLATE utf8mb4_general_ci PRIMARY KEY, v INT", "('b',1),('A',1),('c',1)", "", "INSERT INTO t VALUES ('B2',1)", verify.Extra, "k='B2'"},
		{"key that differs in case", "k VARCHAR(20) COLLATE utf8mb4_general_ci PRIMARY KEY, v INT", "('b',1),('d',1)", "UPDATE t SET k='B' WHERE k='b'", "", verify.Missing, "k='B'"},
		{"last bit of a float", "id INT PRIMARY KEY, v FLOAT", "(1,16777215)", "UPDATE t SET v=16777214", "", verify.Different, "v: '1.6777214e+07' / '1.6777215e+07'"},
		{"last bit of a double", "id INT PRIMARY KEY, v DOUBLE", "(1,0.1)", "UPDATE t SET v=0.1+1e-17", "", verify.Different, ""},
		{"microsecond", "id INT PRIMARY KEY, v TIMESTAMP(6) NULL", "(1,'2024-01-01 00:00:00.000001')", "UPDATE t SET v='2024-01-01 00:00:00.000002'", "", verify.Different, "000002"},
		{"enum error is no empty label", "id INT PRIMARY KEY, v ENUM('','x')", "(1,'')", "UPDATE t SET v='nonsense'", "", verify.Different, "v: 0x00 / ''"},
		{"set", "id INT PRIMARY KEY, v SET('x','y')", "(1,'x')", "UPDATE t SET v='x,y'", "", verify.Different, "v: 'x,y' / 'x'"},
		{"bit", "id INT PRIMARY KEY, v BIT(9)", "(1,b'100000001')", "UPDATE t SET v=b'100000000'", "", verify.Different, "0x0100"},
		{"zero byte at the end", "id INT PRIMARY KEY, v VARBINARY(9)", "(1,0x61)", "UPDATE t SET v=0x6100", "", verify.Different, "0x6100"},
		{"json", "id INT PRIMARY KEY, v JSON", `(1,'{"a": 1}')`, `UPDATE t SET v='{"a": "1"}'`, "", verify.Different, "v: "},
		{"generated", "id INT PRIMARY KEY, v INT, g INT AS (v+1) STORED", "", "INSERT INTO t (id,v) VALUES (1,1)", "INSERT INTO t (id,v) VALUES (1,2)", verify.Different, "g: 2 / 3"},
		{"geometry", "id INT PRIMARY KEY, v POINT", "(1,POINT(1,2))", "UPDATE t SET v=POINT(1,3)", "", verify.Different, "v: 0x"},
		{"composite key", "x INT, y VARCHAR(9), v INT, PRIMARY KEY (x,y)", "(1,'a',1),(1,'c',1),(2,'a',1)", "", "INSERT INTO t VALUES (1,'b',1)", verify.Extra, "x=1,y='b'"},
		{"unique key stands in", "k INT NOT NULL UNIQUE, v INT", "(1,1)", "UPDATE t SET v=2", "", verify.Different, "k=1"},
		{"duplicates without a key", "v INT, w VARCHAR(9)", "(1,'x'),(1,'x'),(NULL,NULL)", "INSERT INTO t VALUES (1,'x')", "", verify.Missing, "v=1,w='x'"},
		{"no table", "id INT PRIMARY KEY", "", "", "DROP TABLE t ", verify.Structure, "b has no such table"},
		{"no column", "id INT PRIMARY KEY", "", "", "ALTER TABLE t ADD COLUMN v INT", verify.Structure, "a has no column v"},
		{"column type", "id INT PRIMARY KEY, v INT", "(1,1)", "ALTER TABLE t MODIFY v INT UNSIGNED", "", verify.Structure, "column v is int"},
		{"collation", "id INT PRIMARY KEY, v VARCHAR(9) COLLATE utf8mb4_bin", "(1,'x')", "ALTER TABLE t MODIFY v VARCHAR(9) COLLATE utf8mb4_general_ci", "", verify.Structure, "utf8mb4_general_ci"},
		{"unique key", "id INT PRIMARY KEY, v INT", "(1,1)", "ALTER TABLE t ADD UNIQUE KEY u (v)", "", verify.Structure, "b has no unique key u (v)"},
	}
	eachPair(t, func(t *testing.T, p pair) {
		var both, onlyA, onlyB []string
		for i, tt := range tests {
			table := fmt.Sprintf("t%02d", i)
			both = append(both, "CREATE TABLE "+table+" ("+tt.columns+") DEFAULT CHARSET=utf8mb4")
			if tt.both != "" {
				both = append(both, "INSERT INTO "+table+" VALUES "+tt.both)
			}
			onlyA = append(onlyA, strings.ReplaceAll(tt.a, " t ", " "+table+" "))
			onlyB = append(onlyB, strings.ReplaceAll(tt.b, " t ", " "+table+" "))
		}
		db := p.database(t, both, both)
		for _, fast := range []bool{false, true} {
			if r := p.compare(t, verify.Options{Databases: []string{db}, Fast: fast}); !r.Equal() {
				t.Fatalf("fast %v: equal tables differ: %v", fast, r)
			}
		}
		exec(t, p.a, db, onlyA)
		exec(t, p.b, db, onlyB)
		for _, fast := range []bool{false, true} {
			r := p.compare(t, verify.Options{Databases: []string{db}, Fast: fast})
			for i, tt := range tests {
				t.Run(fmt.Sprintf("%s/fast=%v", tt.name, fast), func(t *testing.T) {
					var report bytes.Buffer
					one := verify.Result{A: "a", B: "b", Tables: r.Tables[i : i+1]}
					one.Write(&report)
					if one.Equal() || one.Count(tt.kind) != 1 || !strings.Contains(report.String(), tt.want) {
						t.Errorf("want one %s with %q:\n%s", tt.kind, tt.want, &report)
					}
				})
			}
		}
	})
}

// A difference next to equal rows is reported once, among many rows, and the
// number of those described is bounded.
func TestCountsAndBounds(t *testing.T) {
	eachPair(t, func(t *testing.T, p pair) {
		statements := []string{"CREATE TABLE t (id INT PRIMARY KEY, v INT)", "CREATE TABLE other (id INT PRIMARY KEY)", "INSERT INTO other VALUES (1)"}
		var values []string
		for i := range 1000 {
			values = append(values, fmt.Sprintf("(%d,%d)", i, i))
		}
		statements = append(statements, "INSERT INTO t VALUES "+strings.Join(values, ","))
		db := p.database(t, statements, statements)
		exec(t, p.b, db, []string{"DELETE FROM t WHERE id%10=1", "UPDATE t SET v=-1 WHERE id%10=2", "INSERT INTO t VALUES (5000,1)"})
		r := p.compare(t, verify.Options{Databases: []string{db}, MaxDifferences: 7})
		if r.Count(verify.Missing) != 100 || r.Count(verify.Different) != 100 || r.Count(verify.Extra) != 1 || r.Rows() != 1002 {
			t.Errorf("missing %d, different %d, extra %d of %d rows", r.Count(verify.Missing), r.Count(verify.Different), r.Count(verify.Extra), r.Rows())
		}
		for _, table := range r.Tables {
			if len(table.Differences) > 7 {
				t.Errorf("%s: %d differences are described", table.Name, len(table.Differences))
			}
		}
		if fast := p.compare(t, verify.Options{Databases: []string{db}, Fast: true}); fast.Rows() != 1002 || !fast.Tables[0].Checksummed || fast.Tables[1].Checksummed {
			t.Errorf("other should be checksummed, t not: %+v", fast.Tables)
		}
	})
}

// The session that reads must not reach whoever takes the connection next.
func TestPoolStaysClean(t *testing.T) {
	eachPair(t, func(t *testing.T, p pair) {
		db := p.database(t, []string{"CREATE TABLE t (id INT PRIMARY KEY)"}, []string{"CREATE TABLE t (id INT PRIMARY KEY)"})
		pool, err := sqldb.Open(p.a.Config(servers.Root), sqldb.Session{MaxOpen: 1})
		if err != nil {
			t.Fatal(err)
		}
		defer pool.Close()
		if _, err := verify.Compare(t.Context(), verify.Side{Name: "a", DB: pool}, verify.Side{Name: "b", DB: p.b.Admin("")}, verify.Options{Databases: []string{db}}); err != nil {
			t.Fatal(err)
		}
		var charset string
		if err := pool.QueryRowContext(t.Context(), "SELECT @@character_set_client").Scan(&charset); err != nil || charset != "utf8mb4" {
			t.Errorf("charset %q, %v", charset, err)
		}
	})
}

func TestDefaultsAndFailures(t *testing.T) {
	eachPair(t, func(t *testing.T, p pair) {
		if r := p.compare(t, verify.Options{Databases: []string{"nothing_here"}}); r.Equal() {
			t.Error("nothing compared counts as equal")
		}
		p.database(t, []string{"CREATE TABLE t (id INT PRIMARY KEY)"}, []string{"CREATE TABLE t (id INT PRIMARY KEY)"})
		for _, table := range p.compare(t, verify.Options{}).Tables {
			if db, _, _ := strings.Cut(table.Name, "."); db == "mysql" || db == "tandem" || db == "sys" {
				t.Errorf("%s is compared", table.Name)
			}
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := verify.Compare(ctx, verify.Side{Name: "a", DB: p.a.Admin("")}, verify.Side{Name: "b", DB: p.b.Admin("")}, verify.Options{}); err == nil {
			t.Error("a comparison that could not run gives no error")
		}
	})
}
