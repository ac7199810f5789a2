package doctor_test

import (
	"cmp"
	"context"
	"database/sql"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/tandem-dc/tandem/shared/doctor"
	"github.com/tandem-dc/tandem/shared/kafkaconn"
	"github.com/tandem-dc/tandem/shared/sqldb"
	"github.com/tandem-dc/tandem/testbench/servers"
)

func TestMain(m *testing.M) { os.Exit(servers.Main(m)) }

// patient is a server that may be made ill, with a healthy one beside it.
type patient struct {
	t        *testing.T
	m, other *servers.MySQL
	db       string // a database of the case's own, on both
	target   doctor.Target
	charset  string // of apply's sessions; default binary
}

// exec runs statements as root, in the case's database.
func (p *patient) exec(statements ...string) {
	p.t.Helper()
	exec(p.t, p.m, p.db, statements...)
}

func exec(t *testing.T, m *servers.MySQL, db string, statements ...string) {
	t.Helper()
	pool, err := sqldb.Open(m.Config(servers.Root), sqldb.Session{Database: db, MaxOpen: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Close()
	for _, s := range statements {
		if _, err := pool.ExecContext(t.Context(), s); err != nil {
			t.Fatalf("%s: %v", s, err)
		}
	}
}

func open(t *testing.T, m *servers.MySQL, user string, s sqldb.Session) *sql.DB {
	t.Helper()
	pool, err := sqldb.Open(m.Config(user), s)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := pool.Close(); err != nil {
			t.Error(err)
		}
	})
	return pool
}

// faults returns what Run finds under an id that is not well.
func (p *patient) faults(id string) (out []doctor.Finding) {
	p.t.Helper()
	// Grants and some variables are seen by new sessions only.
	t := p.target
	t.Capture = open(p.t, p.m, servers.Capture, sqldb.Session{})
	t.Apply = open(p.t, p.m, servers.Apply, sqldb.Session{Charset: cmp.Or(p.charset, "binary")})
	findings, err := doctor.Run(p.t.Context(), t)
	if err != nil {
		p.t.Fatal(err)
	}
	seen := false
	for _, f := range findings {
		if f.ID == id {
			seen = true
			if f.Severity != doctor.OK {
				out = append(out, f)
			}
		}
	}
	if len(out) == 0 && !seen && id != "peer.table-names" && id != "peer.max-allowed-packet" && id != "peer.columns" && id != "peer.clock" {
		p.t.Fatalf("check %s says nothing at all", id)
	}
	return out
}

type illness struct {
	id       string
	severity doctor.Severity
	flavor   sqldb.Flavor // "": both
	name     string
	provoke  func(p *patient)
	what     string           // in the finding
	heal     func(p *patient) // where the repair is no SQL
}

func statements(s ...string) func(*patient) { return func(p *patient) { p.exec(s...) } }

func global(name, bad string) func(*patient) { return statements("SET GLOBAL " + name + "=" + bad) }

