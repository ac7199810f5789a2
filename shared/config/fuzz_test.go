package config

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"unicode/utf8"
)

// Whatever a file, a variable and flags say, Load answers with a value or an
// error; it shows no secret; and what it loaded can be shown and loaded again.
func FuzzLoad(f *testing.F) {
	f.Add("mysql: {addr: a, tls: {enabled: true}}\npeers: [{name: x}]\n", "TANDEM_MYSQL_ADDR=b", "--dc=c")
	f.Add("by-name: {a: {mysql.addr: b}}\nfree: {a: [1]}\nkafka: {brokers: [a, b]}", "TANDEM_PEERS=[{mysql: {dial-timeout: 5s}}]", "--waits=1s,2s")
	f.Add("&a [*a]", "TANDEM_FREE=&a {b: *a}", "--by-name={<<: {a: b}}")
	f.Add("? [a]\n: b\n", "TANDEM_ADDRESS_MAP=a=b,c=d", "--")
	f.Add("mysql:\n  <<: {addr: x}\n", "TANDEM_LEVEL=info+2", "-")
	f.Add("free: !!binary aGk=\n", "TANDEM_SIZE=0x10", "--ratio=1e400")
	f.Add("peers: [~, {}]\nby-name: {a: ~}\n", "TANDEM_FREE={? {a: b} : c}", "--free=!!set {a}")
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, file, env, arg string) {
		path := filepath.Join(dir, "fuzz.yaml")
		if err := os.WriteFile(path, []byte(file), 0o600); err != nil {
			t.Fatal(err)
		}
		if name, _, _ := strings.Cut(strings.TrimLeft(arg, "-"), "="); strings.HasSuffix(name, "-file") || name == fileKey || strings.Contains(file+env, "-file") || strings.Contains(env, "_FILE") {
			return // would read files of this machine
		}
		const secret = "s3cr3t-canary"
		var p program
		err := Load(&p, Options{Args: []string{"--mysql.password=" + secret, "--config=" + path, arg}, Environ: []string{env}, Out: discard{}})
		if err != nil {
			if err.Error() == "" || strings.Contains(err.Error(), secret) && !strings.Contains(file+env+arg, secret) {
				t.Fatalf("error %q", err)
			}
			return
		}
		shown := Redacted(&p)
		if p.MySQL.Password == secret && strings.Contains(shown.String(), secret) && !strings.Contains(file+env+arg, secret) {
			t.Fatalf("shows a secret: %s", shown)
		}
		again := program{Free: p.Free, Peers: p.Peers, ByName: p.ByName, MySQL: mysqlGroup{Password: p.MySQL.Password}}
		var args []string
		for _, s := range shown {
			l := s.Value.String()
			switch {
			case s.Key == "free" || s.Key == "peers" || s.Key == "by-name" || s.Key == "mysql.password":
			case strings.Contains(l, "://") || !utf8.ValidString(l):
				return // part of a URL may be hidden
			default:
				args = append(args, "--"+s.Key+"="+l)
			}
		}
		if hasSeparators(p.Brokers) || mapHasSeparators(p.Map) {
			return // a list from YAML may hold what its text form cannot
		}
		if err := Load(&again, Options{Args: args}); err != nil {
			t.Fatalf("what was shown cannot be loaded: %v from %q", err, args)
		}
		if len(p.Waits) == 0 || len(p.Brokers) == 0 || p.MySQL.Addr == "" || p.MySQL.Dial == 0 || p.Count == 0 || p.Ratio == 0 {
			return // an empty value is not shown, so its default comes back
		}
		if len(p.Map) == 0 {
			p.Map, again.Map = nil, nil
		}
		if !reflect.DeepEqual(again, p) {
			t.Fatalf("shown and loaded again\n%+v\nis not\n%+v", again, p)
		}
	})
}

type discard struct{}

func (discard) Write(p []byte) (int, error) { return len(p), nil }

func hasSeparators(items []string) bool {
	for _, s := range items {
		if s == "" || s != strings.TrimSpace(s) || strings.Contains(s, ",") {
			return true
		}
	}
	return false
}

func mapHasSeparators(m map[string]string) bool {
	for k, v := range m {
		if k == "" || strings.Contains(k, "=") || hasSeparators([]string{k}) || v != strings.TrimSpace(v) || strings.Contains(v, ",") {
			return true
		}
	}
	return false
}
