package writeset

import (
	"fmt"
	"testing"

	"pgregory.net/rapid"

	"github.com/tandem-dc/tandem/shared/event"
	"github.com/tandem-dc/tandem/shared/tableinfo"
)

// model is the history without any cleverness: all keys of all transactions.
type model struct {
	keys    map[uint64][]Key
	barrier uint64
}

// needs returns the newest earlier transaction that keys conflict with.
func (m *model) needs(seq uint64, keys []Key) (newest uint64) {
	for other, theirs := range m.keys {
		for _, a := range keys {
			for _, b := range theirs {
				if other < seq && a.Conflicts(b) {
					newest = max(newest, other)
				}
			}
		}
	}
	return max(newest, m.barrier)
}

func genKey() *rapid.Generator[Key] {
	return rapid.Custom(func(t *rapid.T) Key {
		k := Key{Index: rapid.Uint64Range(1, 4).Draw(t, "index"), Mode: Mode(rapid.IntRange(0, int(modes)-1).Draw(t, "mode"))}
		k.Wild = rapid.IntRange(0, 9).Draw(t, "wild") == 0
		if !k.Wild {
			k.Hash = k.Index<<32 | rapid.Uint64Range(0, 12).Draw(t, "hash")
		}
		return k
	})
}

// The history never lets a transaction run too early, whatever it has forgotten; and
// while it has forgotten nothing it is exact.
func TestHistoryAgainstModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		start := rapid.Uint64Range(0, 5).Draw(t, "start")
		limit := rapid.SampledFrom([]int{2, 7, 20, 100_000}).Draw(t, "limit")
		h, m := NewHistory(start, limit), &model{keys: map[uint64][]Key{}, barrier: start}
		for seq := start + 1; seq < start+60; seq++ {
			if rapid.IntRange(0, 29).Draw(t, "kind") == 0 {
				if got := h.Barrier(seq); got != seq-1 {
					t.Fatalf("barrier %d waits for %d", seq, got)
				}
				m.barrier = seq
				continue
			}
			keys := rapid.SliceOfN(genKey(), 0, 4).Draw(t, "keys")
			got, want := h.Assign(seq, keys), m.needs(seq, keys)
			if got < want || got >= seq {
				t.Fatalf("transaction %d waits for %d, conflicts with %d", seq, got, want)
			}
			if limit == 100_000 && got != want {
				t.Fatalf("transaction %d waits for %d, but conflicts with %d only", seq, got, want)
			}
			m.keys[seq] = keys
		}
	})
}

func TestHistoryForgetsWithoutStanding(t *testing.T) {
	h := NewHistory(0, 1000)
	var worst uint64
	for seq := uint64(1); seq <= 100_000; seq++ {
		got := h.Assign(seq, []Key{{Index: 1, Hash: seq}})
		if seq > 1000 {
			worst = max(worst, got+250-min(seq, got+250))
		}
	}
	if worst > 0 {
		t.Errorf("a transaction waits for one only %d before it", 250-worst)
	}
	if n := len(h.old.keys) + len(h.young.keys); n > 1000 {
		t.Errorf("%d keys are remembered", n)
	}
	if got := h.Assign(100_001, make([]Key, 501)); got != 100_000 {
		t.Errorf("a transaction with too many keys waits for %d", got)
	}
}

func column(name string, typ event.Type) event.Column { return event.Column{Name: name, Type: typ} }

func table(collation string) (*tableinfo.Table, []event.Column) {
	return &tableinfo.Table{DB: "d", Name: "t",
		Columns: []tableinfo.Column{{Name: "id"}, {Name: "u", Collation: collation}, {Name: "p"}},
		Unique: []tableinfo.Index{
			{Name: "PRIMARY", Primary: true, Columns: []string{"id"}, Prefix: []int{0}},
			{Name: "u", Columns: []string{"u"}, Prefix: []int{0}},
		},
		ForeignKeys: []tableinfo.ForeignKey{{Columns: []string{"p"}, RefDB: "d", RefTable: "parent", RefColumns: []string{"ID"}}},
	}, []event.Column{column("id", event.Int), column("U", event.VarChar), column("p", event.Int)}
}

