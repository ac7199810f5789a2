package apply_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	ce "github.com/cloudevents/sdk-go/v2/event"

	"github.com/tandem-dc/tandem/functions/apply"
	"github.com/tandem-dc/tandem/shared/event"
	"github.com/tandem-dc/tandem/shared/fnhost"
	"github.com/tandem-dc/tandem/shared/ledger"
)

const (
	counterDDL     = "CREATE TABLE counter (id INT PRIMARY KEY, n INT NOT NULL)"
	counterColumns = "id int,n int"
)

// counters is a history on rows that count up: each transaction raises one row
// and adds a row to a log table; it depends on the row's transaction before.
func counters(w *world, n, rows int) []ce.Event {
	counter, log := w.table("counter", counterColumns), w.table("log", "seq bigint,id int")
	value := make([]int, rows)
	newest := make([]uint64, rows)
	var events []ce.Event
	for seq := uint64(1); seq <= uint64(n); seq++ {
		r := rand.IntN(rows)
		if newest[r] == 0 {
			r = int(seq-1) % rows
		}
		id, was := strconv.Itoa(r), strconv.Itoa(value[r])
		value[r]++
		is := strconv.Itoa(value[r])
		c := update(counter, row(id, was), row(id, is))
		if newest[r] == 0 {
			c = insert(counter, id, is)
		}
		events = append(events, w.txn(seq, newest[r], c, insert(log, strconv.FormatUint(seq, 10), id)))
		newest[r] = seq
	}
	return events
}

func (w *world) makeCounters() {
	w.exec(counterDDL)
	w.exec("CREATE TABLE log (seq BIGINT PRIMARY KEY, id INT NOT NULL)")
}

// checkCounters tells whether all of n transactions are in, each once.
func (w *world) checkCounters(n int) {
	w.t.Helper()
	w.want(strconv.Itoa(n)+"|"+strconv.Itoa(n), "SELECT (SELECT COUNT(*) FROM log), (SELECT SUM(n) FROM counter)")
	w.want("", "SELECT c.id FROM counter c WHERE n <> (SELECT COUNT(*) FROM log WHERE log.id = c.id)")
	w.want("0", "SELECT COUNT(*) FROM tandem.conflict_log WHERE origin = ?", w.origin)
	w.want("0", "SELECT COUNT(*) FROM tandem.dead_letter WHERE origin = ?", w.origin)
	if low := w.low(); low != uint64(n) {
		w.t.Errorf("low-water mark is %d of %d", low, n)
	}
}

// deliver sends events over several senders in random order, each until it is taken.
func deliver(w *world, events []ce.Event, senders int, to func() *instance) {
	queue := make(chan ce.Event, len(events))
	for _, i := range rand.Perm(len(events)) {
		queue <- events[i]
	}
	close(queue)
	var wg sync.WaitGroup
	for range senders {
		wg.Go(func() {
			for e := range queue {
				until(w.t, "event "+e.ID()+" taken", func() bool { return to().send(e) == http.StatusOK })
			}
		})
	}
	wg.Wait()
}

func TestAnyOrderAndTwice(t *testing.T) {
	eachWorld(t, func(t *testing.T, w *world) {
		w.makeCounters()
		i := w.start()
		events := counters(w, 300, 7)
		deliver(w, append(events, events...), 64, func() *instance { return i })
		w.untilQuery("0", "SELECT COUNT(*) FROM tandem.pending WHERE origin = ?", w.origin)
		until(t, "all applied", func() bool { return w.low() == 300 })
		w.checkCounters(300)
	})
}

// A stream longer than the ring, so that slots are used again.
func TestMoreThanTheRing(t *testing.T) {
	eachWorld(t, func(t *testing.T, w *world) {
		w.makeCounters()
		i := w.start()
		const n = ledger.RingSize + 300
		events := counters(w, n, 500)
		for at := 0; at < n; at += 200 {
			deliver(w, events[at:min(at+200, n)], 64, func() *instance { return i })
		}
		until(t, "all applied", func() bool { return w.low() == n })
		deliver(w, events, 64, func() *instance { return i })
		w.checkCounters(n)
	})
}

func TestWaitingEventIsStoredAndAppliedByItsPredecessor(t *testing.T) {
	eachWorld(t, func(t *testing.T, w *world) {
		w.exec(counterDDL)
		c := w.table("counter", counterColumns)
		i := w.start()
		if code := i.send(w.txn(3, 2, update(c, row("1", "2"), row("1", "3")))); code != http.StatusOK {
			t.Fatalf("answered %d", code)
		}
		if code := i.send(w.txn(2, 1, update(c, row("1", "1"), row("1", "2")))); code != http.StatusOK {
			t.Fatalf("answered %d", code)
		}
		w.want("2|1\n3|2", "SELECT seq, last_committed FROM tandem.pending WHERE origin = ? ORDER BY seq", w.origin)
		w.want("0", "SELECT COUNT(*) FROM counter")
		i.must(w.txn(1, 0, insert(c, "1", "1")))
		w.untilQuery("3", "SELECT n FROM counter")
		w.untilQuery("0", "SELECT COUNT(*) FROM tandem.pending WHERE origin = ?", w.origin)
	})
}

