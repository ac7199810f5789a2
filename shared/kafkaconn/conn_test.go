package kafkaconn_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/twmb/franz-go/pkg/kfake"

	"github.com/tandem-dc/tandem/shared/kafkaconn"
	"github.com/tandem-dc/tandem/shared/tlsconf"
	"github.com/tandem-dc/tandem/testbench/link"
	"github.com/tandem-dc/tandem/testbench/servers"
)

func TestMain(m *testing.M) { os.Exit(servers.Main(m)) }

func start(t *testing.T, o servers.KafkaOptions) *servers.Kafka {
	t.Helper()
	k, err := servers.StartKafka(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := k.Close(); err != nil {
			t.Error(err)
		}
	})
	return k
}

func ensure(c kafkaconn.Config, topic string, partitions int) error {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	return kafkaconn.EnsureTopic(ctx, c, topic, partitions, 1)
}

func TestEnsureTopic(t *testing.T) {
	servers.EachKafka(t, func(t *testing.T, kind servers.KafkaKind) {
		c := start(t, servers.KafkaOptions{Kind: kind}).Config()
		for range 2 { // created, then found
			if err := ensure(c, "a", 3); err != nil {
				t.Fatal(err)
			}
		}
		if err := ensure(c, "a", 2); err != nil {
			t.Errorf("more partitions than wanted: %v", err)
		}
		if err := ensure(c, "a", 4); err == nil || !strings.Contains(err.Error(), "has 3 partitions, 4 are wanted") {
			t.Errorf("fewer partitions than wanted: %v", err)
		}
		if err := ensure(c, "no/name", 1); kind == servers.Apache && !errors.Is(err, kafka.InvalidTopic) {
			t.Errorf("impossible name: %v", err)
		}
		if err := kafkaconn.EnsureTopic(t.Context(), c, "b", 1, 3); !errors.Is(err, kafka.InvalidReplicationFactor) {
			t.Errorf("more replicas than brokers: %v", err)
		}
		results := make(chan error)
		for range 4 {
			go func() { results <- ensure(c, "raced", 2) }()
		}
		for range 4 {
			if err := <-results; err != nil {
				t.Errorf("several at once: %v", err)
			}
		}
	})
}

func TestMaxMessageBytes(t *testing.T) {
	servers.EachKafka(t, func(t *testing.T, kind servers.KafkaKind) {
		topics := map[string]int{"a": 1}
		k := start(t, servers.KafkaOptions{Kind: kind, Topics: topics})
		if n, err := kafkaconn.MaxMessageBytes(t.Context(), k.Config(), "a"); err != nil || n != kafkaconn.DefaultMaxMessageBytes {
			t.Errorf("default is %d, %v", n, err)
		}
		if _, err := kafkaconn.MaxMessageBytes(t.Context(), k.Config(), "none"); !errors.Is(err, kafka.UnknownTopicOrPartition) {
			t.Errorf("unknown topic: %v", err)
		}
		big := start(t, servers.KafkaOptions{Kind: kind, Topics: topics, MaxMessageBytes: 5 << 20})
		if n, err := kafkaconn.MaxMessageBytes(t.Context(), big.Config(), "a"); err != nil || n != 5<<20 {
			t.Errorf("set to 5 MiB it is %d, %v", n, err)
		}
	})
}

// The broker advertises its own address; everything must go through the link.
func TestAddressMap(t *testing.T) {
	k := start(t, servers.KafkaOptions{Topics: map[string]int{"a": 1}})
	l, err := link.New(k.Bootstrap(), link.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.Close)
	c := k.Config()
	c.Brokers = []string{l.Addr()}
	c.AddressMap = map[string]string{k.Bootstrap(): l.Addr()}
	if err := produce(t, c); err != nil {
		t.Fatal(err)
	}
	l.Cut()
	if err := produce(t, c); err == nil {
		t.Error("a record went past the link")
	}
}

