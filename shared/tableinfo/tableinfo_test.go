package tableinfo_test

import (
	"errors"
	"os"
	"reflect"
	"strings"
	"testing"

	"github.com/tandem-dc/tandem/shared/sqldb"
	"github.com/tandem-dc/tandem/shared/tableinfo"
	"github.com/tandem-dc/tandem/testbench/servers"
)

func TestMain(m *testing.M) { os.Exit(servers.Main(m)) }

func create(t *testing.T, m *servers.MySQL, db string, statements ...string) {
	t.Helper()
	for _, s := range statements {
		if _, err := m.Admin(db).ExecContext(t.Context(), s); err != nil {
			t.Fatalf("%s: %v", s, err)
		}
	}
}

func load(t *testing.T, m *servers.MySQL, user, db, name string) *tableinfo.Table {
	t.Helper()
	pool, err := sqldb.Open(m.Config(user), sqldb.Session{})
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Close()
	info, err := tableinfo.Load(t.Context(), pool, db, name)
	if err != nil {
		t.Fatal(err)
	}
	return info
}

func TestLoad(t *testing.T) {
	servers.EachFlavor(t, func(t *testing.T, m *servers.MySQL) {
		db := m.NewDatabase(t)
		create(t, m, db, "CREATE TABLE `Parent` (a INT, b VARCHAR(9) COLLATE utf8mb4_bin, PRIMARY KEY (a, b))",
			"CREATE TABLE child (id BIGINT UNSIGNED AUTO_INCREMENT PRIMARY KEY, `双` VARCHAR(40) CHARACTER SET gbk NOT NULL DEFAULT 'it''s',"+
				" x INT, y VARCHAR(9) COLLATE utf8mb4_bin, g INT AS (h * 2) VIRTUAL, s INT AS (h + 1) STORED, h INT INVISIBLE DEFAULT 7,"+
				" ts TIMESTAMP NULL DEFAULT CURRENT_TIMESTAMP ON UPDATE CURRENT_TIMESTAMP, e ENUM('unsigned'), z INT ZEROFILL,"+
				" UNIQUE `b u` (x, `双`(5)), UNIQUE a (s), KEY k (y),"+
				" CONSTRAINT f FOREIGN KEY (x, y) REFERENCES `Parent` (a, b) ON DELETE CASCADE ON UPDATE RESTRICT)")
		for _, user := range []string{servers.Root, servers.Capture, servers.Apply} {
			info := load(t, m, user, db, "child")
			byName := map[string]tableinfo.Column{}
			for _, c := range info.Columns {
				byName[c.Name] = c
			}
			if c := byName["id"]; !c.Unsigned || !c.AutoIncrement || c.Nullable || c.DataType != "bigint" || c.Generated || c.Default != nil {
				t.Errorf("id is %+v", c)
			}
			if c := byName["双"]; c.Charset != "gbk" || c.Collation != "gbk_chinese_ci" || c.Nullable || c.Default == nil || !strings.Contains(*c.Default, "it") {
				t.Errorf("双 is %+v", c)
			}
			for name, want := range map[string]tableinfo.Column{
				"g": {Generated: true}, "s": {Generated: true}, "h": {Invisible: true}, "ts": {OnUpdateNow: true}, "e": {}, "x": {}, "z": {Unsigned: true},
			} {
				c := byName[name]
				got := tableinfo.Column{Generated: c.Generated, Invisible: c.Invisible, OnUpdateNow: c.OnUpdateNow, Unsigned: c.Unsigned}
				if got != want || !c.Nullable {
					t.Errorf("%s: column %s is %+v, want %+v", user, name, c, want)
				}
			}
			wantUnique := []tableinfo.Index{
				{Name: "PRIMARY", Primary: true, Columns: []string{"id"}, Prefix: []int{0}},
				{Name: "a", Columns: []string{"s"}, Prefix: []int{0}},
				{Name: "b u", Columns: []string{"x", "双"}, Prefix: []int{0, 5}},
			}
			if !reflect.DeepEqual(info.Unique, wantUnique) {
				t.Errorf("%s: unique indexes are %+v", user, info.Unique)
			}
			wantKeys := []tableinfo.ForeignKey{{Name: "f", Columns: []string{"x", "y"}, RefDB: db, RefTable: "Parent", RefColumns: []string{"a", "b"}, OnDelete: "CASCADE", OnUpdate: "RESTRICT"}}
			if !reflect.DeepEqual(info.ForeignKeys, wantKeys) {
				t.Errorf("%s: foreign keys are %+v", user, info.ForeignKeys)
			}
			if !reflect.DeepEqual(info.Key(), []int{0}) || info.Primary() == nil || info.Column("TS") != 7 || info.Column("none") != -1 {
				t.Errorf("key %v, primary %v", info.Key(), info.Primary())
			}
		}
	})
}

func TestNamesThatDifferInCaseOnly(t *testing.T) {
	servers.EachFlavor(t, func(t *testing.T, m *servers.MySQL) {
		db := m.NewDatabase(t)
		create(t, m, db, "CREATE TABLE t (a INT)", "CREATE TABLE T (b INT PRIMARY KEY, c INT)")
		if info := load(t, m, servers.Root, db, "t"); len(info.Columns) != 1 || info.Columns[0].Name != "a" || len(info.Unique) != 0 {
			t.Errorf("t is %+v", info)
		}
		if info := load(t, m, servers.Root, db, "T"); len(info.Columns) != 2 || len(info.Unique) != 1 {
			t.Errorf("T is %+v", info)
		}
	})
}

func TestKeyOfTablesWithoutPrimaryKey(t *testing.T) {
	servers.EachFlavor(t, func(t *testing.T, m *servers.MySQL) {
		db := m.NewDatabase(t)
		create(t, m, db, "CREATE TABLE n (a INT UNIQUE, b VARCHAR(40) NOT NULL, c INT NOT NULL, d INT NOT NULL, UNIQUE p (b(3)), UNIQUE q (d, c))", "CREATE TABLE none (a INT UNIQUE)")
		if k := load(t, m, servers.Root, db, "n").Key(); !reflect.DeepEqual(k, []int{3, 2}) {
			t.Errorf("key is %v", k)
		}
		if k := load(t, m, servers.Root, db, "none").Key(); k != nil {
			t.Errorf("key is %v", k)
		}
		if _, err := tableinfo.Load(t.Context(), m.Admin(""), db, "nowhere"); !errors.Is(err, tableinfo.ErrNoTable) {
			t.Errorf("got %v", err)
		}
	})
}

func TestExpressionIndex(t *testing.T) {
	m := servers.MySQLForTest(t, sqldb.MySQL)
	db := m.NewDatabase(t)
	create(t, m, db, "CREATE TABLE t (id INT PRIMARY KEY, a INT, UNIQUE x ((a + 1), a))")
	info := load(t, m, servers.Capture, db, "t")
	if len(info.Unique) != 2 || !reflect.DeepEqual(info.Unique[1].Columns, []string{"", "a"}) || info.Identifies(&info.Unique[1]) {
		t.Errorf("unique indexes are %+v", info.Unique)
	}
}
