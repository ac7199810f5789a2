package apply_test

import (
	"fmt"
	"strconv"
	"strings"
	"testing"

	"github.com/tandem-dc/tandem/functions/apply"
	"github.com/tandem-dc/tandem/shared/event"
)

const (
	older = "2024-05-01 11:00:00.000000"
	newer = "2024-05-01 13:00:00.000000"
)

// One clash at a time, with an origin that sorts before and one that sorts
// after this datacenter.
func TestClashes(t *testing.T) {
	type clash struct {
		name      string
		local     string // a row of (v, at), "" for none
		c         func(t *event.Table) change
		want      string // the row afterwards: v
		kind      string // in the conflict log, "" for none
		wantAfter string // with an origin that sorts after this datacenter, where that differs
	}
	at := func(local, s string) string { return local + "|" + s }
	cases := []clash{
		{name: "insert, older here", local: at("here", older), c: func(t *event.Table) change { return insert(t, "1", "event", newer) }, want: "event", kind: "insert_exists"},
		{name: "insert, newer here", local: at("here", newer), c: func(t *event.Table) change { return insert(t, "1", "event", older) }, want: "here", kind: "insert_exists"},
		{name: "insert, tie", local: at("here", newer), c: func(t *event.Table) change { return insert(t, "1", "event", newer) }, want: "here", wantAfter: "event", kind: "insert_exists"},
		{name: "insert, the same row", local: at("event", newer), c: func(t *event.Table) change { return insert(t, "1", "event", newer) }, want: "event"},
		{name: "update, older here", local: at("here", older), c: func(t *event.Table) change { return update(t, row("1", "was", older), row("1", "event", newer)) }, want: "event", kind: "update_differs"},
		{name: "update, newer here", local: at("here", newer), c: func(t *event.Table) change { return update(t, row("1", "was", older), row("1", "event", older)) }, want: "here", kind: "update_differs"},
		{name: "update, tie", local: at("here", newer), c: func(t *event.Table) change { return update(t, row("1", "was", older), row("1", "event", newer)) }, want: "here", wantAfter: "event", kind: "update_differs"},
		{name: "update, is there already", local: at("event", newer), c: func(t *event.Table) change { return update(t, row("1", "was", older), row("1", "event", newer)) }, want: "event"},
		{name: "update, differs in case only", local: at("WAS", older), c: func(t *event.Table) change { return update(t, row("1", "was", older), row("1", "event", newer)) }, want: "event", kind: "update_differs"},
		{name: "update, missing", c: func(t *event.Table) change { return update(t, row("1", "was", older), row("1", "event", newer)) }, want: "event", kind: "update_missing"},
		{name: "update, missing, image not full", c: func(t *event.Table) change { return update(t, row("1", "was", older), row("1", "ABSENT", newer)) }, want: "was", kind: "update_missing"},
		{name: "delete, older here", local: at("here", older), c: func(t *event.Table) change { return remove(t, "1", "was", older) }, want: "", kind: "delete_differs"},
		{name: "delete, newer here", local: at("here", newer), c: func(t *event.Table) change { return remove(t, "1", "was", older) }, want: "here", kind: "delete_differs"},
		{name: "delete, missing", c: func(t *event.Table) change { return remove(t, "1", "was", older) }, want: "", kind: "delete_missing"},
		{name: "key moves, old row differs and is newer", local: at("here", newer), c: func(t *event.Table) change { return update(t, row("1", "was", older), row("2", "event", older)) }, want: "event\nhere", kind: "delete_differs"},
		{name: "key moves, old row is gone", c: func(t *event.Table) change { return update(t, row("1", "was", older), row("2", "event", newer)) }, want: "event", kind: "delete_missing"},
	}
	eachWorld(t, func(t *testing.T, w *world) {
		w.exec("CREATE TABLE t (id INT PRIMARY KEY, v VARCHAR(20), at TIMESTAMP(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6) ON UPDATE CURRENT_TIMESTAMP(6))")
		tab := w.table("t", "id int,v varchar,at timestamp")
		i := w.start()
		for _, before := range []bool{true, false} {
			w.origin = strings.Replace(w.origin, "a-", map[bool]string{true: "a-", false: "z-"}[before], 1)
			seq := uint64(0)
			for _, c := range cases {
				seq++
				w.exec("DELETE FROM t")
				if v, at, ok := strings.Cut(c.local, "|"); ok {
					w.exec("INSERT INTO t VALUES (1, ?, ?)", v, at)
				}
				i.must(w.txn(seq, seq-1, c.c(tab)))
				want := c.want
				if !before && c.wantAfter != "" {
					want = c.wantAfter
				}
				if got := w.query("SELECT v FROM t ORDER BY v"); got != want {
					t.Errorf("%s, origin %s: row is %q, want %q", c.name, w.origin, got, want)
				}
				if got := w.query("SELECT kind FROM tandem.conflict_log WHERE origin = ? AND seq = ?", w.origin, seq); got != c.kind {
					t.Errorf("%s: logged as %q, want %q", c.name, got, c.kind)
				}
			}
			w.want("", "SELECT reason FROM tandem.dead_letter WHERE origin = ?", w.origin)
		}
		w.want(`{"id": "1"}|event: at is newer in the event|{"id": "1", "v": "here", "at": "`+older+`"}|{"id": "1", "v": "was", "at": "`+older+`"}|{"id": "1", "v": "event", "at": "`+newer+`"}|`+w.name+`|t|uuid:5`,
			"SELECT pk, decision, local_image, before_image, after_image, db, table_name, gtid FROM tandem.conflict_log WHERE origin = ? AND seq = 5", w.origin)
		families, err := i.reg.Gather()
		if err != nil {
			t.Fatal(err)
		}
		total := 0.0
		for _, f := range families {
			if f.GetName() == "tandem_conflicts_total" {
				for _, m := range f.GetMetric() {
					total += m.GetCounter().GetValue()
				}
			}
		}
		if want := w.query("SELECT COUNT(*) FROM tandem.conflict_log WHERE db = ?", w.name); fmt.Sprint(total) != want {
			t.Errorf("%v conflicts counted, %s logged", total, want)
		}
	})
}

