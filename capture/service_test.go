package capture_test

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/segmentio/kafka-go"

	"github.com/tandem-dc/tandem/capture/binlog"
	"github.com/tandem-dc/tandem/capture/checkpoint"
	"github.com/tandem-dc/tandem/capture/pipeline"
	"github.com/tandem-dc/tandem/shared/coord"
	"github.com/tandem-dc/tandem/shared/event"
	"github.com/tandem-dc/tandem/shared/kafkace"
	"github.com/tandem-dc/tandem/shared/sqldb"
	"github.com/tandem-dc/tandem/testbench/servers"
)

func TestCommitsArriveNumbered(t *testing.T) {
	servers.EachFlavor(t, func(t *testing.T, m *servers.MySQL) {
		servers.EachKafka(t, func(t *testing.T, kind servers.KafkaKind) { commitsArrive(t, newSiteOn(t, m, kind)) })
	})
}

func commitsArrive(t *testing.T, s *site) {
	svc, stop := s.start(s.environ(""))
	s.until("it runs", func() bool { return s.streams(svc)[0].State == pipeline.Running })
	s.insert(200)
	s.until("all acknowledged", func() bool { return s.streams(svc)[0].Acked == 200 })
	s.until("ready", func() bool { _, code := s.get(svc, "/readyz"); return code == http.StatusOK })
	s.until("lag is known although nobody writes", func() bool {
		st := s.streams(svc)[0]
		return st.Through != nil && time.Since(*st.Through) < time.Second
	})
	metrics, _ := s.get(svc, "/metrics")
	for _, want := range []string{`tandem_capture_transactions_total{target="b"} 200`, `tandem_capture_rows_total{target="b"} 200`,
		`tandem_capture_lag_seconds{target="b"}`, `tandem_publish_duration_seconds_count{target="b"}`} {
		if !strings.Contains(metrics, want) {
			t.Errorf("no %s in the metrics", want)
		}
	}
	stop()
	s.checkSent()

	s.insert(50)
	svc, stop = s.start(s.environ(""))
	s.until("what was committed meanwhile", func() bool { return s.streams(svc)[0].Acked == 250 })
	stop()
	s.checkSent()
}

// A dead peer leaves the stream to the own broker alone, and gets everything
// once it is back.
func TestDeadTargetDelaysNobody(t *testing.T) {
	s := newSite(t, servers.MySQLForTest(t, sqldb.MariaDB))
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	peer, err := servers.StartKafka(ctx, servers.KafkaOptions{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = peer.Close() })
	targets := fmt.Sprintf("[{dc: a, partitions: 4, kafka: {brokers: [%s]}}, {dc: b, partitions: 4, connections: 8, kafka: {brokers: [%s]}}]", s.kafka.Bootstrap(), peer.Bootstrap())
	svc, stop := s.start(s.environ(targets))
	s.until("both run", func() bool {
		st := s.streams(svc)
		return st[0].State == pipeline.Running && st[1].State == pipeline.Running
	})
	if err := peer.Kill(); err != nil {
		t.Fatal(err)
	}
	s.insert(100)
	s.until("the own broker has all", func() bool { return s.streams(svc)[0].Acked == 100 })
	s.until("not ready because of b", func() bool {
		body, code := s.get(svc, "/readyz")
		return code == http.StatusServiceUnavailable && strings.Contains(body, "stream-b")
	})
	if err := peer.Restart(ctx); err != nil {
		t.Fatal(err)
	}
	s.until("the peer has all", func() bool { return s.streams(svc)[1].Acked == 100 })
	s.until("ready again", func() bool { _, code := s.get(svc, "/readyz"); return code == http.StatusOK })
	stop()
	s.checkSent()
}

// Stopped without mercy 100 times at random points while somebody writes: the
// topic holds the committed sequence, and a number is always the same event.
func TestAbruptEndsUnderLoad(t *testing.T) {
	s := newSite(t, servers.MySQLForTest(t, sqldb.MariaDB))
	svc, stop := s.start(s.environ("", "TANDEM_DRAIN=0s"))
	s.until("it runs", func() bool { return s.streams(svc)[0].State == pipeline.Running })
	total, endLoad := s.load()
	ends := 100
	if testing.Short() {
		ends = 10
	}
	for range ends {
		<-time.After(rand.N(30 * time.Millisecond))
		stop()
		svc, stop = s.start(s.environ("", "TANDEM_DRAIN=0s"))
		s.until("it runs again", func() bool { return s.streams(svc)[0].State == pipeline.Running })
	}
	endLoad()
	s.until("all acknowledged", func() bool { return s.streams(svc)[0].Acked == uint64(total.Load()) })
	stop()
	s.checkSent()
	t.Logf("%d transactions, %d ends", total.Load(), ends)
}

