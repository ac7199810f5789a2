package binlog

import (
	"fmt"
	"slices"
	"strings"

	"github.com/tandem-dc/tandem/shared/ledger"
)

// systemDatabases are the server's own and tandem's.
var systemDatabases = map[string]bool{
	"mysql": true, "sys": true, "information_schema": true, "performance_schema": true, "ndbinfo": true, ledger.Database: true,
}

// filter chooses what is replicated.
type filter struct{ include, exclude []pattern }

// pattern is "db" or "db.table"; * stands for any characters.
type pattern struct{ db, table string }

func newFilter(include, exclude []string) (filter, error) {
	var f filter
	for _, list := range []struct {
		from []string
		to   *[]pattern
	}{{include, &f.include}, {exclude, &f.exclude}} {
		for _, s := range list.from {
			db, table, qualified := strings.Cut(s, ".")
			if db == "" || qualified && table == "" {
				return f, fmt.Errorf("%q is neither db nor db.table", s)
			}
			if !qualified {
				table = "*"
			}
			*list.to = append(*list.to, pattern{db, table})
		}
	}
	return f, nil
}

// table reports whether rows of a table are replicated.
func (f *filter) table(db, name string) bool {
	if systemDatabases[strings.ToLower(db)] {
		return false
	}
	for _, p := range f.exclude {
		if p.matches(db, name) {
			return false
		}
	}
	for _, p := range f.include {
		if p.matches(db, name) {
			return true
		}
	}
	return len(f.include) == 0
}

// database reports whether statements on a database as a whole are replicated:
// whenever some of its tables may be.
func (f *filter) database(db string) bool {
	if systemDatabases[strings.ToLower(db)] {
		return false
	}
	for _, p := range f.exclude {
		if p.table == "*" && glob(p.db, db) {
			return false
		}
	}
	for _, p := range f.include {
		if glob(p.db, db) {
			return true
		}
	}
	return len(f.include) == 0
}

func (p pattern) matches(db, table string) bool { return glob(p.db, db) && glob(p.table, table) }

// glob matches s with a pattern in which * stands for any characters.
func glob(pattern, s string) bool {
	first, rest, star := strings.Cut(pattern, "*")
	if !star {
		return s == pattern
	}
	if !strings.HasPrefix(s, first) {
		return false
	}
	s = s[len(first):]
	for i := 0; i <= len(s); i++ {
		if glob(rest, s[i:]) {
			return true
		}
	}
	return false
}

// Rules names what the configuration lets through: equal names, equal choice.
// Everything is "".
func (c *Config) Rules() string {
	var parts []string
	for _, l := range []struct {
		name string
		list []string
	}{{"include", c.Include}, {"exclude", c.Exclude}} {
		if len(l.list) > 0 {
			sorted := slices.Compact(slices.Sorted(slices.Values(l.list)))
			parts = append(parts, l.name+" "+strings.Join(sorted, ","))
		}
	}
	return strings.Join(parts, "; ")
}
