package config

import (
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// Every mistake names the key, where it was written, and what to write.
func TestErrors(t *testing.T) {
	for _, c := range []struct {
		name, file string
		env, args  []string
		says       []string
	}{
		{"unknown key", "mysql:\n  pasword: x\n", nil, nil, []string{"mysql.pasword: ", "tandem.yaml:2", "did you mean mysql.password?"}},
		{"unknown top key", "dcc: x\n", nil, nil, []string{"dcc: ", ":1", "did you mean dc?"}},
		{"key without its group", "addr: x\n", nil, nil, []string{"addr: ", "did you mean mysql.addr?"}},
		{"far from any", "zzzzzzzzzzzz: x\n", nil, nil, []string{"zzzzzzzzzzzz: ", "--help"}},
		{"unknown key in an item", "peers:\n  - name: a\n    nam: b\n", nil, nil, []string{"peers[0].nam: ", ":3", "did you mean peers[0].name?"}},
		{"unknown key in a named item", "by-name:\n  gz: {brokes: b}\n", nil, nil, []string{"by-name.gz.brokes: ", ":2", "by-name.gz.brokers?"}},
		{"bad value in an item", "peers:\n  - mysql: {dial-timeout: soon}\n", nil, nil, []string{"peers[0].mysql.dial-timeout: ", ":2", `"soon" is not a duration`, "300ms"}},
		{"duplicate", "dc: a\ndc: b\n", nil, nil, []string{"dc", "already defined at line 1|twice"}},
		{"nested and dotted", "mysql: {addr: a}\nmysql.addr: b\n", nil, nil, []string{"mysql.addr: ", ":2", "twice"}},
		{"value for a group", "mysql: 3\n", nil, nil, []string{"mysql: ", ":1", "is a group", "below it"}},
		{"list for a text", "dc: [a]\n", nil, nil, []string{"dc: ", "is a list, not a single value"}},
		{"text for a list of mappings", "peers: a\n", nil, nil, []string{"peers: ", "not a list of mappings"}},
		{"mapping inside a list", "kafka.brokers:\n- a\n- {b: c}\n", nil, nil, []string{"kafka.brokers[1]: ", ":3", "a mapping"}},
		{"bad duration in a list", "waits: [1s, 5]\n", nil, nil, []string{"waits[1]: ", `"5" is not a duration`}},
		{"not YAML", "mysql:\n\t- x", nil, nil, []string{"config: ", "not valid YAML", "line"}},
		{"not a mapping", "- a\n", nil, nil, []string{"config: ", "not a mapping"}},
		{"two documents", "dc: a\n---\ndc: b\n", nil, nil, []string{"config: ", "more than one"}},
		{"alias", "dc: &a x\nmysql.user: *a\n", nil, nil, []string{"alias"}},
		{"unknown variable", "", []string{"TANDEM_MYSQL_PASWORD=x"}, nil, []string{"TANDEM_MYSQL_PASWORD: ", "did you mean TANDEM_MYSQL_PASSWORD?"}},
		{"variable without its group", "", []string{"TANDEM_PASSWORD=x"}, nil, []string{"TANDEM_PASSWORD: ", "did you mean TANDEM_MYSQL_PASSWORD?"}},
		{"bad variable", "", []string{"TANDEM_COUNT=many"}, nil, []string{"count: environment TANDEM_COUNT: ", `"many" is not a whole number`, "digits"}},
		{"too large", "", []string{"TANDEM_SMALL=256"}, nil, []string{"small: ", "0 to 255"}},
		{"negative", "", []string{"TANDEM_SMALL=-1"}, nil, []string{"small: ", "zero or more"}},
		{"not finite", "ratio: .nan\n", nil, []string{"--ratio=inf"}, []string{"ratio: ", ":1", "flag --ratio", "is not a number"}},
		{"bad boolean", "", []string{"TANDEM_VERBOSE=yes"}, nil, []string{"verbose: ", `"yes" is neither true nor false`}},
		{"empty number", "", []string{"TANDEM_COUNT="}, nil, []string{"count: ", `"" is not a whole number`}},
		{"bad pair", "", []string{"TANDEM_ADDRESS_MAP=a"}, nil, []string{"address-map: ", "a=b,c=d"}},
		{"pair twice", "", []string{"TANDEM_ADDRESS_MAP=a=b,a=c"}, nil, []string{"address-map: ", "twice"}},
		{"empty item", "", []string{"TANDEM_KAFKA_BROKERS=a,,b"}, nil, []string{"kafka.brokers: ", "empty item"}},
		{"bad level", "", []string{"TANDEM_LEVEL=loud"}, nil, []string{"level: ", `"loud"`}},
		{"YAML in a variable", "", []string{"TANDEM_PEERS=[{"}, nil, []string{"peers: environment TANDEM_PEERS", "YAML"}},
		{"bad key in a variable", "", []string{"TANDEM_PEERS=[{nme: a}]"}, nil, []string{"peers[0].nme: environment TANDEM_PEERS", "peers[0].name?"}},
		{"unknown flag", "", nil, []string{"--mysql.adr=x"}, []string{"--mysql.adr: ", "did you mean --mysql.addr?"}},
		{"unknown flag with a value apart", "", nil, []string{"--mysql.adr", "x"}, []string{"--mysql.adr: ", "did you mean --mysql.addr?"}},
		{"missing value", "", nil, []string{"--dc", "--verbose"}, []string{"--dc: ", "has no value"}},
		{"missing last value", "", nil, []string{"--dc"}, []string{"--dc: ", "has no value"}},
		{"argument", "", nil, []string{"start"}, []string{`unexpected argument "start"`, "--key"}},
		{"no file", "", nil, []string{"--config", "/nonexistent/x.yaml"}, []string{"config: ", "/nonexistent/x.yaml", "TANDEM_CONFIG"}},
		{"all at once", "dcc: x\n", []string{"TANDEM_X=1"}, []string{"--zz=1", "--count=x"}, []string{"dcc: ", "TANDEM_X: ", "--zz: ", "count: "}},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := load(t, c.file, c.env, c.args...)
			if err == nil {
				t.Fatal("no error")
			}
			for _, alternatives := range c.says {
				found := false
				for s := range strings.SplitSeq(alternatives, "|") {
					found = found || strings.Contains(err.Error(), s)
				}
				if !found {
					t.Errorf("%q does not say %q", err, alternatives)
				}
			}
			if c.name == "unknown flag with a value apart" && strings.Contains(err.Error(), "unexpected") {
				t.Errorf("two errors for one mistake: %q", err)
			}
		})
	}
}

