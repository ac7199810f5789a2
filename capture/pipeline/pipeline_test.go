package pipeline_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/tandem-dc/tandem/capture/binlog"
	"github.com/tandem-dc/tandem/capture/checkpoint"
	"github.com/tandem-dc/tandem/capture/pipeline"
	"github.com/tandem-dc/tandem/shared/event"
	"github.com/tandem-dc/tandem/shared/kafkace"
)

// checkStream compares the topic with what the script committed.
func checkStream(w *world, topic string) {
	w.t.Helper()
	want := w.script.ids()
	got, beats := w.events(topic, 4)
	if len(got) != len(want) {
		w.t.Errorf("%d transactions in the topic, %d were committed", len(got), len(want))
	}
	for i, id := range want {
		m, ok := got[uint64(i+1)]
		if !ok || m.ID != id {
			w.t.Fatalf("sequence %d is %q, want %q", i+1, m.ID, id)
		}
		if m.LastCommitted >= m.Sequence {
			w.t.Fatalf("sequence %d depends on %d", m.Sequence, m.LastCommitted)
		}
	}
	for _, b := range beats {
		if b.Sequence > uint64(len(want)) || b.Time.IsZero() {
			w.t.Fatalf("heartbeat %+v", b)
		}
	}
}

func TestStreamArrivesInOrderOfNumbers(t *testing.T) {
	w := newWorld(t)
	w.script.commit(500)
	p, stop := w.start(w.config())
	w.script.commit(500)
	w.until("all acknowledged", func() bool { return p.Status().Acked == 1000 })
	w.until("a heartbeat behind the last", func() bool {
		_, beats := w.events("binlog-a", 4)
		return len(beats) > 0 && beats[len(beats)-1].Sequence == 1000
	})
	if err := p.Ready(t.Context()); err != nil {
		t.Errorf("Ready: %v", err)
	}
	stop()
	checkStream(w, "binlog-a")
	got, _ := w.events("binlog-a", 4)
	m := got[1]
	if m.Source != "/tandem/a/mysql/1" || m.Type != event.TypeTransaction || m.Subject != "shop" || m.Origin != "a" || m.PartitionKey == "" {
		t.Errorf("attributes: %+v", m)
	}
	cp := w.checkpoint()
	if end := w.script.end(); cp.Position != end || cp.Sequence != 1000 {
		t.Errorf("after an orderly stop the checkpoint is %+v, want sequence 1000 at %+v", cp, end)
	}
}

func (w *world) checkpoint() checkpoint.Checkpoint {
	w.t.Helper()
	store, err := checkpoint.New(w.cli, "a", "b")
	if err != nil {
		w.t.Fatal(err)
	}
	cp, ok, err := store.Load(w.t.Context())
	if err != nil || !ok {
		w.t.Fatalf("checkpoint: %v %v", ok, err)
	}
	return cp
}

// Killed 100 times at random points under load: what is in the log is what was
// committed, and a number always means the same transaction.
func TestKilledAtRandomPoints(t *testing.T) {
	w := newWorld(t)
	cfg := w.config()
	cfg.Drain = 0
	for range 100 {
		w.script.commit(20)
		p, stop := w.start(cfg)
		w.until("it leads", func() bool { return p.Status().State == pipeline.Running })
		pauseRandomly(5 * time.Millisecond)
		stop()
	}
	w.script.commit(20)
	cfg.Drain = 10 * time.Second
	p, stop := w.start(cfg)
	want := uint64(len(w.script.ids()))
	w.until("all acknowledged", func() bool { return p.Status().Acked == want })
	stop()
	checkStream(w, "binlog-a")
}

func pauseRandomly(most time.Duration) { <-time.After(rand.N(most)) }