func image(values ...string) []event.Value {
	var out []event.Value
	for _, v := range values {
		switch v {
		case "NULL":
			out = append(out, event.Value{Kind: event.Null})
		case "?":
			out = append(out, event.Value{})
		default:
			out = append(out, event.Of(v))
		}
	}
	return out
}

func dependent(a, b []Key) bool {
	for _, x := range a {
		for _, y := range b {
			if x.Conflicts(y) {
				if !y.Conflicts(x) {
					panic("conflict in one direction only")
				}
				return true
			}
		}
	}
	return false
}

func TestWhichRowsDepend(t *testing.T) {
	info, columns := table("utf8mb4_0900_ai_ci")
	plan := NewPlan(info, columns)
	c := func(v ...string) event.Row { return event.Row{Op: event.Insert, After: image(v...)} }
	d := func(v ...string) event.Row { return event.Row{Op: event.Delete, Before: image(v...)} }
	u := func(before []event.Value, after ...string) event.Row {
		return event.Row{Op: event.Update, Before: before, After: image(after...)}
	}
	parentInfo := &tableinfo.Table{DB: "d", Name: "parent", Columns: []tableinfo.Column{{Name: "id"}, {Name: "v"}},
		Unique: []tableinfo.Index{{Name: "PRIMARY", Primary: true, Columns: []string{"id"}, Prefix: []int{0}}}}
	parent := NewPlan(parentInfo, []event.Column{column("id", event.Int), column("v", event.Int)})
	for name, x := range map[string]struct {
		plan *Plan // of b
		a, b event.Row
		want bool
	}{
		"different rows":                        {plan, c("1", "a", "NULL"), c("2", "b", "NULL"), false},
		"same primary key":                      {plan, d("1", "a", "NULL"), c("1", "b", "NULL"), true},
		"same unique value":                     {plan, d("1", "a", "NULL"), c("2", "a", "NULL"), true},
		"unique values equal by case":           {plan, d("1", "Ab", "NULL"), c("2", "aB ", "NULL"), true},
		"unique value that cannot be folded":    {plan, d("1", "a", "NULL"), c("2", "é", "NULL"), true},
		"NULLs are never equal":                 {plan, d("1", "NULL", "NULL"), c("2", "NULL", "NULL"), false},
		"unique value freed by an update":       {plan, u(image("1", "a", "NULL"), "1", "b", "NULL"), c("2", "a", "NULL"), true},
		"unique value taken by an update":       {plan, u(image("1", "a", "NULL"), "1", "b", "NULL"), d("2", "b", "NULL"), true},
		"updates of one row":                    {plan, u(image("1", "a", "NULL"), "1", "b", "NULL"), u(image("1", "b", "NULL"), "1", "c", "NULL"), true},
		"updates of two rows":                   {plan, u(image("1", "a", "NULL"), "1", "a", "5"), u(image("2", "b", "NULL"), "2", "b", "5"), false},
		"key swap":                              {plan, u(image("3", "a", "NULL"), "4", "a", "NULL"), u(image("2", "b", "NULL"), "3", "b", "NULL"), true},
		"children of one parent":                {plan, c("1", "a", "7"), c("2", "b", "7"), false},
		"child and its new parent":              {parent, c("1", "a", "7"), c("7", "0"), true},
		"child and another parent":              {parent, c("1", "a", "7"), c("8", "0"), false},
		"child gone and its parent gone":        {parent, d("1", "a", "7"), d("7", "0"), true},
		"child and an update of its parent":     {parent, c("1", "a", "7"), u(image("7", "0"), "7", "1"), false},
		"child and its parent's change of key":  {parent, c("1", "a", "7"), u(image("6", "0"), "7", "0"), true},
		"minimal update, same row":              {plan, u(image("1", "?", "?"), "?", "?", "5"), d("1", "a", "NULL"), true},
		"minimal update, unique untouched":      {plan, u(image("1", "?", "?"), "?", "?", "5"), c("2", "a", "NULL"), false},
		"minimal update may have freed a value": {plan, u(image("1", "?", "?"), "?", "b", "?"), c("2", "a", "NULL"), true},
		"minimal delete may have freed a value": {plan, d("1", "?", "?"), c("2", "a", "NULL"), true},
	} {
		a, b := plan.Append(nil, &x.a), x.plan.Append(nil, &x.b)
		if got := dependent(a, b); got != x.want {
			t.Errorf("%s: dependent is %v\n%+v\n%+v", name, got, a, b)
		}
	}
}

