package writeset

import (
	"strings"

	"github.com/tandem-dc/tandem/shared/event"
	"github.com/tandem-dc/tandem/shared/tableinfo"
)

// Plan yields the keys of rows of one table. It is immutable and safe for
// concurrent use.
type Plan struct {
	indexes []index
	keyed   bool // an index identifies every row
	table   Key  // of every row otherwise
}

type index struct {
	id      uint64
	foreign bool
	row     bool // identifies the row
	parts   []part
}

type part struct {
	column int // into the row's values; -1: not there
	fold   fold
	prefix int
}

// NewPlan prepares the keys of rows that have these columns. info may be nil.
func NewPlan(info *tableinfo.Table, columns []event.Column) *Plan {
	p := &Plan{table: Key{Wild: true}}
	if info == nil {
		return p
	}
	p.table = TableKey(info.DB, info.Name)
	at := make(map[string]int, len(columns))
	for i := range columns {
		at[strings.ToLower(columns[i].Name)] = i
	}
	add := func(id uint64, names []string, prefix []int, foreign, row bool) {
		x := index{id: id, foreign: foreign, row: row, parts: make([]part, len(names))}
		for i, name := range names {
			x.parts[i] = part{column: -1}
			if c, ok := at[strings.ToLower(name)]; ok && name != "" {
				x.parts[i] = part{column: c, fold: foldOf(&columns[c], info)}
			}
			if prefix != nil {
				x.parts[i].prefix = prefix[i]
			}
		}
		p.indexes = append(p.indexes, x)
	}
	for i := range info.Unique {
		u := &info.Unique[i]
		row := !p.keyed && info.Identifies(u)
		p.keyed = p.keyed || row
		add(indexID(info.DB, info.Name, u.Columns), u.Columns, u.Prefix, false, row)
	}
	for i := range info.ForeignKeys {
		f := &info.ForeignKeys[i]
		add(indexID(f.RefDB, f.RefTable, f.RefColumns), f.Columns, nil, true, false)
	}
	return p
}

// ForTable returns the plan of a table of which nothing but its name is known,
// or whose rows must all stay in order: every row gives its TableKey.
func ForTable(db, name string) *Plan { return &Plan{table: TableKey(db, name)} }

// Append appends the keys that row touches to dst.
func (p *Plan) Append(dst []Key, row *event.Row) []Key {
	for i := range p.indexes {
		dst = p.indexes[i].append(dst, row)
	}
	if !p.keyed {
		dst = append(dst, p.table)
	}
	return dst
}

func (x *index) append(dst []Key, row *event.Row) []Key {
	mode := Claim
	if x.foreign {
		mode = Refer
	}
	switch {
	case row.Before == nil:
		return x.image(dst, row.After, mode)
	case row.After == nil:
		return x.image(dst, row.Before, mode)
	}
	switch x.change(row) {
	case changed:
		return x.image(x.image(dst, row.Before, mode), row.After, mode)
	case same:
		// An unchanged secondary key or reference orders nothing that the
		// row's own key does not.
		if x.row {
			return x.image(dst, row.Before, Touch)
		}
	}
	return dst
}

type change int

const (
	same change = iota
	changed
)

// change tells whether an update may move the key. A column that the after
// image lacks was not changed.
func (x *index) change(row *event.Row) change {
	for _, p := range x.parts {
		if p.column < 0 || p.column >= len(row.After) || p.column >= len(row.Before) {
			return changed
		}
		after := row.After[p.column]
		if after.Kind != event.Absent && !after.Equal(row.Before[p.column]) {
			return changed
		}
	}
	return same
}

// image appends the key of one image: none if a part is NULL, a wild one if a
// part is not known well enough.
func (x *index) image(dst []Key, image []event.Value, mode Mode) []Key {
	h, wild := newHash().number(x.id), false
	var buf [64]byte
	for _, p := range x.parts {
		if p.column < 0 || p.column >= len(image) || image[p.column].Kind == event.Absent {
			wild = true
			continue
		}
		v := image[p.column]
		switch v.Kind {
		case event.Null:
			return dst
		case event.Zero:
			h = h.byte(2)
			continue
		}
		b, ok := p.fold.apply(buf[:0], v.Data, p.prefix)
		if !ok {
			wild = true
			continue
		}
		h = h.byte(1).bytes(b)
	}
	k := Key{Index: x.id, Wild: wild, Mode: mode}
	if !wild {
		k.Hash = h.sum()
	}
	return append(dst, k)
}