func TestReaderFailuresAreRetried(t *testing.T) {
	w := newWorld(t)
	w.script.edit(func(s *script) { s.flaky = true })
	p, stop := w.start(w.config())
	failed := func() (n int) {
		w.script.edit(func(s *script) { n = s.failed })
		return n
	}
	w.until("many failures", func() bool {
		w.script.commit(20)
		return failed() >= 10
	})
	w.script.edit(func(s *script) { s.flaky = false })
	want := uint64(len(w.script.ids()))
	w.until("all acknowledged", func() bool { return p.Status().Acked == want })
	stop()
	checkStream(w, "binlog-a")
}

func TestBrokerRestartsUnderLoad(t *testing.T) {
	w := newWorld(t)
	p, stop := w.start(w.config())
	for range 5 {
		w.script.commit(100)
		if err := w.kafka.Kill(); err != nil {
			t.Fatal(err)
		}
		w.until("not ready without a broker", func() bool { return p.Ready(t.Context()) != nil })
		w.script.commit(100)
		if err := w.kafka.Restart(t.Context()); err != nil {
			t.Fatal(err)
		}
		w.until("ready again", func() bool { return p.Ready(t.Context()) == nil && p.Status().State == pipeline.Running })
	}
	w.until("all acknowledged", func() bool { return p.Status().Acked == 1000 })
	stop()
	checkStream(w, "binlog-a")
}

func TestStandbyTakesOver(t *testing.T) {
	w := newWorld(t)
	first, stopFirst := w.start(w.config())
	w.script.commit(100)
	w.until("the first leads", func() bool { return first.Status().Acked == 100 })
	second, stopSecond := w.start(w.config())
	if s := second.Status().State; s != pipeline.Standby {
		t.Errorf("the second is %s", s)
	}
	if err := second.Ready(t.Context()); err != nil {
		t.Errorf("a standby is not ready: %v", err)
	}
	stopFirst()
	w.script.commit(100)
	w.until("the second goes on", func() bool { return second.Status().Acked == 200 })
	stopSecond()
	checkStream(w, "binlog-a")
}

func TestBlockedUntilRepaired(t *testing.T) {
	w := newWorld(t)
	refusal := &pipeline.RefusedError{Problem: "log_bin is off", Remedy: "switch it on"}
	w.script.edit(func(s *script) { s.openErr = refusal })
	w.script.commit(10)
	p, stop := w.start(w.config())
	w.until("blocked", func() bool { return p.Status().State == pipeline.Blocked })
	w.until("not ready, with the reason", func() bool {
		err := p.Ready(t.Context())
		return errors.Is(err, refusal) && strings.Contains(err.Error(), "switch it on")
	})
	if s := p.Status(); !strings.Contains(s.Reason, "log_bin is off") {
		t.Errorf("status: %+v", s)
	}
	w.script.edit(func(s *script) { s.openErr = nil })
	w.until("all acknowledged", func() bool { return p.Status().Acked == 10 })
	stop()
	checkStream(w, "binlog-a")
}

func TestPurgedBinlogBlocks(t *testing.T) {
	w := newWorld(t)
	w.script.commit(10)
	w.script.edit(func(s *script) { s.purged = 5 })
	p, stop := w.start(w.config())
	w.until("blocked", func() bool { return p.Status().State == pipeline.Blocked })
	stop()
	if got, _ := w.events("binlog-a", 4); len(got) != 0 {
		t.Errorf("%d transactions were sent from beyond the gap", len(got))
	}
}

// An event that the broker refuses stops the stream before it, and the stream
// goes on once the broker takes it.
func TestOversizeEventStopsTheStreamThere(t *testing.T) {
	w := newWorld(t)
	w.script.commit(10)
	w.script.edit(func(s *script) {
		last := s.items[len(s.items)-1].Txn
		last.Payload.Rows[0].After[0] = event.Of(strings.Repeat("x", 2<<20))
	})
	w.script.commit(10)
	p, stop := w.start(w.config())
	w.until("blocked with the event's id and the remedy", func() bool {
		s := p.Status()
		return s.State == pipeline.Blocked && strings.Contains(s.Reason, w.script.ids()[9]) && strings.Contains(s.Reason, "max.message.bytes")
	})
	if got := p.Status().Acked; got > 9 {
		t.Errorf("acknowledged up to %d", got)
	}
	if cp := w.checkpoint(); cp.Sequence > 9 {
		t.Errorf("the checkpoint went past the event: %+v", cp)
	}
	w.script.edit(func(s *script) {
		for i := range s.items {
			if txn := s.items[i].Txn; txn != nil {
				small := *txn
				small.Payload.Rows = []event.Row{{Op: event.Insert, After: []event.Value{event.Of("1")}}}
				s.items[i].Txn = &small
			}
		}
	})
	w.until("all acknowledged", func() bool { return p.Status().Acked == 20 })
	stop()
	checkStream(w, "binlog-a")
}