func TestTablesThatNoIndexIdentifies(t *testing.T) {
	info := &tableinfo.Table{DB: "d", Name: "t", Columns: []tableinfo.Column{{Name: "a", Nullable: true}},
		Unique: []tableinfo.Index{{Name: "a", Columns: []string{"a"}, Prefix: []int{0}}}}
	columns := []event.Column{column("a", event.Int)}
	one, two := event.Row{Op: event.Insert, After: image("NULL")}, event.Row{Op: event.Delete, Before: image("5")}
	if !dependent(Append(nil, info, columns, &one), Append(nil, info, columns, &two)) {
		t.Error("rows of a table without a key do not depend on each other")
	}
	if got := ForTable("d", "t").Append(nil, &one); len(got) != 1 || !got[0].Conflicts(TableKey("d", "t")) || got[0].Conflicts(TableKey("d", "u")) {
		t.Errorf("key of an unknown table is %+v", got)
	}
	if got := Append(nil, nil, columns, &one); len(got) != 1 || !got[0].Wild {
		t.Errorf("key without any knowledge is %+v", got)
	}
}

func TestNumbersAndPrefixes(t *testing.T) {
	for _, x := range []struct {
		f      fold
		prefix int
		a, b   string
		equal  bool
	}{
		{number, 0, "-0", "0", true}, {number, 0, "-0.00", "0.00", true}, {number, 0, "-1", "1", false}, {exact, 0, "a", "a ", false},
		{padded, 0, "a", "a  ", true}, {padded, 0, "a", "A", false}, {asciiCase, 0, "a", "A  ", true}, {asciiCase, 0, "a", " a", false},
		{asciiCase, 2, "abc", "ABd", true}, {padded, 2, "abc", "abd", true}, {exact, 2, "abc", "abd", true}, {asciiCase, 2, "abc", "aXc", false},
	} {
		a, ok1 := x.f.apply(nil, []byte(x.a), x.prefix)
		b, ok2 := x.f.apply(nil, []byte(x.b), x.prefix)
		if !ok1 || !ok2 || (string(a) == string(b)) != x.equal {
			t.Errorf("%+v folds to %q, %q", x, a, b)
		}
	}
	for _, x := range []struct {
		f      fold
		prefix int
		v      string
	}{{asciiCase, 0, "é"}, {asciiCase, 0, "a\x00"}, {padded, 2, "é"}, {unknown, 0, "a"}} {
		if _, ok := x.f.apply(nil, []byte(x.v), x.prefix); ok {
			t.Errorf("%+v is folded", x)
		}
	}
}

func BenchmarkAppendAndAssign(b *testing.B) {
	info, columns := table("utf8mb4_0900_ai_ci")
	plan, h := NewPlan(info, columns), NewHistory(0, 0)
	var keys []Key
	seq := uint64(0)
	for b.Loop() {
		seq++
		row := event.Row{Op: event.Insert, After: image(fmt.Sprint(seq), "user"+fmt.Sprint(seq), "5")}
		keys = plan.Append(keys[:0], &row)
		h.Assign(seq, keys)
	}
}
