package apply_test

import (
	"net/http"
	"strconv"
	"strings"
	"testing"

	"github.com/tandem-dc/tandem/functions/apply"
	"github.com/tandem-dc/tandem/shared/event"
)

// Whatever cannot be applied is parked with a reason that says what to do, and
// the rest of the stream goes on.
func TestPoison(t *testing.T) {
	eachWorld(t, func(t *testing.T, w *world) {
		w.exec("CREATE TABLE t (id INT PRIMARY KEY, s VARCHAR(3), n TINYINT, u INT, j JSON, UNIQUE KEY u (u))")
		w.exec("CREATE TABLE nokey (id INT)")
		w.exec("CREATE TABLE otherkey (a INT NOT NULL, b INT PRIMARY KEY)")
		w.exec("INSERT INTO t (id, u) VALUES (100, 7), (101, 8)")
		tab := w.table("t", "id int,s varchar,n int,u int,j json")
		i := w.start()
		cases := []struct {
			name   string
			c      change
			reason string
		}{
			{"unknown table", insert(w.table("nowhere", "id int"), "1"), "does not exist"},
			{"no key", insert(w.table("nokey", "id int"), "1"), "no primary key"},
			{"key is not in the event", insert(w.table("otherkey", "a int"), "1"), "key column b"},
			{"text too long", insert(tab, "1", "long", "1", "1", "{}"), "'s'"},
			{"number too large", insert(tab, "2", "a", "300", "1", "{}"), "'n'"},
			{"no number", insert(w.table("t", "id int,n int"), "3", "many"), "no value of type int"},
			{"text for a number", insert(w.table("t", "id int,n varchar"), "4", "many"), "n"},
			{"broken JSON", insert(tab, "5", "a", "1", "1", "{"), "j"},
			{"unknown column", insert(w.table("t", "id int,extra int"), "6", "1"), "no column extra"},
			{"other unique key, insert", insert(tab, "7", "a", "1", "7", "{}"), "unique value"},
			{"other unique key, update", update(tab, row("101", "NULL", "NULL", "8", "NULL"), row("101", "NULL", "NULL", "7", "NULL")), "unique value"},
			{"key missing in the image", remove(tab, "ABSENT", "a", "1", "1", "{}"), "binlog_row_image"},
		}
		for k, c := range cases {
			i.must(w.txn(uint64(k+1), uint64(k), c.c))
			reason := w.query("SELECT CONCAT(kind, '|', state, '|', reason) FROM tandem.dead_letter WHERE origin = ? AND seq = ?", w.origin, k+1)
			if !strings.HasPrefix(reason, "poison|open|") || !strings.Contains(reason, c.reason) {
				t.Errorf("%s: parked with %q, want %q", c.name, reason, c.reason)
			}
			w.exec("UPDATE tandem.dead_letter SET state = 'skipped' WHERE origin = ?", w.origin)
		}
		n := uint64(len(cases))
		// NULL for a column that is not here loses nothing, nor does a value that stays.
		more := w.table("t", "id int,s varchar,extra int")
		i.must(w.txn(n+1, n, insert(more, "50", "a", "NULL")), w.txn(n+2, n+1, update(more, row("50", "a", "9"), row("50", "b", "9"))))
		w.want("50|b\n100|NULL\n101|NULL", "SELECT id, s FROM t ORDER BY id")
		if low := w.low(); low != n+2 {
			t.Errorf("low-water mark is %d, want %d", low, n+2)
		}
		until(t, "all published", func() bool { return len(w.sent.of(w.origin)) == len(cases) })
		for _, m := range w.sent.of(w.origin) {
			if m.Reason == "" || m.ID != "uuid:"+strconv.FormatUint(m.Sequence, 10) {
				t.Errorf("published as %+v", m)
			}
		}
	})
}

