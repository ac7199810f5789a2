package ledger

import (
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/tandem-dc/tandem/shared/event"
)

// The ring must tell exactly what was applied, whatever the order, as long as
// nothing runs further ahead than the ring is long.
func TestFoldAgainstASet(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		ring := make([]slot, RingSize)
		for i := range ring {
			ring[i].slot = uint32(i)
		}
		low := rapid.Uint64Range(0, 3*RingSize).Draw(t, "low")
		epoch := rapid.Uint64Range(1, 3).Draw(t, "epoch")
		put := func(seq uint64) { ring[Slot(seq)].epoch, ring[Slot(seq)].seq = epoch, seq }
		for seq := max(1, int(low)-RingSize+1); seq <= int(low); seq++ {
			put(uint64(seq))
		}
		want := map[uint64]bool{}
		for range rapid.IntRange(0, 50).Draw(t, "above") {
			seq := low + rapid.Uint64Range(1, RingSize).Draw(t, "offset")
			put(seq)
			want[seq] = true
		}
		if len(want) == 0 && low == 0 {
			ring[0].epoch = epoch // cleared for a new epoch
		}
		for want[low+1] {
			delete(want, low+1)
			low++
		}
		got := fold(ring)
		if got.Epoch != epoch || got.Low != low || len(got.Done) != len(want) || !slices.IsSorted(got.Done) {
			t.Fatalf("got %+v, want epoch %d low %d and %d above", got, epoch, low, len(want))
		}
		for _, seq := range got.Done {
			if !want[seq] {
				t.Fatalf("%d is said to be applied", seq)
			}
		}
	})
}

func TestFoldOfNothing(t *testing.T) {
	if s := fold(nil); s.Epoch != 0 || s.Low != 0 || s.Slots != 0 {
		t.Errorf("got %+v", s)
	}
	if s := fold(make([]slot, RingSize)); s.Epoch != 0 || s.Low != 0 || s.Done != nil {
		t.Errorf("got %+v", s)
	}
}

// Slots of an older epoch tell nothing about this one.
func TestFoldOfAnEpochThatBegins(t *testing.T) {
	ring := make([]slot, RingSize)
	for i := range ring {
		ring[i] = slot{slot: uint32(i), epoch: 1, seq: 9*RingSize + uint64(i)}
	}
	ring[2].epoch, ring[2].seq = 2, 2
	if s := fold(ring); s.Epoch != 2 || s.Low != 0 || !slices.Equal(s.Done, []uint64{2}) {
		t.Errorf("got %+v", s)
	}
	ring[1].epoch, ring[1].seq = 2, 1
	if s := fold(ring); s.Epoch != 2 || s.Low != 2 || len(s.Done) != 0 {
		t.Errorf("got %+v", s)
	}
}

func TestParseRow(t *testing.T) {
	image := func(values ...string) []event.Value {
		var v []event.Value
		for _, s := range values {
			v = append(v, event.Of(s))
		}
		return v
	}
	row, ok := ParseRow(image("beijing", "7", "3", "4103", "uuid:1", "1700000000000000"))
	if want := (Row{"beijing", 3, 4103, "uuid:1", 1700000000000000}); !ok || row != want {
		t.Errorf("got %+v %v, want %+v", row, ok, want)
	}
	if m := row.Mark(); m != (event.Mark{Origin: "beijing", Epoch: 3, Sequence: 4103}) {
		t.Errorf("mark is %+v", m)
	}
	for name, image := range map[string][]event.Value{
		"laid out":        image("beijing", "7", "0", "0", "", "0"),
		"cleared":         image("beijing", "7", "2", "0", "", "0"),
		"short":           image("beijing", "7", "2"),
		"no name":         image("Bei Jing", "7", "2", "7", "", "0"),
		"no number":       image("beijing", "7", "x", "7", "", "0"),
		"image not whole": {event.Of("beijing"), {}, {}, {}, {}, {}},
	} {
		if row, ok := ParseRow(image); ok {
			t.Errorf("%s: taken for %+v", name, row)
		}
	}
}

func TestScriptHoldsEveryTable(t *testing.T) {
	s := Script()
	for _, table := range []string{"ledger", "pending", "dead_letter", "dead_letter_key", "conflict_log", "stream", "schema_version"} {
		if !strings.Contains(s, "CREATE TABLE IF NOT EXISTS tandem."+table+" (") {
			t.Errorf("no table %s in the script", table)
		}
	}
	if strings.Contains(s, "\n--") {
		t.Error("comments are left in the statements")
	}
}