var illnesses = []illness{
	{id: "server.version", severity: doctor.Warn, what: "is older than", provoke: func(p *patient) { p.target.Server = sqldb.Server{Flavor: p.m.Flavor, Version: "8.0.36"} },
		heal: func(p *patient) { p.target.Server = sqldb.Server{} }},
	{id: "account.apply-session", severity: doctor.Refuse, what: "asks for the character set binary gets utf8mb4", provoke: func(p *patient) { p.charset = "utf8mb4" },
		heal: func(p *patient) { p.charset = "" }},
	{id: "server.writable", severity: doctor.Refuse, provoke: global("read_only", "ON"), what: "read_only is ON"},
	{id: "server.id", severity: doctor.Refuse, flavor: sqldb.MySQL, provoke: global("server_id", "0"), what: "server_id is 0"},
	{id: "server.clock", severity: doctor.Warn, what: "off ours", provoke: func(p *patient) { p.target.DB = shifted(p.t, p.m, 5*time.Second) },
		heal: func(p *patient) { p.target.DB = p.m.Admin("") }},
	{id: "server.init-connect", severity: doctor.Warn, provoke: global("init_connect", "'SET NAMES latin1'"), what: "SET NAMES latin1"},
	{id: "binlog.format", severity: doctor.Refuse, provoke: global("binlog_format", "'STATEMENT'"), what: "STATEMENT, not ROW"},
	{id: "binlog.row-image", severity: doctor.Refuse, provoke: global("binlog_row_image", "'MINIMAL'"), what: "MINIMAL, not FULL"},
	{id: "binlog.row-metadata", severity: doctor.Refuse, provoke: global("binlog_row_metadata", "'MINIMAL'"), what: "MINIMAL, not FULL"},
	{id: "binlog.partial-json", severity: doctor.Refuse, flavor: sqldb.MySQL, provoke: global("binlog_row_value_options", "'PARTIAL_JSON'"), what: "PARTIAL_JSON"},
	{id: "binlog.gtid", severity: doctor.Warn, flavor: sqldb.MySQL, what: "gtid_mode is OFF,", provoke: statements("SET GLOBAL gtid_mode=ON_PERMISSIVE",
		"SET GLOBAL gtid_mode=OFF_PERMISSIVE", "SET GLOBAL gtid_mode=OFF", "SET GLOBAL enforce_gtid_consistency=OFF")},
	{id: "binlog.durability", severity: doctor.Warn, name: "binlog", provoke: global("sync_binlog", "0"), what: "sync_binlog is 0"},
	{id: "binlog.durability", severity: doctor.Warn, name: "redo", provoke: global("innodb_flush_log_at_trx_commit", "2"), what: "innodb_flush_log_at_trx_commit is 2"},
	{id: "binlog.retention", severity: doctor.Warn, provoke: global("binlog_expire_logs_seconds", "3600"), what: "1h0m0s"},

	{id: "account.capture", severity: doctor.Refuse, name: "binlog", what: "lacks REPLICATION SLAVE", provoke: statements("REVOKE REPLICATION SLAVE ON *.* FROM 'capture'@'%'")},
	{id: "account.capture", severity: doctor.Refuse, name: "status", flavor: sqldb.MySQL, what: "lacks REPLICATION CLIENT", provoke: statements("REVOKE REPLICATION CLIENT ON *.* FROM 'capture'@'%'")},
	{id: "account.capture", severity: doctor.Refuse, name: "status", flavor: sqldb.MariaDB, what: "lacks BINLOG MONITOR", provoke: statements("REVOKE BINLOG MONITOR ON *.* FROM 'capture'@'%'")},
	{id: "account.capture", severity: doctor.Refuse, name: "tables", what: "lacks SELECT on t_", provoke: func(p *patient) {
		p.exec("REVOKE SELECT ON " + sqldb.Quote(strings.ReplaceAll(p.db, "_", `\_`)) + ".* FROM 'capture'@'%'")
	}},
	{id: "account.apply", severity: doctor.Refuse, name: "tables", what: "lacks INSERT, DELETE on t_", provoke: func(p *patient) {
		p.exec("REVOKE INSERT, DELETE ON " + sqldb.Quote(strings.ReplaceAll(p.db, "_", `\_`)) + ".* FROM 'apply'@'%'")
	}},
	{id: "account.apply", severity: doctor.Refuse, name: "ledger", what: "lacks UPDATE on tandem", provoke: statements("REVOKE UPDATE ON tandem.* FROM 'apply'@'%'")},

	{id: "table.key", severity: doctor.Refuse, name: "none", what: "no primary key", provoke: statements("CREATE TABLE t (id INT, v INT)")},
	{id: "table.key", severity: doctor.Refuse, name: "nullable", what: "no primary key", provoke: statements("CREATE TABLE t (k VARCHAR(9) CHARACTER SET latin1, v INT, UNIQUE KEY (k))")},
	{id: "table.engine", severity: doctor.Refuse, what: "engine MyISAM", provoke: statements("CREATE TABLE t (id INT PRIMARY KEY) ENGINE=MyISAM")},
	{id: "table.cascade", severity: doctor.Refuse, name: "delete", what: "ON DELETE CASCADE", provoke: statements("CREATE TABLE p (id INT PRIMARY KEY)",
		"CREATE TABLE c (id INT PRIMARY KEY, p INT, CONSTRAINT fk FOREIGN KEY (p) REFERENCES p (id) ON DELETE CASCADE)")},
	{id: "table.cascade", severity: doctor.Refuse, name: "update", what: "ON UPDATE SET NULL", provoke: statements("CREATE TABLE p (x INT, y INT, PRIMARY KEY (x,y))",
		"CREATE TABLE c (id INT PRIMARY KEY, x INT, y INT, CONSTRAINT fk FOREIGN KEY (x,y) REFERENCES p (x,y) ON UPDATE SET NULL)")},
	{id: "table.trigger", severity: doctor.Refuse, name: "statement", what: "trigger g runs after insert", provoke: statements("CREATE TABLE t (id INT PRIMARY KEY)", "CREATE TABLE a (id INT PRIMARY KEY)",
		"CREATE TRIGGER g AFTER INSERT ON t FOR EACH ROW INSERT INTO a VALUES (NEW.id)")},
	{id: "table.trigger", severity: doctor.Refuse, name: "block", what: "trigger g runs before update", provoke: statements("CREATE TABLE t (id INT PRIMARY KEY, v INT)",
		"CREATE TRIGGER g BEFORE UPDATE ON t FOR EACH ROW BEGIN SET NEW.v=NEW.v+1; SET NEW.v=NEW.v*2; END")},
	{id: "table.event", severity: doctor.Warn, what: "event e runs", provoke: statements("SET GLOBAL event_scheduler=ON", "CREATE TABLE t (id INT PRIMARY KEY)",
		"CREATE EVENT e ON SCHEDULE EVERY 1 DAY STARTS NOW() + INTERVAL 1 DAY DO DELETE FROM t")},
	{id: "table.kind", severity: doctor.Warn, flavor: sqldb.MariaDB, name: "sequence", what: "is a sequence", provoke: statements("CREATE SEQUENCE s"), heal: statements("DROP SEQUENCE s")},
	{id: "table.kind", severity: doctor.Warn, flavor: sqldb.MariaDB, name: "versioned", what: "is a system versioned", provoke: statements("CREATE TABLE t (id INT PRIMARY KEY) WITH SYSTEM VERSIONING"),
		heal: statements("DROP TABLE t")},

	{id: "peer.auto-increment", severity: doctor.Refuse, name: "increment", what: "auto_increment_increment is 1 for 2", provoke: func(p *patient) {
		both(p, "CREATE TABLE t (id INT PRIMARY KEY AUTO_INCREMENT)")
		p.exec("SET GLOBAL auto_increment_increment=1", "SET GLOBAL auto_increment_offset=1")
	}},
	{id: "peer.auto-increment", severity: doctor.Warn, name: "offset", what: "auto_increment_offset is 2 in datacenter 1", provoke: func(p *patient) {
		both(p, "CREATE TABLE t (id INT PRIMARY KEY AUTO_INCREMENT)")
		p.exec("SET GLOBAL auto_increment_offset=2")
	}},
	{id: "peer.auto-increment", severity: doctor.Refuse, name: "overlap", what: "numbers overlap with other", provoke: func(p *patient) {
		both(p, "CREATE TABLE t (id INT PRIMARY KEY AUTO_INCREMENT)")
		p.target.DC = 0
		p.exec("SET GLOBAL auto_increment_offset=2")
	}},
	{id: "peer.max-allowed-packet", severity: doctor.Warn, what: "8388608 here", provoke: global("max_allowed_packet", "8388608"), heal: global("max_allowed_packet", "16777216")},
	{id: "peer.columns", severity: doctor.Refuse, name: "type", what: "bigint", provoke: func(p *patient) {
		p.exec("CREATE TABLE t (id INT PRIMARY KEY, v BIGINT)")
		exec(p.t, p.other, p.db, "CREATE TABLE t (id INT PRIMARY KEY, v INT NOT NULL)")
	}},
	{id: "peer.columns", severity: doctor.Refuse, name: "charset", what: "latin1", provoke: func(p *patient) {
		p.exec("CREATE TABLE t (id INT PRIMARY KEY, v VARCHAR(9) CHARACTER SET latin1)")
		exec(p.t, p.other, p.db, "CREATE TABLE t (id INT PRIMARY KEY, v VARCHAR(9) CHARACTER SET utf8mb4)")
	}},
	{id: "peer.columns", severity: doctor.Warn, name: "table", what: "does not exist in other", provoke: statements("CREATE TABLE t (id INT PRIMARY KEY)"),
		heal: func(p *patient) { exec(p.t, p.other, p.db, "CREATE TABLE t (id INT PRIMARY KEY)") }},
	{id: "peer.clock", severity: doctor.Warn, what: "apart", provoke: func(p *patient) { p.target.Peers[0].DB = shifted(p.t, p.other, 3*time.Second) },
		heal: func(p *patient) { p.target.Peers[0].DB = p.other.Admin("") }},
}