// Later transactions on a dead letter's keys must not overtake it; others go on, and
// so do those once it is settled.
func TestKeysOfADeadLetterAreBlocked(t *testing.T) {
	eachWorld(t, func(t *testing.T, w *world) {
		w.exec("CREATE TABLE t (id INT PRIMARY KEY, n TINYINT, u INT, UNIQUE KEY u (u))")
		tab := w.table("t", "id int,n int,u int")
		i := w.start()
		i.must(
			w.txn(1, 0, insert(tab, "1", "1", "1"), insert(tab, "2", "1", "2")),
			w.txn(2, 1, update(tab, row("1", "1", "1"), row("1", "1000", "1")), update(tab, row("2", "1", "2"), row("2", "2", "20"))), // poison
			w.txn(3, 2, update(tab, row("1", "1000", "1"), row("1", "3", "1"))),                                                       // same row
			w.txn(4, 2, insert(tab, "3", "1", "2")),                                                                                   // a unique value that 2 frees
			w.txn(5, 1, insert(tab, "4", "1", "4")),                                                                                   // free
			w.txn(6, 4, remove(tab, "3", "1", "2")),                                                                                   // behind 4
		)
		w.want("1|1|1\n2|1|2\n4|1|4", "SELECT id, n, u FROM t ORDER BY id")
		w.want("2|poison\n3|blocked\n4|blocked\n6|blocked", "SELECT seq, kind FROM tandem.dead_letter WHERE origin = ? ORDER BY seq", w.origin)
		first := w.query("SELECT id FROM tandem.dead_letter WHERE origin = ? AND seq = 2", w.origin)
		w.want("1", "SELECT COUNT(*) FROM tandem.dead_letter WHERE origin = ? AND seq = 3 AND reason LIKE CONCAT('%dead letter ', ?, ',%')", w.origin, first)
		w.exec("UPDATE tandem.dead_letter SET state = 'skipped' WHERE origin = ?", w.origin)
		i.must(w.txn(7, 6, update(tab, row("1", "1", "1"), row("1", "7", "1"))))
		w.want("7", "SELECT n FROM t WHERE id = 1")
	})
}

// A restart forgets no open dead letter.
func TestBlockedKeysSurviveARestart(t *testing.T) {
	eachWorld(t, func(t *testing.T, w *world) {
		w.exec("CREATE TABLE t (id INT PRIMARY KEY, n TINYINT)")
		tab := w.table("t", "id int,n int")
		i := w.start()
		i.must(w.txn(1, 0, insert(tab, "1", "1000")))
		i.kill()
		<-i.done
		w.start().must(w.txn(2, 1, update(tab, row("1", "1000"), row("1", "1"))), w.txn(3, 1, insert(tab, "2", "1")))
		w.want("2", "SELECT id FROM t")
		w.want("1|poison\n2|blocked", "SELECT seq, kind FROM tandem.dead_letter WHERE origin = ? ORDER BY seq", w.origin)
	})
}

// One bad transaction does not take those with it that are in its group.
func TestPoisonInAGroup(t *testing.T) {
	eachWorld(t, func(t *testing.T, w *world) {
		w.exec("CREATE TABLE t (id INT PRIMARY KEY, n TINYINT)")
		tab := w.table("t", "id int,n int")
		i := w.start(func(c *apply.Config) { c.Settings.Workers = 1 })
		const n = 90
		codes := make(chan int, n)
		for seq := uint64(2); seq <= n; seq++ { // all become ready at once
			value := "1"
			if seq%10 == 0 {
				value = "1000"
			}
			go func() { codes <- i.send(w.txn(seq, 1, insert(tab, strconv.FormatUint(seq, 10), value))) }()
		}
		i.must(w.txn(1, 0, insert(tab, "1", "1")))
		for range n - 1 {
			if code := <-codes; code != http.StatusOK {
				t.Errorf("answered %d", code)
			}
		}
		until(t, "all done", func() bool { return w.low() == n })
		w.want("81", "SELECT COUNT(*) FROM t")
		w.want("9", "SELECT COUNT(*) FROM tandem.dead_letter WHERE origin = ?", w.origin)
	})
}

