package apply_test

import (
	"context"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/segmentio/kafka-go"

	"github.com/tandem-dc/tandem/functions/apply"
	"github.com/tandem-dc/tandem/shared/event"
	"github.com/tandem-dc/tandem/shared/kafkaconn"
	"github.com/tandem-dc/tandem/testbench/servers"
)

// MySQL is killed under load and comes back: events are answered 503 meanwhile,
// and in the end each is in once.
func TestServerOutage(t *testing.T) {
	for _, flavor := range servers.Flavors {
		t.Run(string(flavor), func(t *testing.T) {
			m, err := servers.StartMySQL(t.Context(), servers.MySQLOptions{Flavor: flavor})
			if err != nil {
				t.Fatal(err)
			}
			defer m.Close()
			w := newWorld(t, m)
			w.makeCounters()
			i := w.start(func(c *apply.Config) { c.Settings.Retry = 200 * time.Millisecond })
			events := counters(w, 400, 9)
			deliver(w, events[:100], 32, func() *instance { return i })
			var wg sync.WaitGroup
			wg.Go(func() { deliver(w, events[100:], 32, func() *instance { return i }) })
			until(t, "half of it", func() bool { return len(i.Status().Streams) > 0 && i.Status().Streams[0].Low > 150 })
			if err := m.Kill(); err != nil {
				t.Fatal(err)
			}
			if err := i.Ready(t.Context()); err == nil {
				t.Error("ready without a server")
			}
			if code := i.send(w.txn(10_000, 0, change{table: w.table("counter", counterColumns), after: row("77", "0")})); code != http.StatusServiceUnavailable && code != http.StatusOK {
				t.Errorf("answered %d", code)
			}
			if err := m.Restart(context.WithoutCancel(t.Context())); err != nil {
				t.Fatal(err)
			}
			wg.Wait()
			until(t, "all applied", func() bool { return w.low() >= 400 })
			w.want("400", "SELECT COUNT(*) FROM log")
			w.want("400", "SELECT SUM(n) FROM counter")
			w.want("0", "SELECT COUNT(*) FROM tandem.dead_letter WHERE origin = ?", w.origin)
		})
	}
}

// An application's transaction that holds the row makes apply wait and try again,
// not give up.
func TestLockWaitIsRepeated(t *testing.T) {
	eachWorld(t, func(t *testing.T, w *world) {
		w.exec(counterDDL)
		w.exec("INSERT INTO counter VALUES (1, 1)")
		i := w.start(func(c *apply.Config) { c.Settings.LockWait, c.Settings.Retry = time.Second, 20*time.Second })
		tx, err := w.db.BeginTx(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := tx.ExecContext(t.Context(), "UPDATE counter SET n = n WHERE id = 1"); err != nil {
			t.Fatal(err)
		}
		done := make(chan int)
		go func() {
			done <- i.send(w.txn(1, 0, update(w.table("counter", counterColumns), row("1", "1"), row("1", "2"))))
		}()
		until(t, "a second attempt", func() bool { return counter(t, i, "tandem_apply_retries_total") > 0 })
		if err := tx.Rollback(); err != nil {
			t.Fatal(err)
		}
		if code := <-done; code != http.StatusOK {
			t.Errorf("answered %d", code)
		}
		w.want("2", "SELECT n FROM counter")
	})
}

// An event whose predecessor is only slow waits for it, however long; storing it
// would add work to a line that is long already.
func TestPatienceIsNotStored(t *testing.T) {
	eachWorld(t, func(t *testing.T, w *world) {
		w.exec(counterDDL)
		w.exec("INSERT INTO counter VALUES (1, 1)")
		i := w.start(func(c *apply.Config) {
			c.Settings.LockWait, c.Settings.Retry, c.Settings.Wait = time.Second, 20*time.Second, 10*time.Millisecond
		})
		tx, err := w.db.BeginTx(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := tx.ExecContext(t.Context(), "UPDATE counter SET n = n WHERE id = 1"); err != nil {
			t.Fatal(err)
		}
		c := w.table("counter", counterColumns)
		done := make(chan int, 2)
		go func() { done <- i.send(w.txn(1, 0, update(c, row("1", "1"), row("1", "2")))) }()
		until(t, "the first has met the lock", func() bool { return counter(t, i, "tandem_apply_retries_total") > 0 })
		go func() { done <- i.send(w.txn(2, 1, update(c, row("1", "2"), row("1", "3")))) }()
		// An attempt takes a hundred times as long as an event waits before it is stored.
		until(t, "more attempts", func() bool { return counter(t, i, "tandem_apply_retries_total") > 2 })
		w.want("0", "SELECT COUNT(*) FROM tandem.pending WHERE origin = ?", w.origin)
		if err := tx.Rollback(); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if code := <-done; code != http.StatusOK {
				t.Errorf("answered %d", code)
			}
		}
		w.want("3", "SELECT n FROM counter")
	})
}

func counter(t *testing.T, i *instance, name string) (total float64) {
	t.Helper()
	families, err := i.reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == name {
			for _, m := range f.GetMetric() {
				total += m.GetCounter().GetValue()
			}
		}
	}
	return total
}

