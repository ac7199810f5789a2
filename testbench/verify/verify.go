// Package verify answers whether two servers hold the same rows.
//
// It reads both sides in key order and merges the streams, so memory is bounded
// by one row of each side. Values are compared as bytes: character data
// unconverted, floats with all their digits, ENUM's error value apart from an
// empty label. It shares no code with capture and apply, whose work it judges.
package verify

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
)

// Side is one of the two servers. The account needs SELECT on what is compared.
type Side struct {
	Name string // in reports
	DB   *sql.DB
}

// Options say what is compared.
type Options struct {
	Databases      []string // defaults to all but the servers' own and tandem's
	Fast           bool     // tables with equal checksums count as equal without a look at each row
	MaxDifferences int      // described in the result, per table; all are counted; defaults to 20
}

// Kind tells how two sides differ.
type Kind string

// The kinds of a difference.
const (
	Missing   Kind = "missing"   // b lacks a row that a has
	Extra     Kind = "extra"     // b has a row that a lacks
	Different Kind = "different" // both have the row, with other values
	Structure Kind = "structure" // the tables themselves differ
)

// Difference describes one.
type Difference struct {
	Kind    Kind
	Key     string   // "id=7", of a row
	Columns []string // "name: 0x61 / 0x62", of a Different row
	Detail  string   // of a Structure difference
}

func (d Difference) String() string {
	s := string(d.Kind)
	if d.Key != "" {
		s += " row " + d.Key
	}
	if d.Detail != "" {
		s += ": " + d.Detail
	}
	if len(d.Columns) > 0 {
		s += ": " + strings.Join(d.Columns, ", ")
	}
	return s
}

// Table is the outcome for one table.
type Table struct {
	Name        string // "db.table"
	Rows        int64  // distinct rows looked at on either side
	Checksummed bool   // equal by checksum
	Counts      map[Kind]int64
	Differences []Difference
}

// Equal reports whether the table is the same on both sides.
func (t *Table) Equal() bool { return len(t.Counts) == 0 }

// Result is the outcome of Compare.
type Result struct {
	A, B   string // names of the sides
	Tables []Table
}

// Equal reports whether everything is the same on both sides. A result without
// tables is not equal: nothing was compared.
func (r *Result) Equal() bool {
	for i := range r.Tables {
		if !r.Tables[i].Equal() {
			return false
		}
	}
	return len(r.Tables) > 0
}

// Rows returns how many rows were looked at.
func (r *Result) Rows() (n int64) {
	for i := range r.Tables {
		n += r.Tables[i].Rows
	}
	return n
}

// Count returns the number of differences of a kind.
func (r *Result) Count(k Kind) (n int64) {
	for i := range r.Tables {
		n += r.Tables[i].Counts[k]
	}
	return n
}

// Write prints the differences, or that there are none.
func (r *Result) Write(w io.Writer) {
	for i := range r.Tables {
		t := &r.Tables[i]
		if t.Equal() {
			continue
		}
		fmt.Fprintf(w, "%s: %s to %s: %d missing, %d extra, %d different, %d in structure\n",
			t.Name, r.A, r.B, t.Counts[Missing], t.Counts[Extra], t.Counts[Different], t.Counts[Structure])
		for _, d := range t.Differences {
			fmt.Fprintf(w, "  %s\n", d)
		}
	}
	if r.Equal() {
		fmt.Fprintf(w, "%s and %s are equal: %d tables, %d rows\n", r.A, r.B, len(r.Tables), r.Rows())
	}
}

// Compare compares a with b. Writers should be at rest: each side is read in one
// snapshot, but the two are not taken at the same moment. The error tells why the
// comparison could not be finished; differences are no error.
func Compare(ctx context.Context, a, b Side, o Options) (*Result, error) {
	o.MaxDifferences = cmp.Or(o.MaxDifferences, 20)
	ra, err := open(ctx, a)
	if err != nil {
		return nil, err
	}
	defer ra.close()
	rb, err := open(ctx, b)
	if err != nil {
		return nil, err
	}
	defer rb.close()
	ta, err := ra.tables(ctx, o.Databases)
	if err != nil {
		return nil, err
	}
	tb, err := rb.tables(ctx, o.Databases)
	if err != nil {
		return nil, err
	}
	res := &Result{A: a.Name, B: b.Name}
	for _, name := range union(ta, tb) {
		t := Table{Name: name.String(), Counts: map[Kind]int64{}}
		c := comparison{a: ra, b: rb, o: o, out: &t}
		if err := c.table(ctx, ta[name], tb[name]); err != nil {
			return nil, fmt.Errorf("compare %s: %w", name, err)
		}
		res.Tables = append(res.Tables, t)
	}
	return res, nil
}

func union(a, b map[tableName]*table) []tableName {
	var names []tableName
	for n := range a {
		names = append(names, n)
	}
	for n := range b {
		if a[n] == nil {
			names = append(names, n)
		}
	}
	slices.SortFunc(names, func(x, y tableName) int { return cmp.Compare(x.String(), y.String()) })
	return names
}

// comparison is the work on one table.
type comparison struct {
	a, b *reader
	o    Options
	out  *Table
}

func (c *comparison) add(d Difference) {
	c.out.Counts[d.Kind]++
	if len(c.out.Differences) < c.o.MaxDifferences {
		c.out.Differences = append(c.out.Differences, d)
	}
}

func (c *comparison) table(ctx context.Context, a, b *table) error {
	comparable := c.structure(a, b)
	if !comparable {
		return nil
	}
	if c.o.Fast {
		equal, rows, err := c.checksum(ctx, a, b)
		if err != nil || equal {
			c.out.Rows, c.out.Checksummed = rows, equal
			return err
		}
	}
	return c.rows(ctx, a, b)
}

func (c *comparison) checksum(ctx context.Context, a, b *table) (equal bool, rows int64, err error) {
	sa, na, err := c.a.checksum(ctx, a)
	if err != nil {
		return false, 0, err
	}
	sb, nb, err := c.b.checksum(ctx, b)
	return sa == sb && na == nb, na, err
}

// rows merges the two sides in the order of the key.
func (c *comparison) rows(ctx context.Context, a, b *table) (err error) {
	sa, err := c.a.stream(ctx, a, a)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, sa.close()) }()
	sb, err := c.b.stream(ctx, b, a)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, sb.close()) }()
	okA, okB := sa.next(), sb.next()
	for okA || okB {
		order := 0
		switch {
		case !okB:
			order = -1
		case !okA:
			order = 1
		default:
			order = a.compareKeys(sa.row, sb.row)
		}
		c.out.Rows++
		switch {
		case order < 0:
			c.add(Difference{Kind: Missing, Key: a.keyText(sa.row)})
			okA = sa.next()
		case order > 0:
			c.add(Difference{Kind: Extra, Key: a.keyText(sb.row)})
			okB = sb.next()
		default:
			if columns := a.differing(sa.row, sb.row); columns != nil {
				c.add(Difference{Kind: Different, Key: a.keyText(sa.row), Columns: columns})
			}
			okA, okB = sa.next(), sb.next()
		}
	}
	return errors.Join(sa.err, sb.err)
}