func TestStatementsAreHeld(t *testing.T) {
	eachWorld(t, func(t *testing.T, w *world) {
		w.exec(counterDDL)
		i := w.start()
		statement := func(seq uint64, ddl bool, sql string) []byte {
			x := event.Transaction{GTID: "uuid:" + strconv.FormatUint(seq, 10), Statement: &event.Statement{DB: w.name, SQL: sql, DDL: ddl}}
			return x.AppendJSON(nil)
		}
		m := w.meta(1, 0)
		m.Type = event.TypeStatement
		i.must(w.event(m, statement(1, true, "ALTER TABLE counter ADD c INT")))
		m = w.meta(2, 1)
		m.Type = event.TypeStatement
		i.must(w.event(m, statement(2, false, "UPDATE counter SET n = RAND()")))
		i.must(w.txn(3, 2, insert(w.table("counter", counterColumns), "1", "1")))
		w.want("1|1", "SELECT * FROM counter")
		w.want("1|ddl-held|DDL is not replicated: run it on this side, then UPDATE tandem.dead_letter SET state = 'skipped' WHERE id = this one",
			"SELECT seq, kind, reason FROM tandem.dead_letter WHERE origin = ? AND seq = 1", w.origin)
		w.want("2|statement", "SELECT seq, kind FROM tandem.dead_letter WHERE origin = ? AND seq = 2", w.origin)
	})
}

func TestMalformedEvents(t *testing.T) {
	eachWorld(t, func(t *testing.T, w *world) {
		w.exec(counterDDL)
		i := w.start()
		// Without a place in a stream: refused, once the topic has it.
		e := w.txn(1, 0, insert(w.table("counter", counterColumns), "1", "1"))
		e.SetExtension("sequence", "many")
		w.sent.setBroken(true)
		if code := i.send(e); code != http.StatusServiceUnavailable {
			t.Errorf("answered %d while the topic cannot be reached", code)
		}
		w.sent.setBroken(false)
		if code := i.send(e); code != http.StatusUnprocessableEntity {
			t.Errorf("answered %d", code)
		}
		if got := w.sent.all(); len(got) != 1 || !strings.Contains(got[0].Reason, "sequence") || got[0].ID != "uuid:1" {
			t.Errorf("published %+v", got)
		}
		// With one: parked, because a gap would hold up all others.
		w.sent.setBroken(true)
		i.must(w.event(w.meta(1, 0), []byte(`{"schema":"tandem.transaction/9"}`)), w.txn(2, 1, insert(w.table("counter", counterColumns), "1", "1")))
		w.want("1", "SELECT COUNT(*) FROM tandem.dead_letter WHERE origin = ? AND kind = 'poison' AND reason LIKE '%upgrade the receiver%' AND payload LIKE '%transaction/9%'", w.origin)
		w.want("1|1", "SELECT * FROM counter")
		// A topic that was down gets it later.
		w.want("1", "SELECT COUNT(*) FROM tandem.dead_letter WHERE origin = ? AND published_at IS NULL", w.origin)
		w.sent.setBroken(false)
		until(t, "published", func() bool { return len(w.sent.of(w.origin)) == 2 })
		w.untilQuery("0", "SELECT COUNT(*) FROM tandem.dead_letter WHERE origin = ? AND published_at IS NULL", w.origin)
	})
}

// A table that came into being, or was widened, after an event failed on it is
// seen at once by the next.
func TestDefinitionsAreReadAgain(t *testing.T) {
	eachWorld(t, func(t *testing.T, w *world) {
		tab := w.table("t", "id int,s varchar")
		i := w.start()
		i.must(w.txn(1, 0, insert(tab, "1", "a")))
		w.exec("CREATE TABLE t (id INT PRIMARY KEY)")
		w.exec("UPDATE tandem.dead_letter SET state = 'skipped' WHERE origin = ?", w.origin)
		i.must(w.txn(2, 0, insert(w.table("t", "id int"), "2")))
		w.exec("ALTER TABLE t ADD s VARCHAR(9)")
		i.must(w.txn(3, 0, insert(tab, "3", "a")))
		w.exec("ALTER TABLE t DROP s")
		i.must(w.txn(4, 0, insert(w.table("t", "id int"), "4")))
		w.want("2\n3\n4", "SELECT * FROM t ORDER BY id")
	})
}