func TestStoredEventsSurviveARestart(t *testing.T) {
	eachWorld(t, func(t *testing.T, w *world) {
		w.exec(counterDDL)
		c := w.table("counter", counterColumns)
		i := w.start()
		i.must(w.txn(2, 1, update(c, row("1", "1"), row("1", "2"))))
		far := uint64(ledger.RingSize + 5) // beyond what the ring has room for
		i.must(w.txn(far, far-1, update(c, row("1", "2"), row("1", "3"))))
		w.want("2", "SELECT COUNT(*) FROM tandem.pending WHERE origin = ?", w.origin)
		i.kill()
		<-i.done
		i = w.start()
		i.must(w.txn(1, 0, insert(c, "1", "1")))
		w.untilQuery("2", "SELECT n FROM counter")
		for seq := uint64(3); seq < far; seq += 512 {
			var wg sync.WaitGroup
			for s := seq; s < min(seq+512, far); s++ {
				wg.Go(func() { i.must(w.txn(s, 0)) })
			}
			wg.Wait()
		}
		w.untilQuery("3", "SELECT n FROM counter")
		until(t, "all applied", func() bool { return w.low() == far })
		w.untilQuery("0", "SELECT COUNT(*) FROM tandem.pending WHERE origin = ?", w.origin)
	})
}

// A killed instance loses nothing and repeats nothing: its workers and its
// callers are cut off at a random moment, and another starts.
func TestKill(t *testing.T) {
	kills := 100 // on each server
	if testing.Short() {
		kills = 10
	}
	eachWorld(t, func(t *testing.T, w *world) {
		w.makeCounters()
		const perRound = 25
		n := kills * perRound
		events := counters(w, n, 23)
		for k := range kills {
			i := w.start()
			ctx, cancel := context.WithCancel(t.Context())
			var wg sync.WaitGroup
			left := make(chan ce.Event, 4*perRound)
			for _, e := range events[k*perRound : (k+1)*perRound] {
				left <- e
				if k > 0 && rand.IntN(3) == 0 { // an old one again
					left <- events[rand.IntN(k*perRound)]
				}
			}
			close(left)
			for range 12 {
				wg.Go(func() {
					for e := range left {
						for ctx.Err() == nil && i.Handle(ctx, e) != nil {
						}
					}
				})
			}
			timer := time.NewTimer(time.Duration(rand.IntN(40_000)) * time.Microsecond)
			<-timer.C
			i.stop()
			cancel()
			wg.Wait()
			if rand.IntN(2) == 0 { // the sender's offset was committed late: all once more, to the end
				continue
			}
			i = w.start()
			deliver(w, events[k*perRound:(k+1)*perRound], 12, func() *instance { return i })
			i.stop()
		}
		i := w.start()
		for at := 0; at < n; at += 500 {
			deliver(w, events[at:min(at+500, n)], 64, func() *instance { return i })
		}
		until(t, "all applied", func() bool { return w.low() == uint64(n) })
		w.checkCounters(n)
	})
}

func TestTwoInstancesOnOneStream(t *testing.T) {
	eachWorld(t, func(t *testing.T, w *world) {
		w.makeCounters()
		two := []*instance{w.start(), w.start()}
		events := counters(w, 600, 11)
		deliver(w, append(events, events[:200]...), 48, func() *instance { return two[rand.IntN(2)] })
		until(t, "all applied", func() bool { return w.low() == 600 })
		w.checkCounters(600)
	})
}

// What one instance parks blocks the other's later events on the same keys.
func TestParkedByAnotherInstance(t *testing.T) {
	eachWorld(t, func(t *testing.T, w *world) {
		w.exec("CREATE TABLE counter (id INT PRIMARY KEY, n TINYINT NOT NULL)")
		c := w.table("counter", counterColumns)
		a, b := w.start(), w.start()
		b.must(w.txn(1, 0, insert(c, "1", "1")))
		a.must(w.txn(2, 1, update(c, row("1", "1"), row("1", "1000"))))
		b.must(w.txn(3, 2, update(c, row("1", "1000"), row("1", "2"))), w.txn(4, 0, insert(c, "2", "2")))
		until(t, "all done", func() bool { return w.low() == 4 })
		w.want("1|1\n2|2", "SELECT id, n FROM counter ORDER BY id")
		w.want("2|poison\n3|blocked", "SELECT seq, kind FROM tandem.dead_letter WHERE origin = ? ORDER BY seq", w.origin)
	})
}