func both(p *patient, statements ...string) {
	p.exec(statements...)
	exec(p.t, p.other, p.db, statements...)
}

// shifted is a pool whose sessions believe in another time.
func shifted(t *testing.T, m *servers.MySQL, by time.Duration) *sql.DB {
	at := time.Now().Add(by).Unix()
	return open(t, m, servers.Root, sqldb.Session{Vars: map[string]string{"timestamp": strconv.FormatInt(at, 10)}})
}

// TestEachIllnessIsFoundAndHealed provokes one fault after another on a real
// server, wants exactly its check to speak, runs the repair that is printed, and
// wants the check to be silent.
func TestEachIllnessIsFoundAndHealed(t *testing.T) {
	for _, flavor := range servers.Flavors {
		t.Run(string(flavor), func(t *testing.T) {
			m, other := start(t, flavor, 1), start(t, flavor, 2)
			for _, i := range illnesses {
				if i.flavor == "" || i.flavor == flavor {
					t.Run(strings.TrimRight(i.id+"/"+i.name, "/"), func(t *testing.T) { i.test(t, m, other) })
				}
			}
		})
	}
}

func start(t *testing.T, f sqldb.Flavor, dc int, flags ...string) *servers.MySQL {
	t.Helper()
	m, err := servers.StartMySQL(t.Context(), servers.MySQLOptions{Flavor: f, Increment: 2, Offset: dc, Flags: append([]string{"--max-allowed-packet=16777216"}, flags...)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := m.Close(); err != nil {
			t.Error(err)
		}
	})
	return m
}

