package capture

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tandem-dc/tandem/shared/config"
)

func load(t *testing.T, environ []string, args ...string) (Config, error) {
	t.Helper()
	var c Config
	err := config.Load(&c, config.Options{Program: "capture", Environ: environ, Args: args})
	return c, err
}

const good = `
dc: beijing
mysql: {addr: 10.0.0.5:3306, user: capture, password: secret}
targets:
- dc: beijing
- dc: guangzhou
  kafka:
    brokers: [10.1.0.9:9092]
    address-map: {kafka-0:9092=127.0.0.1:7000}
  connections: 16
  compression: zstd
`

func TestConfigFromFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "capture.yaml")
	text := strings.Replace(good, "{kafka-0:9092=127.0.0.1:7000}", `{"kafka-0:9092": "127.0.0.1:7000"}`, 1)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := load(t, []string{"TANDEM_LEASE_TTL=20s"}, "--config", path, "--start", "binlog.000001:4")
	if err != nil {
		t.Fatal(err)
	}
	if c.DC != "beijing" || c.Source.MySQL.Addr != "10.0.0.5:3306" || c.LeaseTTL != 20*time.Second || c.Start != "binlog.000001:4" {
		t.Errorf("%+v", c)
	}
	local, peer := c.Targets[0], c.Targets[1]
	if local.DC != "beijing" || local.Kafka.Brokers[0] != "127.0.0.1:9092" || local.Partitions != 1 || local.Publish.Linger != 2*time.Millisecond || local.Publish.Connections != 0 {
		t.Errorf("defaults of a target: %+v", local)
	}
	if peer.Kafka.Brokers[0] != "10.1.0.9:9092" || peer.Kafka.AddressMap["kafka-0:9092"] != "127.0.0.1:7000" || peer.Publish.Connections != 16 || peer.Publish.Compression != "zstd" {
		t.Errorf("the peer: %+v", peer)
	}
}

func TestTargetsFromEnvironment(t *testing.T) {
	c, err := load(t, []string{"TANDEM_DC=beijing", "TANDEM_MYSQL_USER=capture",
		"TANDEM_TARGETS=[{dc: beijing, kafka: {brokers: [127.0.0.1:9092]}}, {dc: guangzhou, kafka: {brokers: [10.1.0.9:9092]}, linger: 5ms}]"})
	if err != nil {
		t.Fatal(err)
	}
	if len(c.Targets) != 2 || c.Targets[1].Publish.Linger != 5*time.Millisecond {
		t.Errorf("%+v", c.Targets)
	}
}

func TestConfigErrorsNameKeyAndRemedy(t *testing.T) {
	base := []string{"TANDEM_DC=beijing", "TANDEM_MYSQL_USER=capture", "TANDEM_TARGETS=[{dc: beijing}]"}
	for env, want := range map[string][]string{
		"TANDEM_DC=":                                                  {"dc", "set the name of this datacenter"},
		"TANDEM_DC=Bei jing":                                          {"dc", "no datacenter name"},
		"TANDEM_MYSQL_USER=":                                          {"mysql.user"},
		"TANDEM_TARGETS=":                                             {"targets", "name at least one"},
		"TANDEM_TARGETS=[{dc: a}, {dc: a}]":                           {"targets.1.dc", "once"},
		"TANDEM_TARGETS=[{dc: a, compression: lz5}]":                  {"targets.0", "compression", "zstd"},
		"TANDEM_TARGETS=[{dc: a, kafka: {brokers: [nowhere]}}]":       {"targets.0.kafka", "host:port"},
		"TANDEM_TARGETS=[{dc: a, conections: 3}]":                     {"conections", "connections"},
		"TANDEM_TARGETS=[{dc: a, kafka: {sasl: {mechanism: oauth}}}]": {"targets.0.kafka", "sasl.mechanism"},
		"TANDEM_START=yesterday":                                      {"start", "earliest"},
		"TANDEM_START=binlog.1:x":                                     {"start", "earliest"},
		"TANDEM_DRAIN=9s":                                             {"drain", "lease-ttl"},
		"TANDEM_DRAIN=-1s":                                            {"drain", "negative"},
		"TANDEM_HEARTBEAT=0s":                                         {"heartbeat", "not positive"},
		"TANDEM_HISTORY_KEYS=0":                                       {"history-keys"},
		"TANDEM_LISTEN=8081":                                          {"listen"},
		"TANDEM_LOG_LEVEL=loud":                                       {"log.level"},
		"TANDEM_ETCD_USER=x":                                          {"etcd", "password"},
	} {
		name, _, _ := strings.Cut(env, "=")
		environ := []string{env}
		for _, b := range base {
			if !strings.HasPrefix(b, name+"=") {
				environ = append(environ, b)
			}
		}
		_, err := load(t, environ)
		if err == nil {
			t.Errorf("%s was taken", env)
			continue
		}
		for _, w := range want {
			if !strings.Contains(err.Error(), w) {
				t.Errorf("%s: %q does not say %q", env, err, w)
			}
		}
	}
}