func TestLargerEpochSupersedes(t *testing.T) {
	eachWorld(t, func(t *testing.T, w *world) {
		w.exec(counterDDL)
		c := w.table("counter", counterColumns)
		i := w.start()
		i.must(w.txn(1, 0, insert(c, "1", "1")), w.txn(3, 2, insert(c, "3", "3"))) // 3 is stored
		next := func(seq uint64, ch change) ce.Event {
			m := w.meta(seq, seq-1)
			m.Epoch = 2
			return w.event(m, payload("uuid:x", ch))
		}
		i.must(next(1, insert(c, "11", "1")))
		i.must(w.txn(2, 0, insert(c, "2", "2"))) // too late: dropped
		i.must(next(2, insert(c, "12", "1")))
		w.want("1\n11\n12", "SELECT id FROM counter ORDER BY id")
		w.untilQuery("0", "SELECT COUNT(*) FROM tandem.pending WHERE origin = ?", w.origin)
		if s, err := ledger.Read(t.Context(), w.db, w.origin); err != nil || s.Epoch != 2 || s.Low != 2 {
			t.Errorf("ledger says %+v, %v", s, err)
		}
		// Another instance starts from there.
		j := w.start()
		j.must(w.txn(4, 0, insert(c, "4", "4")), next(3, insert(c, "13", "1")))
		w.want("1\n11\n12\n13", "SELECT id FROM counter ORDER BY id")
	})
}

// An event of this datacenter that comes back is dropped.
func TestOwnEventsAreDropped(t *testing.T) {
	eachWorld(t, func(t *testing.T, w *world) {
		w.exec(counterDDL)
		i := w.start()
		m := w.meta(1, 0)
		m.Origin = here
		i.must(w.event(m, payload("x", insert(w.table("counter", counterColumns), "1", "1"))))
		w.want("0", "SELECT COUNT(*) FROM counter")
	})
}

func TestTooManyWaitingEventsAreTurnedAway(t *testing.T) {
	eachWorld(t, func(t *testing.T, w *world) {
		w.exec(counterDDL)
		c := w.table("counter", counterColumns)
		i := w.start(func(c *apply.Config) { c.Settings.MaxWaiting, c.Settings.Wait = 3, 20*time.Second })
		codes := make(chan int, 10)
		for seq := uint64(2); seq < 7; seq++ {
			go func() { codes <- i.send(w.txn(seq, seq-1, insert(c, strconv.FormatUint(seq, 10), "1"))) }()
		}
		for range 2 {
			if code := <-codes; code != http.StatusTooManyRequests {
				t.Errorf("answered %d", code)
			}
		}
		// What does not wait is taken even so.
		go func() { codes <- i.send(w.txn(1, 0, insert(c, "1", "1"))) }()
		if code := <-codes; code != http.StatusOK {
			t.Errorf("answered %d", code)
		}
		i.kill()
		<-i.done
		for range 3 {
			<-codes
		}
	})
}

// Callers that go away leave nothing behind.
func TestCallerThatGoesAway(t *testing.T) {
	eachWorld(t, func(t *testing.T, w *world) {
		w.exec(counterDDL)
		c := w.table("counter", counterColumns)
		i := w.start(func(c *apply.Config) { c.Settings.Wait = time.Minute })
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- i.Handle(ctx, w.txn(2, 1, insert(c, "2", "1"))) }()
		until(t, "it waits", func() bool {
			s := i.Status().Streams
			return len(s) > 0 && s[len(s)-1].Waiting == 1
		})
		cancel()
		if code := fnhost.Status(<-done); code != http.StatusServiceUnavailable {
			t.Errorf("answered %d", code)
		}
		for _, s := range i.Status().Streams {
			if s.Origin == w.origin && s.Waiting != 0 {
				t.Errorf("%d still wait", s.Waiting)
			}
		}
		go func() { done <- i.Handle(t.Context(), w.txn(2, 1, insert(c, "2", "1"))) }()
		i.must(w.txn(1, 0, insert(c, "1", "1")))
		if err := <-done; err != nil {
			t.Error(err)
		}
		w.want("1\n2", "SELECT id FROM counter ORDER BY id")
	})
}

func TestHeartbeat(t *testing.T) {
	eachWorld(t, func(t *testing.T, w *world) {
		w.exec(counterDDL)
		i := w.start()
		i.must(w.txn(1, 0, insert(w.table("counter", counterColumns), "1", "1")))
		beat := func(seq uint64, at time.Time) ce.Event {
			m := w.meta(seq, 0)
			m.Type, m.Time, m.ID, m.LastCommitted = event.TypeHeartbeat, at, fmt.Sprint("beat:", at.UnixMicro()), 0
			return w.event(m, []byte("{}"))
		}
		i.must(beat(4, commit.Add(time.Second)), beat(3, commit))
		w.want(fmt.Sprint("1|4|", commit.Add(time.Second).UnixMicro()), "SELECT epoch, seq, heartbeat_us FROM tandem.stream WHERE origin = ?", w.origin)
		for _, s := range i.Status().Streams {
			if s.Origin != w.origin {
				continue
			}
			if s.Low != 1 || s.Newest != 4 || s.Gaps != 3 || !s.Heartbeat.Equal(commit.Add(time.Second)) || s.Lag.Count != 1 {
				t.Errorf("status is %+v", s)
			}
		}
		families, err := i.reg.Gather()
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, f := range families {
			names = append(names, f.GetName())
		}
		for _, name := range []string{"tandem_apply_lag_seconds", "tandem_apply_transactions_total", "tandem_apply_gaps", "tandem_apply_pending", "tandem_apply_waiting"} {
			if !strings.Contains(strings.Join(names, " "), name) {
				t.Errorf("no metric %s", name)
			}
		}
	})
}