func (i *illness) test(t *testing.T, m, other *servers.MySQL) {
	p := &patient{t: t, m: m, other: other, db: m.NewDatabase(t)}
	if err := other.CreateDatabase(t.Context(), p.db); err != nil {
		t.Fatal(err)
	}
	p.target = doctor.Target{DB: m.Admin(""), Databases: []string{p.db}, DC: 1, DCs: 2, Peers: []doctor.Peer{{Name: "other", DB: other.Admin("")}}}
	if f := p.faults(i.id); len(f) > 0 {
		t.Fatalf("ill before: %+v", f)
	}
	i.provoke(p)
	found := p.faults(i.id)
	if len(found) != 1 || found[0].Severity != i.severity || !strings.Contains(found[0].What, i.what) || found[0].Why == "" {
		t.Errorf("want one %s with %q and a reason, got %+v", i.severity, i.what, found)
	}
	if i.heal != nil {
		i.heal(p)
		if len(found) > 0 && found[0].Setting == "" {
			t.Error("neither SQL nor a setting repairs it")
		}
	} else {
		for _, f := range found {
			if len(f.Fix) == 0 {
				t.Error("no SQL repairs it")
			}
			p.exec(f.Fix...)
		}
	}
	if f := p.faults(i.id); len(f) > 0 {
		t.Errorf("still ill: %+v", f)
	}
}

// Faults that only a restart repairs: the server is started with the fault, and
// again as the finding's setting says.
func TestSettingsThatWantARestart(t *testing.T) {
	for _, flavor := range servers.Flavors {
		updates := "--skip-log-slave-updates"
		if flavor == sqldb.MySQL {
			updates = "--skip-log-replica-updates"
		}
		for _, tt := range []struct {
			id       string
			severity doctor.Severity
			flags    []string
			what     string
			setting  string
		}{
			{"binlog.enabled", doctor.Refuse, []string{"--skip-log-bin"}, "writes no binlog", "log_bin=binlog"},
			{"binlog.filter", doctor.Refuse, []string{"--binlog-do-db=shop"}, "tandem is not in binlog-do-db", "binlog-do-db=tandem"},
			{"binlog.filter", doctor.Refuse, []string{"--binlog-ignore-db=shop", "--binlog-ignore-db=other"}, "shop is in binlog-ignore-db", "remove binlog-ignore-db=shop"},
			{"binlog.replica-updates", doctor.Warn, []string{updates}, "log_", "=ON"},
		} {
			t.Run(string(flavor)+"/"+tt.id+tt.flags[0], func(t *testing.T) {
				p := &patient{t: t, m: start(t, flavor, 1, tt.flags...)}
				p.target = doctor.Target{DB: p.m.Admin(""), Databases: []string{"shop"}}
				f := p.faults(tt.id)
				if len(f) != 1 || f[0].Severity != tt.severity || !strings.Contains(f[0].What, tt.what) || !strings.Contains(f[0].Setting, tt.setting) {
					t.Errorf("got %+v", f)
				}
			})
		}
		t.Run(string(flavor)+"/as it should be", func(t *testing.T) {
			p := &patient{t: t, m: start(t, flavor, 1, "--binlog-do-db=shop", "--binlog-do-db=tandem")}
			p.target = doctor.Target{DB: p.m.Admin(""), Databases: []string{"shop"}}
			for _, id := range []string{"binlog.enabled", "binlog.filter", "binlog.replica-updates"} {
				if f := p.faults(id); len(f) > 0 {
					t.Errorf("%+v", f)
				}
			}
		})
	}
}