// produce sends a record by client and reads one by dialer.
func produce(t *testing.T, c kafkaconn.Config) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
	defer cancel()
	client, done, err := c.Client()
	if err != nil {
		t.Fatal(err)
	}
	defer done()
	r, err := client.Produce(ctx, &kafka.ProduceRequest{
		Topic: "a", RequiredAcks: kafka.RequireAll, Records: kafka.NewRecordReader(kafka.Record{Value: kafka.NewBytes([]byte("x"))}),
	})
	if err == nil {
		err = r.Error
	}
	if err != nil {
		return err
	}
	d, err := c.Dialer()
	if err != nil {
		t.Fatal(err)
	}
	conn, err := d.DialLeader(ctx, "tcp", c.Brokers[0], "a", 0)
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(3 * time.Second)); err != nil {
		return err
	}
	m, err := conn.ReadMessage(1 << 10)
	if err == nil && string(m.Value) != "x" {
		t.Errorf("read %q", m.Value)
	}
	return err
}

func TestSASLAndTLS(t *testing.T) {
	cert, ca := certificate(t)
	for mechanism, name := range map[string]string{"plain": "PLAIN", "scram-sha-256": "SCRAM-SHA-256", "scram-sha-512": "SCRAM-SHA-512"} {
		t.Run(mechanism, func(t *testing.T) {
			cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.EnableSASL(), kfake.Superuser(name, "capture", "secret-p"),
				kfake.TLS(&tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12}), kfake.SeedTopics(1, "a"))
			if err != nil {
				t.Fatal(err)
			}
			defer cluster.Close()
			c := kafkaconn.Config{
				Brokers: cluster.ListenAddrs(), TLS: tlsconf.Config{Enabled: true, CA: ca},
				SASL: kafkaconn.SASL{Mechanism: mechanism, User: "capture", Password: "secret-p"},
			}
			if err := produce(t, c); err != nil {
				t.Error(err)
			}
			wrong := c
			wrong.SASL.Password = "secret-q"
			if err := produce(t, wrong); err == nil || strings.Contains(err.Error(), "secret") {
				t.Errorf("wrong password: %v", err)
			}
			wrong = c
			wrong.TLS.CA = ""
			if err := produce(t, wrong); err == nil {
				t.Error("a certificate by nobody we know is accepted")
			}
		})
	}
}

func TestBrokerThatIsNotThere(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	l.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	if err := kafkaconn.EnsureTopic(ctx, kafkaconn.Config{Brokers: []string{addr}}, "a", 1, 1); err == nil || !strings.Contains(err.Error(), addr) {
		t.Errorf("got %v", err)
	}
}

func TestBrokerThatIsSilent(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	accepted := make(chan struct{})
	go func() {
		defer close(accepted)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() { _, _ = io.Copy(io.Discard, c); c.Close() }()
		}
	}()
	t.Cleanup(func() { l.Close(); <-accepted })
	c := kafkaconn.Config{Brokers: []string{l.Addr().String()}, DialTimeout: 200 * time.Millisecond}
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if err := kafkaconn.EnsureTopic(ctx, c, "a", 1, 1); err == nil {
		t.Error("got an answer from nobody")
	}
}

func TestRefuses(t *testing.T) {
	ok := []string{"127.0.0.1:9092"}
	for want, c := range map[string]kafkaconn.Config{
		"brokers: is empty":  {},
		"brokers: \"kafka\"": {Brokers: []string{"kafka"}},
		"address-map":        {Brokers: ok, AddressMap: map[string]string{"a:1": "b"}},
		"dial-timeout":       {Brokers: ok, DialTimeout: -1},
		"sasl.mechanism":     {Brokers: ok, SASL: kafkaconn.SASL{User: "u"}},
		"gssapi":             {Brokers: ok, SASL: kafkaconn.SASL{Mechanism: "gssapi"}},
		"sasl.password":      {Brokers: ok, SASL: kafkaconn.SASL{Mechanism: "plain", User: "u"}},
		"tls.cert":           {Brokers: ok, TLS: tlsconf.Config{Enabled: true, Cert: "x"}},
	} {
		if _, _, err := c.Client(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want an error that says %q, got %v", want, err)
		}
	}
}

func certificate(t *testing.T) (tls.Certificate, string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, ca
}