// Without a column that tells the time, the datacenter whose name sorts last wins.
func TestClashesWithoutTime(t *testing.T) {
	eachWorld(t, func(t *testing.T, w *world) {
		w.exec("CREATE TABLE t (id INT PRIMARY KEY, v VARCHAR(20))")
		tab := w.table("t", "id int,v varchar")
		i := w.start()
		for _, before := range []bool{true, false} {
			want := "here"
			if !before {
				w.origin, want = "z"+w.origin[1:], "event"
			}
			w.exec("REPLACE INTO t VALUES (1, 'here')")
			i.must(w.txn(1, 0, update(tab, row("1", "was"), row("1", "event"))))
			w.want(want, "SELECT v FROM t")
		}
	})
}

// The two sides write the same row at once; each applies the other's event.
func TestBothSidesEndEqual(t *testing.T) {
	s := apply.NewestWins{}
	columns := []event.Column{{Name: "id", Type: event.Int}, {Name: "at", Type: event.Timestamp}}
	for _, times := range [][2]string{{older, newer}, {newer, older}, {newer, newer}} {
		for _, v := range []int{1, -1} {
			settle := func(dc, origin, local, remote string) apply.Winner {
				return s.Settle(&apply.Clash{
					Kind: apply.UpdateDiffers, Columns: columns, Version: v, DC: dc, Event: &event.Meta{Origin: origin},
					Local: row("1", local), Row: &event.Row{Op: event.Update, Before: row("1", older), After: row("1", remote)},
				}).Winner
			}
			atA, atB := settle("a", "b", times[0], times[1]), settle("b", "a", times[1], times[0])
			if (atA == apply.EventWins) == (atB == apply.EventWins) {
				t.Errorf("%v, version column %d: at a %s wins, at b %s", times, v, atA, atB)
			}
		}
	}
}

// Rows of one transaction that depend on their order.
func TestOrderInsideATransaction(t *testing.T) {
	eachWorld(t, func(t *testing.T, w *world) {
		w.exec("CREATE TABLE t (id INT PRIMARY KEY, u VARCHAR(9), UNIQUE KEY u (u))")
		tab := w.table("t", "id int,u varchar")
		i := w.start()
		i.must(
			w.txn(1, 0, insert(tab, "1", "a"), insert(tab, "2", "b"), insert(tab, "3", "c")),
			// Keys shift, as UPDATE t SET id = id + 1 ORDER BY id DESC logs it.
			w.txn(2, 1, update(tab, row("3", "c"), row("4", "c")), update(tab, row("2", "b"), row("3", "b")), update(tab, row("1", "a"), row("2", "a"))),
			// A swap by way of a third value, of the unique key and of the primary key.
			w.txn(3, 2, update(tab, row("2", "a"), row("2", "x")), update(tab, row("3", "b"), row("3", "a")), update(tab, row("2", "x"), row("2", "b"))),
			w.txn(4, 3, update(tab, row("2", "b"), row("-1", "b")), update(tab, row("3", "a"), row("2", "a")), update(tab, row("-1", "b"), row("3", "b"))),
			// One row comes, changes, goes and comes again.
			w.txn(5, 4, insert(tab, "9", "i"), update(tab, row("9", "i"), row("9", "j")), remove(tab, "9", "j"), insert(tab, "9", "k")),
			// What REPLACE logs on two unique keys.
			w.txn(6, 5, remove(tab, "4", "c"), update(tab, row("9", "k"), row("9", "c"))),
		)
		w.want("2|a\n3|b\n9|c", "SELECT * FROM t ORDER BY id")
		w.want("", "SELECT kind FROM tandem.conflict_log WHERE origin = ?", w.origin)
		w.want("", "SELECT reason FROM tandem.dead_letter WHERE origin = ?", w.origin)
	})
}

// Many rows go in few statements, and where one of them clashes, the others still go in.
func TestManyInserts(t *testing.T) {
	eachWorld(t, func(t *testing.T, w *world) {
		w.exec("CREATE TABLE t (id INT PRIMARY KEY, v VARCHAR(20))")
		w.exec("INSERT INTO t VALUES (77, 'here')")
		tab := w.table("t", "id int,v varchar")
		var changes []change
		for k := range 1000 {
			changes = append(changes, insert(tab, strconv.Itoa(k), "event"))
		}
		i := w.start()
		i.must(w.txn(1, 0, changes...))
		w.want("1000|here", "SELECT COUNT(*), MAX(v) FROM t")
		w.want("insert_exists", "SELECT kind FROM tandem.conflict_log WHERE origin = ?", w.origin)
	})
}