// MariaDB takes another lower_case_table_names on a data directory that exists.
func TestTableNamesDiffer(t *testing.T) {
	p := &patient{t: t, m: start(t, sqldb.MariaDB, 1, "--lower-case-table-names=1")}
	p.target = doctor.Target{DB: p.m.Admin(""), Databases: []string{"shop"},
		Peers: []doctor.Peer{{Name: "other", DB: servers.MySQLForTest(t, sqldb.MariaDB).Admin("")}}}
	if f := p.faults("peer.table-names"); len(f) != 1 || f[0].Severity != doctor.Refuse || f[0].Setting == "" {
		t.Errorf("got %+v", f)
	}
}

// What is only noted must be no fault.
func TestNotes(t *testing.T) {
	servers.EachFlavor(t, func(t *testing.T, m *servers.MySQL) {
		p := &patient{t: t, m: m, db: m.NewDatabase(t)}
		p.exec("CREATE TABLE t (id INT PRIMARY KEY, v INT, g INT AS (v+1) STORED, h INT INVISIBLE DEFAULT 7, c VARCHAR(9) CHARACTER SET gbk, ts TIMESTAMP(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6))",
			"CREATE TRIGGER g BEFORE INSERT ON t FOR EACH ROW IF @tandem_apply IS NULL THEN SET NEW.v=1; END IF")
		findings, err := doctor.Run(t.Context(), doctor.Target{DB: m.Admin(""), Databases: []string{p.db}})
		if err != nil {
			t.Fatal(err)
		}
		want := map[string]string{"table.generated": "column g is generated", "table.charset": "gbk", "table.trigger": "no trigger"}
		for _, f := range findings {
			if f.Severity == doctor.Refuse {
				t.Errorf("refused: %+v", f)
			}
			if strings.Contains(f.What, want[f.ID]) {
				delete(want, f.ID)
			}
			if strings.Contains(f.What, "column ts") {
				t.Errorf("a default is taken for a generated column: %+v", f)
			}
		}
		if len(want) > 0 {
			t.Errorf("not noted: %v in %+v", want, findings)
		}
		if !slices.ContainsFunc(findings, func(f doctor.Finding) bool { return strings.Contains(f.What, "column h is invisible") }) {
			t.Error("the invisible column is not noted")
		}
	})
}

func TestMessageSize(t *testing.T) {
	k, err := servers.StartKafka(t.Context(), servers.KafkaOptions{Kind: servers.Embedded})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := k.Close(); err != nil {
			t.Error(err)
		}
	})
	c := kafkaconn.Config{Brokers: []string{k.Bootstrap()}, DialTimeout: 5 * time.Second}
	if err := kafkaconn.EnsureTopic(t.Context(), c, "binlog-a", 1, 1); err != nil {
		t.Fatal(err)
	}
	for _, flavor := range servers.Flavors {
		t.Run(string(flavor), func(t *testing.T) {
			p := &patient{t: t, m: start(t, flavor, 1)}
			p.target = doctor.Target{DB: p.m.Admin(""), Databases: []string{"shop"}, Kafka: c, Topic: "binlog-a"}
			f := p.faults("kafka.message-size")
			if len(f) != 1 || f[0].Severity != doctor.Warn || len(f[0].Fix) != 1 {
				t.Fatalf("got %+v", f)
			}
			p.exec(f[0].Fix...)
			if f := p.faults("kafka.message-size"); len(f) > 0 {
				t.Errorf("still ill: %+v", f)
			}
			p.target.Topic = "no-such-topic"
			if f := p.faults("kafka.message-size"); len(f) != 1 || !strings.Contains(f[0].What, "could not be checked") {
				t.Errorf("a topic that does not exist: %+v", f)
			}
		})
	}
}

func TestServerThatDoesNotAnswer(t *testing.T) {
	pool, err := sqldb.Open(sqldb.Config{Addr: "127.0.0.1:1", User: "root", DialTimeout: time.Second}, sqldb.Session{})
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Close()
	if _, err := doctor.Run(t.Context(), doctor.Target{DB: pool}); err == nil {
		t.Error("no error")
	}
	if _, err := doctor.Run(t.Context(), doctor.Target{}); err == nil {
		t.Error("no server, no error")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := doctor.Run(ctx, doctor.Target{DB: servers.MySQLForTest(t, sqldb.MariaDB).Admin("")}); err == nil {
		t.Error("cancelled, no error")
	}
}
