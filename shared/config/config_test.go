package config

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
)

type tlsGroup struct {
	Enabled bool   `key:"enabled" help:"encrypt"`
	CA      string `key:"ca" help:"PEM file"`
}

type mysqlGroup struct {
	Addr     string        `key:"addr" default:"127.0.0.1:3306" help:"host:port"`
	User     string        `key:"user" help:"account"`
	Password string        `key:"password" secret:"true" help:"password of the account"`
	Dial     time.Duration `key:"dial-timeout" default:"5s" help:"longest wait"`
	TLS      tlsGroup      `key:"tls"`
}

type peer struct {
	Name     string     `key:"name" help:"datacenter"`
	Brokers  []string   `key:"brokers" default:"127.0.0.1:9092" help:"brokers"`
	Password string     `key:"password" secret:"true"`
	MySQL    mysqlGroup `key:"mysql"`
}

type Inline struct {
	Verbose bool `key:"verbose" help:"say more"`
}

type program struct {
	Inline
	DC      string            `key:"dc" help:"name of this datacenter"`
	MySQL   mysqlGroup        `key:"mysql"`
	Brokers []string          `key:"kafka.brokers" default:"a:1,b:2" help:"brokers"`
	Map     map[string]string `key:"address-map" help:"advertised = dialled"`
	Peers   []peer            `key:"peers" help:"other datacenters"`
	ByName  map[string]peer   `key:"by-name" help:"other datacenters, named"`
	Count   int               `key:"count" default:"3" help:"how many"`
	Small   uint8             `key:"small"`
	Size    int64             `key:"size"`
	Ratio   float64           `key:"ratio" default:"0.5"`
	Level   slog.Level        `key:"level" default:"warn" help:"log level"`
	Waits   []time.Duration   `key:"waits" default:"1s,2s"`
	Free    map[string]any    `key:"free" help:"anything"`
	Skipped string
	Ignored string `key:"-"`
}

func load(t *testing.T, file string, env []string, args ...string) (program, error) {
	t.Helper()
	var p program
	if file != "" {
		path := filepath.Join(t.TempDir(), "tandem.yaml")
		if err := os.WriteFile(path, []byte(file), 0o600); err != nil {
			t.Fatal(err)
		}
		args = append([]string{"--config", path}, args...)
	}
	return p, Load(&p, Options{Environ: env, Args: args})
}

