package capture_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/segmentio/kafka-go"

	"github.com/tandem-dc/tandem/capture"
	"github.com/tandem-dc/tandem/capture/pipeline"
	"github.com/tandem-dc/tandem/shared/config"
	"github.com/tandem-dc/tandem/shared/event"
	"github.com/tandem-dc/tandem/shared/kafkace"
	"github.com/tandem-dc/tandem/shared/serve"
	"github.com/tandem-dc/tandem/testbench/servers"
)

// When set, the test binary is a capture process instead, configured like one.
const childEnv = "CAPTURE_TEST_CHILD"

func TestMain(m *testing.M) {
	if os.Getenv(childEnv) != "" {
		child()
		return
	}
	os.Exit(servers.Main(m))
}

func child() {
	var cfg capture.Config
	var environ []string
	for _, e := range os.Environ() {
		if strings.HasPrefix(e, "TANDEM_") && !strings.HasPrefix(e, "TANDEM_TEST") && !strings.HasPrefix(e, "TANDEM_CACHE") {
			environ = append(environ, e)
		}
	}
	err := config.Load(&cfg, config.Options{Program: "capture", Environ: environ})
	if err == nil {
		var s *capture.Service
		if s, err = capture.New(cfg, serve.Logger(os.Stderr, "info", "text")); err == nil {
			err = s.Run(context.Background())
		}
	}
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

// site is a datacenter's servers, for one test.
type site struct {
	t     testing.TB
	mysql *servers.MySQL
	kafka *servers.Kafka
	etcd  *servers.Etcd
	db    string
	log   *logBuffer
}

func newSite(t testing.TB, m *servers.MySQL) *site { return newSiteOn(t, m, servers.Embedded) }

func newSiteOn(t testing.TB, m *servers.MySQL, kind servers.KafkaKind) *site {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	s := &site{t: t, mysql: m, log: &logBuffer{}}
	var err error
	if s.etcd, err = servers.StartEtcd(ctx, t.TempDir()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.etcd.Close() })
	if s.kafka, err = servers.StartKafka(ctx, servers.KafkaOptions{Kind: kind, Dir: t.TempDir()}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = s.kafka.Close()
		if t.Failed() {
			t.Logf("log of capture:\n%s", s.log.tail(6000))
		}
	})
	s.db = m.NewDatabase(t)
	if _, err := m.Admin(s.db).ExecContext(ctx, "CREATE TABLE t (id BIGINT AUTO_INCREMENT PRIMARY KEY, v VARCHAR(64))"); err != nil {
		t.Fatal(err)
	}
	return s
}

// environ configures capture with one target, the site's own broker, or more.
func (s *site) environ(targets string, more ...string) []string {
	c := s.mysql.Config("capture")
	if targets == "" {
		targets = fmt.Sprintf("[{dc: b, partitions: 4, connections: 4, kafka: {brokers: [%s]}}]", s.kafka.Bootstrap())
	}
	return append([]string{
		"TANDEM_DC=a", "TANDEM_MYSQL_ADDR=" + c.Addr, "TANDEM_MYSQL_USER=" + c.User, "TANDEM_MYSQL_PASSWORD=" + c.Password,
		"TANDEM_ETCD_ENDPOINTS=" + s.etcd.Endpoint(), "TANDEM_TARGETS=" + targets, "TANDEM_LISTEN=127.0.0.1:0",
		"TANDEM_INCLUDE=" + s.db, "TANDEM_HEARTBEAT=100ms", "TANDEM_LEASE_TTL=2s", "TANDEM_DRAIN=1s",
		"TANDEM_CHECKPOINT_INTERVAL=10ms", "TANDEM_REPAIR_INTERVAL=100ms",
	}, more...)
}

// start runs the service; stop ends it in order.
func (s *site) start(environ []string) (*capture.Service, func()) {
	s.t.Helper()
	var cfg capture.Config
	if err := config.Load(&cfg, config.Options{Program: "capture", Environ: environ}); err != nil {
		s.t.Fatal(err)
	}
	svc, err := capture.New(cfg, slog.New(slog.NewTextHandler(s.log, nil)))
	if err != nil {
		s.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- svc.Run(ctx) }()
	stop := sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			s.t.Errorf("Run: %v", err)
		}
	})
	s.t.Cleanup(stop)
	return svc, stop
}

// streams reads /statusz.
func (s *site) streams(svc *capture.Service) []pipeline.Status {
	s.t.Helper()
	body, _ := s.get(svc, "/statusz")
	var out struct {
		Streams []pipeline.Status `json:"streams"`
	}
	if err := json.Unmarshal([]byte(body), &out); err != nil {
		s.t.Fatalf("%v in %s", err, body)
	}
	return out.Streams
}

