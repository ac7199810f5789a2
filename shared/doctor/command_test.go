package doctor_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/alecthomas/kong"

	"github.com/tandem-dc/tandem/shared/doctor"
	"github.com/tandem-dc/tandem/shared/sqldb"
	"github.com/tandem-dc/tandem/testbench/servers"
)

// parse reads a command line as the operator's CLI does.
func parse(t *testing.T, args ...string) *doctor.Command {
	t.Helper()
	var cli struct {
		Doctor doctor.Command `cmd:"" help:"Check a server."`
	}
	parser, err := kong.New(&cli, kong.Exit(func(int) {}))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := parser.Parse(append([]string{"doctor"}, args...)); err != nil {
		t.Fatal(err)
	}
	return &cli.Doctor
}

func TestCommand(t *testing.T) {
	servers.EachFlavor(t, func(t *testing.T, m *servers.MySQL) {
		db := m.NewDatabase(t)
		root, capture, apply := m.Config(servers.Root), m.Config(servers.Capture), m.Config(servers.Apply)
		t.Setenv("TANDEM_MYSQL_PASSWORD", root.Password)
		t.Setenv("TANDEM_CAPTURE_PASSWORD", capture.Password)
		t.Setenv("TANDEM_APPLY_PASSWORD", apply.Password)
		args := []string{"--mysql.addr=" + root.Addr, "--mysql.user=root", "--capture.user=capture", "--apply.user=apply", "--databases=" + db}
		run := func(args ...string) (string, error) {
			c := parse(t, args...)
			var out bytes.Buffer
			c.Out = &out
			err := c.Execute(t.Context())
			return out.String(), err
		}
		out, err := run(append(args, "--all")...)
		if err != nil || !strings.Contains(out, "0 refused") || !strings.Contains(out, "may read the binlog") {
			t.Errorf("well server: %v\n%s", err, out)
		}
		if strings.Contains(out, root.Password) {
			t.Error("the password is printed")
		}
		exec(t, m, db, "CREATE TABLE t (v INT)")
		out, err = run(args...)
		var refused *doctor.Refused
		if !errors.As(err, &refused) || refused.ExitCode() != 2 || !strings.Contains(out, "1 refused") || !strings.Contains(out, "fix: ALTER TABLE") {
			t.Errorf("table without a key: %v\n%s", err, out)
		}
		out, err = run(append(args, "-o", "json")...)
		var got struct {
			Worst    doctor.Severity
			Findings []doctor.Finding
		}
		if jsonErr := json.Unmarshal([]byte(out), &got); jsonErr != nil || err == nil || got.Worst != doctor.Refuse || len(got.Findings) < 10 {
			t.Errorf("%v, %v: %s", jsonErr, err, out)
		}
		if out, err = run(append(args, "--kafka.brokers=127.0.0.1:9")...); err == nil || !strings.Contains(err.Error(), "--kafka.topic") {
			t.Errorf("brokers without a topic: %v\n%s", err, out)
		}
	})
}

func TestStrict(t *testing.T) {
	m := servers.MySQLForTest(t, sqldb.MariaDB)
	db := m.NewDatabase(t)
	exec(t, m, db, "CREATE SEQUENCE s")
	c := parse(t, "--mysql.addr="+m.Addr(), "--mysql.password="+m.Config(servers.Root).Password, "--databases="+db)
	var out bytes.Buffer
	c.Out = &out
	if err := c.Execute(t.Context()); err != nil {
		t.Errorf("a warning is an error: %v\n%s", err, &out)
	}
	c.Strict = true
	var refused *doctor.Refused
	if err := c.Execute(t.Context()); !errors.As(err, &refused) {
		t.Errorf("--strict: %v", err)
	}
}