// Without the tandem schema and without the right to create it, Run says what to do.
func TestRunWithoutSchema(t *testing.T) {
	m, err := servers.StartMySQL(t.Context(), servers.MySQLOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	w := &world{t: t, m: m, sent: &letters{}}
	c := w.config()
	c.Settings.Migrate = true
	f, err := apply.New(c, depsOf(t))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := f.Run(ctx); err == nil || !strings.Contains(err.Error(), "tandem schema | mysql") {
		t.Errorf("Run says %v", err)
	}
}

func TestKafkaLetters(t *testing.T) {
	servers.EachKafka(t, func(t *testing.T, kind servers.KafkaKind) {
		k, err := servers.StartKafka(t.Context(), servers.KafkaOptions{Kind: kind, Dir: t.TempDir()})
		if err != nil {
			t.Fatal(err)
		}
		defer k.Close()
		c := apply.Config{DC: here}
		c.Kafka = kafkaconn.Config{Brokers: []string{k.Bootstrap()}}
		topic := event.DeadLetterTopic(here)
		if err := kafkaconn.EnsureTopic(t.Context(), c.Kafka, topic, 1, 1); err != nil {
			t.Fatal(err)
		}
		l, err := apply.NewKafkaLetters(c)
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		w := &world{t: t, origin: "beijing"}
		m := w.meta(7, 3)
		m.Reason = "it does not fit"
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		if err := l.Publish(ctx, m, []byte("payload")); err != nil {
			t.Fatal(err)
		}
		d, err := c.Kafka.Dialer()
		if err != nil {
			t.Fatal(err)
		}
		r := kafka.NewReader(kafka.ReaderConfig{Brokers: c.Kafka.Brokers, Topic: topic, Partition: 0, Dialer: d})
		defer r.Close()
		msg, err := r.ReadMessage(ctx)
		if err != nil {
			t.Fatal(err)
		}
		got := map[string]string{}
		for _, h := range msg.Headers {
			got[h.Key] = string(h.Value)
		}
		if string(msg.Value) != "payload" || got["ce_type"] != event.TypeDeadLetter || got["ce_id"] != "uuid:7" || got["ce_reason"] != m.Reason || got["ce_origindc"] != "beijing" {
			t.Errorf("published %q with %v", msg.Value, got)
		}
	})
}

func TestConfigErrors(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*apply.Config)
		want   string
	}{
		"no name":          {func(c *apply.Config) { c.DC = "" }, "dc"},
		"no account":       {func(c *apply.Config) { c.MySQL.User = "" }, "mysql"},
		"negative":         {func(c *apply.Config) { c.Settings.Wait = -1 }, "apply.wait"},
		"too many workers": {func(c *apply.Config) { c.Settings.Workers = 1000 }, "apply.workers"},
		"no broker":        {func(c *apply.Config) { c.Dead.Enabled, c.Kafka.Brokers = true, nil }, "kafka"},
	} {
		cfg := apply.Config{DC: here}
		cfg.MySQL.Addr, cfg.MySQL.User = "127.0.0.1:1", "apply"
		c.change(&cfg)
		if _, err := apply.New(cfg, depsOf(t)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error is %v", name, err)
		}
	}
}
