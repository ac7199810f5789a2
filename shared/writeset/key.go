// Package writeset answers which transactions must stay in order: the keys that
// a row change touches, and the history of keys that yields the newest earlier
// transaction it depends on.
//
// The package is pure and errs on one side only: two changes that the server
// would find to touch the same key always share one here; changes that are
// independent may, rarely, be taken for dependent.
package writeset

import (
	"github.com/tandem-dc/tandem/shared/event"
	"github.com/tandem-dc/tandem/shared/tableinfo"
)

// Key is one value of one unique index that a row change touches. Two changes
// depend on each other's order if a key of one Conflicts with a key of the
// other. Keys are the same in every process.
type Key struct {
	Hash  uint64 // of Index and the values; 0 when Wild
	Index uint64 // hash of table and columns of the index
	Wild  bool   // may equal any value of Index
	Mode  Mode
}

// Mode is what a change does to the key.
type Mode uint8

const (
	// Claim takes or frees the value: an insert, a delete, a change of the key.
	// It conflicts with everything.
	Claim Mode = iota
	// Touch changes the row and leaves its key. It conflicts with Claim and Touch.
	Touch
	// Refer needs the value to exist: a foreign key. It conflicts with Claim only,
	// so that children of one parent do not wait for each other.
	Refer
	modes
)

// conflicting[a] lists the modes that a conflicts with.
var conflicting = [modes][]Mode{Claim: {Claim, Touch, Refer}, Touch: {Claim, Touch}, Refer: {Claim}}

// Conflicts reports whether two changes that touch k and o depend on their order.
func (k Key) Conflicts(o Key) bool {
	if k.Index != o.Index || !k.Wild && !o.Wild && k.Hash != o.Hash || k.Mode >= modes {
		return false
	}
	for _, m := range conflicting[k.Mode] {
		if m == o.Mode {
			return true
		}
	}
	return false
}

// Append appends the keys that row touches to dst: of the primary key and of
// every unique index, before and after the change, and the parents' keys that its
// foreign keys name. A NULL in a unique index or a foreign key gives no key. Rows of
// a table without a unique index over columns that are never NULL also give
// the table's wild key, so they all stay in order.
//
// columns are those of the row's values; a column of info that they lack makes
// its indexes wild. A nil info gives one wild key that all unknown tables
// share; see ForTable. For many rows of one table use a Plan.
func Append(dst []Key, info *tableinfo.Table, columns []event.Column, row *event.Row) []Key {
	return NewPlan(info, columns).Append(dst, row)
}

// TableKey is the wild key for a whole table: of tables whose rows no index identifies.
func TableKey(db, name string) Key {
	return Key{Index: indexID(db, name, nil), Wild: true}
}

func indexID(db, name string, columns []string) uint64 {
	h := newHash().text(db).text(name)
	for _, c := range columns {
		h = h.fold(c)
	}
	return h.sum()
}

// hash is FNV-1a with a final mix. Parts are length-prefixed, so that ("ab","c") and ("a","bc") differ.
type hash uint64

func newHash() hash { return 14695981039346656037 }

func (h hash) byte(b byte) hash { return (h ^ hash(b)) * 1099511628211 }

func (h hash) number(n uint64) hash {
	for range 8 {
		h = h.byte(byte(n))
		n >>= 8
	}
	return h
}

func (h hash) bytes(b []byte) hash {
	for _, c := range b {
		h = h.byte(c)
	}
	return h.number(uint64(len(b)))
}

func (h hash) text(s string) hash {
	for i := range len(s) {
		h = h.byte(s[i])
	}
	return h.number(uint64(len(s)))
}

// fold adds s with ASCII letters in lower case: column names compare that way.
func (h hash) fold(s string) hash {
	for i := range len(s) {
		h = h.byte(lower(s[i]))
	}
	return h.number(uint64(len(s)))
}

func (h hash) sum() uint64 {
	x := uint64(h)
	x ^= x >> 33
	x *= 0xff51afd7ed558ccd
	x ^= x >> 33
	x *= 0xc4ceb9fe1a85ec53
	return x ^ x>>33
}

func lower(c byte) byte {
	if c >= 'A' && c <= 'Z' {
		return c + 'a' - 'A'
	}
	return c
}