func TestCorruptCheckpointBlocks(t *testing.T) {
	w := newWorld(t)
	if _, err := w.cli.Put(t.Context(), checkpoint.Key("a", "b"), `{"version":1`); err != nil {
		t.Fatal(err)
	}
	w.script.commit(10)
	p, stop := w.start(w.config())
	w.until("blocked with a remedy", func() bool { return strings.Contains(p.Status().Reason, "etcdctl del") })
	stop()
	if s := w.checkpointText(); s != `{"version":1` {
		t.Errorf("the value was overwritten with %s", s)
	}
}

func (w *world) checkpointText() string {
	res, err := w.cli.Get(context.Background(), checkpoint.Key("a", "b"))
	if err != nil || len(res.Kvs) != 1 {
		w.t.Fatalf("%v %v", res, err)
	}
	return string(res.Kvs[0].Value)
}

func TestCheckpointFollowsWhatIsNotSent(t *testing.T) {
	w := newWorld(t)
	w.script.commit(3)
	p, stop := w.start(w.config())
	w.until("all acknowledged", func() bool { return p.Status().Acked == 3 })
	w.script.edit(func(s *script) {
		for range 5 {
			s.items = append(s.items, s.items[0])
			s.items[len(s.items)-1].Txn = nil
			s.items[len(s.items)-1].Position = position(len(s.items))
			s.items[len(s.items)-1].Skipped = binlog.Replicated
		}
	})
	w.until("the checkpoint passes them", func() bool { return w.checkpoint().Position == w.script.end() })
	if cp := w.checkpoint(); cp.Sequence != 3 {
		t.Errorf("sequence %d", cp.Sequence)
	}
	stop()
}

// An orderly stop waits for what is in flight and keeps it in the checkpoint, so
// that its successor repeats nothing.
func TestOrderlyStopRepeatsNothing(t *testing.T) {
	w := newWorld(t)
	for range 20 {
		p, stop := w.start(w.config())
		w.until("it leads", func() bool { return p.Status().State == pipeline.Running })
		w.script.commit(50)
		pauseRandomly(3 * time.Millisecond)
		stop()
	}
	p, stop := w.start(w.config())
	w.until("all acknowledged", func() bool { return p.Status().Acked == 1000 })
	stop()
	checkStream(w, "binlog-a")
	sent := 0
	for _, msg := range readTopic(t, w.kafka.Bootstrap(), "binlog-a", 4) {
		if m, err := kafkace.FromMessage(&msg); err != nil || m.Type == event.TypeTransaction {
			sent++
		}
	}
	if sent != 1000 {
		t.Errorf("%d events for 1000 transactions", sent)
	}
}

// Without etcd nobody can know who leads: the stream stops, and goes on after.
func TestEtcdOutageStopsTheStream(t *testing.T) {
	w := newWorld(t)
	p, stop := w.start(w.config())
	w.script.commit(100)
	w.until("all acknowledged", func() bool { return p.Status().Acked == 100 })
	if err := w.etcd.Stop(); err != nil {
		t.Fatal(err)
	}
	w.script.commit(100)
	w.until("the lease is lost", func() bool { return p.Status().State == pipeline.Standby })
	if err := w.etcd.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.until("all acknowledged", func() bool { return p.Status().Acked == 200 })
	stop()
	checkStream(w, "binlog-a")
}