// A capture process that is killed is followed by its standby within the lease.
func TestKillNine(t *testing.T) {
	s := newSite(t, servers.MySQLForTest(t, sqldb.MariaDB))
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	spawn := func() *exec.Cmd {
		cmd := exec.Command(exe)
		cmd.Env = append(os.Environ(), append(s.environ(""), childEnv+"=1")...)
		cmd.Stderr = s.log
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		return cmd
	}
	kill := func(cmd *exec.Cmd) {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}
	cli, err := coord.Open(coord.Config{Endpoints: []string{s.etcd.Endpoint()}}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer cli.Close()
	holder := func() string {
		res, err := cli.Get(t.Context(), pipeline.LeaseKey("a", "b"))
		if err != nil || len(res.Kvs) == 0 {
			return ""
		}
		_, pid, _ := strings.Cut(string(res.Kvs[0].Value), ":")
		return pid
	}
	active := spawn()
	defer func() { kill(active) }()
	s.until("the first leads", func() bool { return holder() == fmt.Sprint(active.Process.Pid) })
	s.until("its stream begins", func() bool { return strings.Contains(s.log.tail(1<<20), "stream begins") })
	total, endLoad := s.load()
	defer endLoad()
	kills := 8
	if testing.Short() {
		kills = 2
	}
	for range kills {
		standby := spawn()
		<-time.After(rand.N(300 * time.Millisecond))
		kill(active)
		active = standby
		s.until("the standby leads", func() bool { return holder() == fmt.Sprint(active.Process.Pid) })
	}
	endLoad()
	store, err := checkpoint.New(cli, "a", "b")
	if err != nil {
		t.Fatal(err)
	}
	s.until("all acknowledged", func() bool {
		cp, ok, err := store.Load(t.Context())
		return err == nil && ok && cp.Sequence == uint64(total.Load())
	})
	kill(active)
	s.checkSent()
	t.Logf("%d transactions, %d kills", total.Load(), kills)
}

// Settings of the server that would lose data are refused with the remedy, and
// accepted once repaired.
func TestWrongRowImageIsRefused(t *testing.T) {
	s := newSite(t, servers.MySQLForTest(t, sqldb.MariaDB))
	admin := s.mysql.Admin("")
	set := func(image string) {
		if _, err := admin.Exec("SET GLOBAL binlog_row_image = " + image); err != nil {
			t.Fatal(err)
		}
	}
	set("MINIMAL")
	defer set("FULL")
	svc, stop := s.start(s.environ(""))
	defer stop()
	s.until("not ready, with the remedy", func() bool {
		body, code := s.get(svc, "/readyz")
		return code == http.StatusServiceUnavailable && strings.Contains(body, "binlog_row_image=FULL")
	})
	set("FULL")
	s.until("it runs", func() bool { return s.streams(svc)[0].State == pipeline.Running })
}

// A position that the server has purged stops the stream with what happened and
// what to do, and nothing from beyond the gap is sent.
func TestPurgedBinlogIsRefused(t *testing.T) {
	servers.EachFlavor(t, func(t *testing.T, m *servers.MySQL) {
		s := newSite(t, m)
		svc, stop := s.start(s.environ(""))
		s.until("it runs", func() bool { return s.streams(svc)[0].State == pipeline.Running })
		s.insert(5)
		s.until("all acknowledged", func() bool { return s.streams(svc)[0].Acked == 5 })
		stop()
		s.insert(5)
		admin := m.Admin("")
		if _, err := admin.Exec("FLUSH BINARY LOGS"); err != nil {
			t.Fatal(err)
		}
		s.until("the old binlogs are gone", func() bool {
			if _, err := admin.Exec("PURGE BINARY LOGS BEFORE NOW() + INTERVAL 1 DAY"); err != nil {
				t.Fatal(err)
			}
			rows, err := admin.Query("SHOW BINARY LOGS")
			if err != nil {
				t.Fatal(err)
			}
			defer rows.Close()
			n := 0
			for rows.Next() {
				n++
			}
			return n == 1
		})
		s.insert(5)
		svc, stop = s.start(s.environ(""))
		s.until("blocked, with what to do", func() bool {
			st := s.streams(svc)[0]
			return st.State == pipeline.Blocked && strings.Contains(st.Reason, "1236") && strings.Contains(st.Reason, "checkpoint")
		})
		if _, code := s.get(svc, "/readyz"); code != http.StatusServiceUnavailable {
			t.Errorf("readyz: %d", code)
		}
		stop()
		if n := len(s.sent()); n != 5 {
			t.Errorf("%d transactions are in the topic, want the 5 from before the gap", n)
		}
	})
}

// A transaction above the topic's limit stops its stream alone, and goes once the
// limit is raised.
func TestOversizeTransactionWaitsForTheLimit(t *testing.T) {
	s := newSite(t, servers.MySQLForTest(t, sqldb.MariaDB))
	if _, err := s.mysql.Admin(s.db).Exec("ALTER TABLE t MODIFY v MEDIUMTEXT"); err != nil {
		t.Fatal(err)
	}
	svc, stop := s.start(s.environ(""))
	defer stop()
	s.until("it runs", func() bool { return s.streams(svc)[0].State == pipeline.Running })
	s.insert(5)
	if _, err := s.mysql.Admin(s.db).Exec("INSERT INTO t (v) VALUES (REPEAT('x', 3000000))"); err != nil {
		t.Fatal(err)
	}
	s.insert(5)
	s.until("blocked, with the remedy", func() bool {
		st := s.streams(svc)[0]
		return st.State == pipeline.Blocked && strings.Contains(st.Reason, "max.message.bytes")
	})
	if n := s.streams(svc)[0].Acked; n != 5 {
		t.Errorf("acknowledged up to %d, want the 5 before it", n)
	}
	client, done, err := s.kafka.Config().Client()
	if err != nil {
		t.Fatal(err)
	}
	defer done()
	res, err := client.IncrementalAlterConfigs(t.Context(), &kafka.IncrementalAlterConfigsRequest{
		Resources: []kafka.IncrementalAlterConfigsRequestResource{{
			ResourceType: kafka.ResourceTypeTopic, ResourceName: event.Topic("a"),
			Configs: []kafka.IncrementalAlterConfigsRequestConfig{{Name: "max.message.bytes", Value: "8000000", ConfigOperation: kafka.ConfigOperationSet}},
		}},
	})
	if err != nil || res.Resources[0].Error != nil {
		t.Fatal(err, res)
	}
	s.until("all acknowledged", func() bool { return s.streams(svc)[0].Acked == 11 })
	stop()
	s.checkSent()
}

// A new stream begins where start says.
func TestStartSettings(t *testing.T) {
	servers.EachFlavor(t, func(t *testing.T, m *servers.MySQL) {
		s := newSite(t, m)
		s.insert(3)
		here, err := binlog.Current(t.Context(), m.Admin(""))
		if err != nil {
			t.Fatal(err)
		}
		s.insert(4)
		for i, c := range []struct {
			start string
			rows  int
		}{
			{"earliest", 7}, {"gtid:" + here.GTIDSet, 4}, {fmt.Sprintf("%s:%d", here.File, here.Pos), 4}, {"latest", 0},
		} {
			source := fmt.Sprintf("s%d", i)
			svc, stop := s.start(append(s.environ(""), "TANDEM_START="+c.start, "TANDEM_DC="+source))
			s.until("it runs", func() bool { return s.streams(svc)[0].State == pipeline.Running })
			s.until("it has read all", func() bool {
				now, err := binlog.Current(t.Context(), m.Admin(""))
				if err != nil {
					t.Fatal(err)
				}
				at := s.streams(svc)[0].Position
				return at.File == now.File && at.Pos == now.Pos || at.GTIDSet != "" && at.GTIDSet == now.GTIDSet
			})
			stop()
			n := 0
			for _, msg := range readTopic(t, s.kafka.Bootstrap(), event.Topic(source)) {
				if m, err := kafkace.FromMessage(&msg); err != nil || m.Type == event.TypeTransaction {
					n++
				}
			}
			if n != c.rows {
				t.Errorf("start %s: %d transactions, want %d", c.start, n, c.rows)
			}
		}
	})
}
