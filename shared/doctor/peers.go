package doctor

import (
	"context"
	"database/sql"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

func peerChecks() []check {
	return []check{
		{"peer.auto-increment", Refuse, "no two datacenters draw the same number", autoIncrement},
		{"peer.table-names", Refuse, "", sameVariable("lower_case_table_names", Refuse,
			"A table's name would be found on one side and not on the other.", "lower_case_table_names can be set only when the data directory is made")},
		{"peer.max-allowed-packet", Warn, "", sameVariable("max_allowed_packet", Warn,
			"What one side accepts the other refuses.", "set max_allowed_packet to the larger value on both")},
		{"peer.columns", Refuse, "", sameColumns},
		{"peer.clock", Warn, "", peerClock},
	}
}

// autoIncrement compares the numbers that servers draw: offset, offset+increment, ...
func autoIncrement(ctx context.Context, x *exam) ([]Finding, error) {
	var uses []string
	for i := range x.tables {
		for _, c := range x.tables[i].columns {
			if strings.Contains(c.extra, "auto_increment") {
				uses = append(uses, x.tables[i].where())
			}
		}
	}
	if len(uses) == 0 {
		return nil, nil
	}
	increment, offset := drawn(x.vars)
	own := max(x.DC, 1)
	f := Finding{Severity: Refuse, Where: strings.Join(uses[:min(len(uses), 5)], ", "),
		Why:     "Both sides insert a row under the same number; one of them then overwrites the other.",
		Fix:     []string{fmt.Sprintf("SET GLOBAL auto_increment_increment=%d", x.DCs), fmt.Sprintf("SET GLOBAL auto_increment_offset=%d", own)},
		Setting: fmt.Sprintf("auto_increment_increment=%d, auto_increment_offset=%d", x.DCs, own)}
	if increment < x.DCs {
		f.What = fmt.Sprintf("auto_increment_increment is %d for %d datacenters", increment, x.DCs)
		return []Finding{f}, nil
	}
	if x.DC != 0 && offset%increment != x.DC%increment {
		f.Severity, f.What = Warn, fmt.Sprintf("auto_increment_offset is %d in datacenter %d", offset, x.DC)
		f.Why = "The numbers are its own only if no other datacenter has the same offset."
		return []Finding{f}, nil
	}
	var out []Finding
	for _, p := range x.Peers {
		vars, err := globals(ctx, p.DB)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", p.Name, err)
		}
		theirs, theirOffset := drawn(vars)
		if (offset-theirOffset)%gcd(increment, theirs) == 0 {
			g := f
			g.What = fmt.Sprintf("numbers overlap with %s: every %d from %d here, every %d from %d there", p.Name, increment, offset, theirs, theirOffset)
			out = append(out, g)
		}
	}
	return out, nil
}

func drawn(vars map[string]string) (increment, offset int) {
	v := exam{vars: vars}
	increment, offset = int(v.number("auto_increment_increment")), int(v.number("auto_increment_offset"))
	if increment < 1 {
		increment = 1
	}
	if offset > increment { // then the server ignores it
		offset = 1
	}
	return increment, offset
}

func gcd(a, b int) int {
	for b != 0 {
		a, b = b, a%b
	}
	return a
}

func sameVariable(name string, severity Severity, why, remedy string) func(context.Context, *exam) ([]Finding, error) {
	return func(ctx context.Context, x *exam) ([]Finding, error) {
		var out []Finding
		for _, p := range x.Peers {
			vars, err := globals(ctx, p.DB)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", p.Name, err)
			}
			if vars[name] != x.vars[name] {
				out = append(out, Finding{Severity: severity, Where: name, What: fmt.Sprintf("%s is %s here and %s in %s", name, x.vars[name], vars[name], p.Name), Why: why, Setting: remedy})
			}
		}
		return out, nil
	}
}

// sameColumns compares the columns that exist on both sides; a table or column
// that is missing on one of them is the business of the roll-out.
func sameColumns(ctx context.Context, x *exam) ([]Finding, error) {
	var out []Finding
	for _, p := range x.Peers {
		y := &exam{Target: Target{DB: p.DB, Databases: x.Databases}}
		if err := y.readTables(ctx); err != nil {
			return nil, fmt.Errorf("%s: %w", p.Name, err)
		}
		theirs := map[string]*tableInfo{}
		for i := range y.tables {
			theirs[y.tables[i].where()] = &y.tables[i]
		}
		for i := range x.tables {
			t := &x.tables[i]
			other := theirs[t.where()]
			if other == nil {
				out = append(out, Finding{Severity: Warn, Where: t.where(), What: t.where() + " does not exist in " + p.Name,
					Why: "Its rows are parked there as dead letters.", Setting: "create the table in " + p.Name})
				continue
			}
			for _, c := range t.columns {
				if d := other.column(c.name); d != nil && (c.columnType != d.columnType || c.charset != d.charset) {
					out = append(out, Finding{Severity: Refuse, Where: t.where(),
						What: fmt.Sprintf("column %s is %s here and %s in %s", c.name, describe(c), describe(*d), p.Name),
						Why:  "A value of one side may not fit, or mean something else, on the other.",
						Fix:  []string{"ALTER TABLE " + t.quoted() + " MODIFY " + d.definition() + nullability(d)}})
				}
			}
		}
	}
	return out, nil
}

func describe(c columnInfo) string {
	if c.charset == "" {
		return c.columnType
	}
	return c.columnType + " in " + c.charset
}

func nullability(c *columnInfo) string {
	if c.nullable {
		return " NULL"
	}
	return " NOT NULL"
}

func peerClock(ctx context.Context, x *exam) ([]Finding, error) {
	if len(x.Peers) == 0 {
		return nil, nil
	}
	here, err := skewOf(ctx, x.DB)
	if err != nil {
		return nil, err
	}
	var out []Finding
	for _, p := range x.Peers {
		there, err := skewOf(ctx, p.DB)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", p.Name, err)
		}
		if d := here - there; d.Abs() > maxSkew {
			out = append(out, Finding{Severity: Warn, Where: "clock", What: fmt.Sprintf("the clocks of this server and %s are %v apart", p.Name, d.Abs().Round(time.Millisecond)),
				Why: "Where both wrote a row the newer write wins: the clock that is ahead always wins.", Setting: "run chrony or ntpd on both"})
		}
	}
	return out, nil
}

// skewOf returns how far a server's clock is ahead of ours, the best of three
// tries; half the round trip of that try is how exact it is.
func skewOf(ctx context.Context, db *sql.DB) (skew time.Duration, err error) {
	best := time.Duration(1<<63 - 1)
	for range 3 {
		var micros int64
		start := time.Now()
		err := db.QueryRowContext(ctx, "SELECT CAST(UNIX_TIMESTAMP(NOW(6))*1000000 AS SIGNED)").Scan(&micros)
		if err != nil {
			return 0, fmt.Errorf("ask the server for the time: %w", err)
		}
		if trip := time.Since(start); trip < best {
			best, skew = trip, time.UnixMicro(micros).Sub(start.Add(trip/2))
		}
	}
	return skew, nil
}

func sorted(set map[string]bool) []string { return slices.Sorted(maps.Keys(set)) }