func mustLoad(t *testing.T, file string, env []string, args ...string) program {
	t.Helper()
	p, err := load(t, file, env, args...)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestDefaults(t *testing.T) {
	p := mustLoad(t, "", nil)
	want := program{MySQL: mysqlGroup{Addr: "127.0.0.1:3306", Dial: 5 * time.Second}, Brokers: []string{"a:1", "b:2"}, Count: 3,
		Ratio: 0.5, Level: slog.LevelWarn, Waits: []time.Duration{time.Second, 2 * time.Second}}
	if !reflect.DeepEqual(p, want) {
		t.Errorf("got  %+v\nwant %+v", p, want)
	}
}

func TestValueInTheStructIsItsDefault(t *testing.T) {
	p := program{MySQL: mysqlGroup{Addr: "db:1", User: "root"}}
	if err := Load(&p, Options{Args: []string{"--mysql.user="}}); err != nil {
		t.Fatal(err)
	}
	if p.MySQL.Addr != "db:1" || p.MySQL.User != "" {
		t.Errorf("%+v", p.MySQL)
	}
}

func TestLaterSourceWins(t *testing.T) {
	file := "mysql:\n  addr: file:1\n  user: file\n  password: file\ncount: 1\ndc: file\n"
	env := []string{"HOME=/", "TANDEM_MYSQL_USER=env", "TANDEM_MYSQL_PASSWORD=env", "TANDEM_COUNT=2"}
	p := mustLoad(t, file, env, "--mysql.password=flag", "--count", "3", "--count=4")
	if p.DC != "file" || p.MySQL.Addr != "file:1" || p.MySQL.User != "env" || p.MySQL.Password != "flag" || p.Count != 4 {
		t.Errorf("%+v", p)
	}
}

func TestZeroOverridesTheDefault(t *testing.T) {
	p := mustLoad(t, "ratio: 0\nkafka.brokers: []\nwaits: ''\n", []string{"TANDEM_COUNT=0", "TANDEM_MYSQL_ADDR="}, "--mysql.dial-timeout=0s", "--level=info")
	if p.Ratio != 0 || len(p.Brokers) != 0 || len(p.Waits) != 0 || p.Count != 0 || p.MySQL.Addr != "" || p.MySQL.Dial != 0 || p.Level != slog.LevelInfo {
		t.Errorf("%+v", p)
	}
	for _, s := range Redacted(&p) {
		if s.Key == "mysql.addr" || s.Key == "count" && s.Value.String() != "0" || s.Key == "ratio" && s.Value.String() != "0" {
			t.Errorf("logged as %s=%s", s.Key, s.Value)
		}
	}
}

func TestFileForms(t *testing.T) {
	nested := mustLoad(t, `
mysql:
  addr: h:1
  tls: {enabled: true, ca: /ca.pem}
  dial-timeout: 1m
kafka: {brokers: [a:1, "b:2"]}
address-map: {x: y, "k:9092": "l:1"}
peers:
  - name: guangzhou
    brokers: [g:1]
    mysql: {addr: g:3306}
  - {name: "007"}
by-name:
  gz: {password: yes}
level: ERROR
small: 255
size: -9223372036854775808
waits: [1ms, 2s]
verbose: true
free: {a: [1, {b: c}]}
`, nil)
	dotted := mustLoad(t, `
mysql.addr: h:1
mysql.tls.enabled: true
mysql: {tls.ca: /ca.pem}
mysql.dial-timeout: 60s
kafka.brokers: a:1, b:2
address-map: x=y,k:9092=l:1
peers: [{name: guangzhou, brokers: "g:1", mysql.addr: "g:3306"}, {name: 007}]
by-name: {gz: {password: "yes"}}
level: error
small: 255
size: -9223372036854775808
waits: 1ms,2s
verbose: true
free: {a: [1, {b: c}]}
count:
mysql.user: ~
`, nil)
	overEnv := mustLoad(t, "", []string{
		"TANDEM_MYSQL_ADDR=h:1", "TANDEM_MYSQL_TLS_ENABLED=true", "TANDEM_MYSQL_TLS_CA=/ca.pem", "TANDEM_MYSQL_DIAL_TIMEOUT=1m",
		"TANDEM_KAFKA_BROKERS=a:1,b:2", "TANDEM_ADDRESS_MAP=k:9092=l:1,x=y",
		`TANDEM_PEERS=[{name: guangzhou, brokers: "g:1", mysql: {addr: "g:3306"}}, {name: 007}]`,
		"TANDEM_BY_NAME={gz: {password: yes}}", "TANDEM_LEVEL=error", "TANDEM_SMALL=255", "TANDEM_SIZE=-9223372036854775808", "TANDEM_WAITS=1ms,2s",
		"TANDEM_FREE={a: [1, {b: c}]}",
	}, "--verbose")
	if !reflect.DeepEqual(nested, dotted) {
		t.Errorf("nested %+v\ndotted %+v", nested, dotted)
	}
	if !reflect.DeepEqual(nested, overEnv) {
		t.Errorf("nested %+v\nenv    %+v", nested, overEnv)
	}
	want := peer{Name: "guangzhou", Brokers: []string{"g:1"}, MySQL: mysqlGroup{Addr: "g:3306", Dial: 5 * time.Second}}
	if len(nested.Peers) != 2 || !reflect.DeepEqual(nested.Peers[0], want) {
		t.Errorf("peers %+v", nested.Peers)
	}
	if q := nested.Peers[1]; q.Name != "007" || q.Brokers[0] != "127.0.0.1:9092" || q.MySQL.Addr != "127.0.0.1:3306" {
		t.Errorf("an item lacks its defaults: %+v", q)
	}
	if nested.ByName["gz"].Password != "yes" {
		t.Errorf("a text is taken for a boolean: %+v", nested.ByName)
	}
}

func TestFlagForms(t *testing.T) {
	p := mustLoad(t, "", nil, "--verbose", "false", "--mysql.tls.enabled", "-dc", "a", "--size=-5", "--small", "7", "--mysql.user=a=b")
	if p.Verbose || !p.MySQL.TLS.Enabled || p.DC != "a" || p.Size != -5 || p.Small != 7 || p.MySQL.User != "a=b" {
		t.Errorf("%+v", p)
	}
	if p := mustLoad(t, "", nil, "--size", "-5"); p.Size != -5 {
		t.Errorf("size %d", p.Size)
	}
}

func TestSecretFromFile(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	good := write("good", " p=w\n,d \r\n")
	if p := mustLoad(t, "", []string{"TANDEM_MYSQL_PASSWORD_FILE=" + good}); p.MySQL.Password != " p=w\n,d " {
		t.Errorf("password %q", p.MySQL.Password)
	}
	if p := mustLoad(t, "mysql: {password: old}\npeers: [{password-file: "+good+"}]", nil, "--mysql.password-file", good); p.MySQL.Password != " p=w\n,d " || p.Peers[0].Password != " p=w\n,d " {
		t.Errorf("passwords %q %q", p.MySQL.Password, p.Peers[0].Password)
	}
	if p := mustLoad(t, "mysql.password-file: "+good, []string{"TANDEM_MYSQL_PASSWORD=env"}); p.MySQL.Password != "env" {
		t.Errorf("a file in an earlier source wins: %q", p.MySQL.Password)
	}
	for name, path := range map[string]string{
		"missing": filepath.Join(dir, "none"), "a directory": dir, "empty": write("empty", "\n"), "too large": write("large", strings.Repeat("x", maxSecret+1)),
	} {
		_, err := load(t, "", []string{"TANDEM_MYSQL_PASSWORD_FILE=" + path})
		if err == nil || !strings.Contains(err.Error(), "mysql.password-file: environment TANDEM_MYSQL_PASSWORD_FILE") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := load(t, "", []string{"TANDEM_MYSQL_PASSWORD_FILE=" + good, "TANDEM_MYSQL_PASSWORD=x"}); err == nil || !strings.Contains(err.Error(), "keep one") {
		t.Errorf("both: %v", err)
	}
}

func TestSchemaMistakesAreErrors(t *testing.T) {
	for name, dst := range map[string]any{
		"not a pointer": program{},
		"nil":           (*program)(nil),
		"bad key": &struct {
			A string `key:"A b"`
		}{},
		"unexported": &struct {
			a string `key:"a"`
		}{},
		"twice": &struct {
			A string `key:"a"`
			B string `key:"a"`
		}{},
		"same env": &struct {
			A string `key:"a-b"`
			B string `key:"a.b"`
		}{},
		"taken": &struct {
			A string `key:"config"`
		}{},
		"bad default": &struct {
			A int `key:"a" default:"x"`
		}{},
	} {
		if err := Load(dst, Options{}); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

type judged struct {
	Low   int        `key:"low"`
	High  int        `key:"high"`
	Group judgedPart `key:"group"`
}

type judgedPart struct {
	Name string `key:"name"`
}

func (p judgedPart) Validate() error {
	if p.Name == "" {
		return errors.Join(&Error{"name", "is empty", "set it"}, errors.New("plain"))
	}
	return nil
}

func (j *judged) Validate() error {
	if j.Low > j.High {
		return errors.Join(&Error{"low", "is above high", "lower it"}, Within("group", j.Group.Validate()))
	}
	return nil
}

func TestValidate(t *testing.T) {
	if err := Load(&judged{}, Options{}); err != nil {
		t.Errorf("a group is judged although the program answers for it: %v", err)
	}
	err := Load(&judged{}, Options{Args: []string{"--low=1"}})
	want := "low: is above high; lower it\ngroup.name: is empty; set it\ngroup: plain"
	if err == nil || err.Error() != want {
		t.Errorf("error %v", err)
	}
	var e *Error
	if !errors.As(err, &e) || e.Key != "low" {
		t.Errorf("no *Error in %v", err)
	}
	var outer struct {
		Part judgedPart `key:"part"`
	}
	if err := Load(&outer, Options{}); err == nil || !strings.HasPrefix(err.Error(), "part.name: is empty") {
		t.Errorf("group of a program without Validate: %v", err)
	}
	if Within("x", nil) != nil {
		t.Error("Within of nil")
	}
}