func (s *site) get(svc *capture.Service, path string) (string, int) {
	s.t.Helper()
	res, err := http.Get("http://" + svc.Addr() + path)
	if err != nil {
		s.t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	http.DefaultClient.CloseIdleConnections()
	return string(body), res.StatusCode
}

func (s *site) until(what string, cond func() bool) {
	s.t.Helper()
	deadline := time.After(time.Minute)
	for !cond() {
		select {
		case <-deadline:
			s.t.Fatalf("waited in vain: %s", what)
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// insert commits n single-row transactions.
func (s *site) insert(n int) {
	s.t.Helper()
	db := s.mysql.Admin(s.db)
	for range n {
		if _, err := db.Exec("INSERT INTO t (v) VALUES (UUID())"); err != nil {
			s.t.Fatal(err)
		}
	}
}

// row is what one event inserted.
type row struct{ id, v string }

// sent reads the topic: rows by sequence, a number always being the same event.
func (s *site) sent() map[uint64]row {
	s.t.Helper()
	rows, ids := map[uint64]row{}, map[uint64]string{}
	for _, msg := range readTopic(s.t, s.kafka.Bootstrap(), event.Topic("a")) {
		m, err := kafkace.FromMessage(&msg)
		if err != nil {
			s.t.Fatal(err)
		}
		if m.Type != event.TypeTransaction {
			continue
		}
		if old, ok := ids[m.Sequence]; ok && old != m.ID {
			s.t.Fatalf("sequence %d was %s and is %s", m.Sequence, old, m.ID)
		}
		ids[m.Sequence] = m.ID
		txn, err := event.DecodeTransaction(msg.Value)
		if err != nil {
			s.t.Fatal(err)
		}
		if len(txn.Rows) != 1 || txn.Rows[0].Op != event.Insert {
			s.t.Fatalf("event %s: %+v", m.ID, txn)
		}
		after := txn.Rows[0].After
		rows[m.Sequence] = row{string(after[0].Data), string(after[1].Data)}
	}
	return rows
}

// checkSent compares the topic with the table: every row once, numbered from 1
// without gaps, in the order of commit. One writer at a time takes its id from
// the table, so commit order is the order of ids.
func (s *site) checkSent() {
	s.t.Helper()
	rows, err := s.mysql.Admin(s.db).Query("SELECT id, v FROM t ORDER BY id")
	if err != nil {
		s.t.Fatal(err)
	}
	defer rows.Close()
	got := s.sent()
	n := uint64(0)
	for rows.Next() {
		var want row
		if err := rows.Scan(&want.id, &want.v); err != nil {
			s.t.Fatal(err)
		}
		n++
		if got[n] != want {
			s.t.Fatalf("sequence %d is %+v, want %+v", n, got[n], want)
		}
	}
	if len(got) != int(n) {
		s.t.Errorf("%d numbers in the topic, %d rows in the table", len(got), n)
	}
	if n == 0 {
		s.t.Error("the table is empty")
	}
}

func readTopic(t testing.TB, broker, topic string) []kafka.Message {
	t.Helper()
	var out []kafka.Message
	for part := range 4 {
		conn, err := kafka.DialLeader(context.Background(), "tcp", broker, topic, part)
		if err != nil {
			t.Fatal(err)
		}
		_ = conn.SetDeadline(time.Now().Add(30 * time.Second))
		first, last, err := conn.ReadOffsets()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := conn.Seek(first, kafka.SeekAbsolute); err != nil {
			t.Fatal(err)
		}
		for first < last {
			batch := conn.ReadBatch(1, 10<<20)
			for first < last {
				m, err := batch.ReadMessage()
				if err != nil {
					break
				}
				first = m.Offset + 1
				out = append(out, m)
			}
			if err := batch.Close(); err != nil && !errors.Is(err, io.EOF) {
				t.Fatal(err)
			}
		}
		_ = conn.Close()
	}
	return out
}

// load writes until the returned function is called.
func (s *site) load() (*atomic.Int64, func()) {
	var total atomic.Int64
	done, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		db := s.mysql.Admin(s.db)
		for {
			select {
			case <-done:
				return
			default:
			}
			if _, err := db.Exec("INSERT INTO t (v) VALUES (UUID())"); err != nil {
				s.t.Errorf("load: %v", err)
				return
			}
			total.Add(1)
			<-time.After(time.Millisecond)
		}
	}()
	return &total, sync.OnceFunc(func() { close(done); <-ended })
}

type logBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *logBuffer) tail(n int) string {
	b.mu.Lock()
	defer b.mu.Unlock()
	s := b.buf.String()
	return s[max(0, len(s)-n):]
}
