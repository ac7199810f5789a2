package config

import (
	"errors"
	"fmt"
	"strings"
)

// Error is one mistake in a configuration. Validate methods return it, several
// by errors.Join.
type Error struct {
	Key     string // the setting, as mysql.addr
	Problem string // what is wrong, and where the value came from
	Remedy  string // what to do
}

// Error gives all on one line.
func (e *Error) Error() string {
	text := e.Problem
	if e.Key != "" {
		text = e.Key + ": " + text
	}
	if e.Remedy != "" {
		text += "; " + e.Remedy
	}
	return text
}

// Within puts the key of a group before the keys of errors that the group's own
// Validate returned, joined ones each. Errors without a key get the group's.
// Within of nil is nil.
func Within(group string, err error) error {
	if err == nil || group == "" {
		return err
	}
	if many, ok := err.(interface{ Unwrap() []error }); ok { //nolint:errorlint // only a bare join is taken apart
		var errs []error
		for _, e := range many.Unwrap() {
			errs = append(errs, Within(group, e))
		}
		return errors.Join(errs...)
	}
	if e, ok := err.(*Error); ok { //nolint:errorlint // a wrapped one keeps its wrapping
		return &Error{join(group, e.Key), e.Problem, e.Remedy}
	}
	return fmt.Errorf("%s: %w", group, err)
}

// origin is where a value was written.
type origin struct {
	file string // path of the YAML file
	line int    // in file; 0: unknown
	env  string // name of the variable
	flag string // with its dashes
}

func (o origin) String() string {
	switch {
	case o.flag != "":
		return "flag " + o.flag
	case o.env != "":
		return "environment " + o.env
	case o.line > 0:
		return fmt.Sprintf("%s:%d", o.file, o.line)
	case o.file != "":
		return o.file
	}
	return "default"
}

// problem prefixes a text with its origin.
func (o origin) problem(text string) string { return o.String() + ": " + text }

// nearest returns the candidate that given was likely meant to be; "" if none
// is like it. A key without its group is like the key.
func nearest(given string, candidates []string) string {
	g := simple(given)
	best, score := "", len(g)/3+2
	for _, c := range candidates {
		n := simple(c)
		d := distance(g, n)
		if strings.HasSuffix(n, "."+g) {
			d = min(d, 1)
		}
		if i := strings.LastIndexByte(c, '.'); i >= 0 {
			d = min(d, 1+distance(g, simple(c[i+1:])))
		}
		if d < score {
			best, score = c, d
		}
	}
	return best
}

// simple makes names of keys, variables and flags alike.
func simple(name string) string {
	name = strings.TrimPrefix(strings.TrimPrefix(name, envPrefix), "--")
	return strings.NewReplacer("_", ".", "-", ".").Replace(strings.ToLower(name))
}

// suggest is the remedy for an unknown name.
func suggest(given string, candidates []string) string {
	if c := nearest(given, candidates); c != "" {
		return "did you mean " + c + "?"
	}
	return "see --help for those there are"
}

// distance counts the insertions, removals, replacements and swaps of
// neighbours that turn a into b. Names longer than a key can be are not alike.
func distance(a, b string) int {
	const longest = 128
	if len(a) > longest || len(b) > longest {
		return longest
	}
	var before, last, row [longest + 1]int
	for j := range len(b) + 1 {
		last[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			row[j] = min(last[j]+1, row[j-1]+1, last[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
		before, last = last, row
	}
	return last[len(b)]
}
