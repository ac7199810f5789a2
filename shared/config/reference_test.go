package config

import (
	"bytes"
	"errors"
	"log/slog"
	"os"
	"strings"
	"testing"
)

func writeFile(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestHelp(t *testing.T) {
	var out bytes.Buffer
	p := program{MySQL: mysqlGroup{Password: "hunter2"}}
	// Help comes whatever else is wrong.
	err := Load(&p, Options{Program: "capture", Summary: "Reads the binlog.", Examples: []string{"capture --dc beijing"},
		Args: []string{"--nonsense", "--help"}, Environ: []string{"TANDEM_NONSENSE=1"}, Out: &out})
	if !errors.Is(err, ErrHelp) {
		t.Fatalf("error %v", err)
	}
	text := out.String()
	for _, s := range []string{"capture: Reads the binlog.", "capture --dc beijing", "--config file  [TANDEM_CONFIG]",
		"--mysql.addr string  [TANDEM_MYSQL_ADDR]\n      host:port (default 127.0.0.1:3306)", "--mysql.dial-timeout duration", "(default 5s)",
		"--mysql.password-file string  [TANDEM_MYSQL_PASSWORD_FILE]", "--verbose bool", "peers[].name string: datacenter", "peers[].mysql.addr", "--help", "(default WARN)", "(default 1s,2s)"} {
		if !strings.Contains(text, s) {
			t.Errorf("help lacks %q:\n%s", s, text)
		}
	}
	if strings.Contains(text, "hunter2") {
		t.Error("help shows a secret")
	}
}

func TestReference(t *testing.T) {
	p := program{Count: 9}
	fields := Reference(p)
	byKey := map[string]Field{}
	for _, f := range fields {
		byKey[f.Key] = f
	}
	if len(byKey) != len(fields) {
		t.Error("a key stands twice")
	}
	if got, want := byKey["mysql.dial-timeout"], (Field{"mysql.dial-timeout", "TANDEM_MYSQL_DIAL_TIMEOUT", "--mysql.dial-timeout", "duration", "5s", "longest wait", false}); got != want {
		t.Errorf("%+v", got)
	}
	if f := byKey["count"]; f.Default != "9" || f.Type != "integer" {
		t.Errorf("%+v", f)
	}
	if f := byKey["mysql.password"]; !f.Secret || f.Default != "" {
		t.Errorf("%+v", f)
	}
	if f := byKey["by-name.NAME.mysql.addr"]; f.Env != "" || f.Flag != "" || f.Default != "127.0.0.1:3306" {
		t.Errorf("%+v", f)
	}
	if Reference(3) != nil || len(Reference(&p)) != len(fields) || p.Brokers != nil {
		t.Error("a value without settings has some, or the struct was changed")
	}
}

func TestRedacted(t *testing.T) {
	const s = "hunter2"
	p := mustLoad(t, `
mysql: {user: app, password: hunter2, dial-timeout: 1h}
peers: [{name: gz, password: hunter2, mysql: {addr: "g:1", password: hunter2}}]
by-name: {gz: {password: hunter2}}
dc: http://bob:hunter2@proxy/x
address-map: {b: d, a: "http://u:hunter2@h"}
`, nil)
	e := Redacted(&p)
	var log bytes.Buffer
	slog.New(slog.NewJSONHandler(&log, nil)).Info("configuration", "config", e)
	for _, text := range []string{e.String(), log.String()} {
		if strings.Contains(text, s) {
			t.Errorf("shows a secret: %s", text)
		}
		for _, want := range []string{"app", "gz", "g:1", "bob", "1h", "127.0.0.1:9092"} {
			if !strings.Contains(text, want) {
				t.Errorf("lacks %q: %s", want, text)
			}
		}
	}
	if !strings.Contains(e.String(), "mysql.password: (secret)\n") || strings.Contains(e.String(), "mysql.tls.ca") {
		t.Errorf("%s", e)
	}
	if p.MySQL.Password != s || p.Peers[0].Password != s {
		t.Error("redacting changed the configuration")
	}
	if Redacted(nil) != nil {
		t.Error("nothing has settings")
	}
}

func TestMarkdown(t *testing.T) {
	var out bytes.Buffer
	type one struct {
		Mode string `key:"mode" default:"a|b" help:"a|b"`
	}
	if err := Markdown(&out, Section{"capture", "Reads.", one{}}, Section{"apply", "Writes.", &program{}}); err != nil {
		t.Fatal(err)
	}
	for _, s := range []string{"## capture\n\nReads.\n", "| `mode` | string | `a\\|b` | a\\|b |\n", "## apply", "| `mysql.addr` | string | `127.0.0.1:3306` | host:port |\n"} {
		if !strings.Contains(out.String(), s) {
			t.Errorf("lacks %q:\n%s", s, out.String())
		}
	}
	if err := Markdown(&out, Section{"x", "", 3}); err == nil {
		t.Error("a number has settings")
	}
}