func TestVariablesOfOthersAreNoMistakes(t *testing.T) {
	_, err := load(t, "", []string{"TANDEM_CACHE=/c", "TANDEM_TEST_SEED=1", "TANDEM_CONFIG=", "PATH=/bin", "TANDEM", "=x",
		"TANDEM_CAPTURE_SERVICE_HOST=10.0.0.1", "TANDEM_CAPTURE_SERVICE_PORT=80", "TANDEM_CAPTURE_SERVICE_PORT_HTTP=80", "TANDEM_CAPTURE_PORT=tcp://10.0.0.1:80",
		"TANDEM_CAPTURE_PORT_80_TCP=tcp://10.0.0.1:80", "TANDEM_CAPTURE_PORT_80_TCP_ADDR=10.0.0.1"})
	if err != nil {
		t.Error(err)
	}
}

// No error may show what a secret field holds, whatever is wrong with it.
func TestErrorsHideSecrets(t *testing.T) {
	type secrets struct {
		Pin    int               `key:"pin" secret:"true"`
		Text   string            `key:"text" secret:"true"`
		Tokens map[string]string `key:"tokens" secret:"true"`
		Waits  []int             `key:"waits" secret:"true"`
	}
	const s = "hunter2"
	for _, args := range [][]string{
		{"--pin=" + s}, {"--tokens=" + s}, {"--waits=1," + s}, {"--text-file=/dev/null", "--text=" + s}, {"--txt=" + s}, {"--txt", s},
	} {
		err := Load(&secrets{}, Options{Args: args, Environ: []string{"TANDEM_PIN=" + s, "TANDEM_TXT=" + s}})
		if err == nil || strings.Contains(err.Error(), s) {
			t.Errorf("%v: %v", args, err)
		}
	}
	for _, file := range []string{"text: *" + s, "pin: " + s, "waits: [" + s + "]", "pin: {a: " + s + "}", "tokens: [" + s + "]", "text: [" + s + "]", "text: '" + s, "text: !!int " + s, "text: %" + s, "text: @" + s} {
		p := t.TempDir() + "/f.yaml"
		writeFile(t, p, file)
		err := Load(&secrets{}, Options{Args: []string{"--config", p}})
		if err == nil && !strings.HasPrefix(file, "text: !!int") || err != nil && strings.Contains(err.Error(), s) {
			t.Errorf("%s: %v", file, err)
		}
	}
}

func TestDistance(t *testing.T) {
	for _, c := range []struct {
		a, b string
		want int
	}{{"", "", 0}, {"a", "", 1}, {"ab", "ba", 1}, {"kitten", "sitting", 3}, {"password", "pasword", 1}, {"abc", "abc", 0}} {
		if got := distance(c.a, c.b); got != c.want {
			t.Errorf("%q, %q: %d, want %d", c.a, c.b, got, c.want)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		a, b := rapid.String().Draw(t, "a"), rapid.String().Draw(t, "b")
		if d := distance(a, b); d != distance(b, a) || (d == 0) != (a == b) && len(a) <= 128 && len(b) <= 128 {
			t.Fatalf("distance %d", d)
		}
	})
}
