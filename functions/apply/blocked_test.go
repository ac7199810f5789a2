package apply

import (
	"testing"

	"github.com/tandem-dc/tandem/shared/writeset"
)

// A letter that is parked while the keys of open ones are being read must not be
// forgotten: the query may have begun before its commit.
func TestBlockedKeepsWhatIsParkedDuringALoad(t *testing.T) {
	t.Parallel()
	b := newBlocked()
	old := writeset.Key{Index: 1, Hash: 1}
	parked := writeset.Key{Index: 2, Hash: 2}
	b.add(1, []writeset.Key{old})

	b.begin()
	b.add(2, []writeset.Key{parked})
	read := newBlocked() // as the database was before: letter 1 closed, letter 2 not yet there
	b.end(read)

	if got := b.find([]writeset.Key{parked}); len(got) != 1 || got[0] != 2 {
		t.Errorf("letter 2 was parked during the load; found %v", got)
	}
	if got := b.find([]writeset.Key{old}); len(got) != 0 {
		t.Errorf("letter 1 was closed before the load; found %v", got)
	}

	b.begin()
	b.end(nil) // a load that failed changes nothing
	if !b.any() {
		t.Error("a failed load forgot letter 2")
	}
}
