package doctor

import (
	"context"
	"fmt"
	"strings"

	"github.com/tandem-dc/tandem/shared/sqldb"
)

func tableChecks() []check {
	return []check{
		{"table.key", Refuse, "every table has a key", tableKeys},
		{"table.engine", Refuse, "every table is transactional", engines},
		{"table.kind", Warn, "there are ordinary tables only", kinds},
		{"table.cascade", Refuse, "no foreign key changes rows by itself", cascades},
		{"table.trigger", Refuse, "no trigger runs for what apply writes", triggers},
		{"table.event", Warn, "no event writes by the clock", events},
		{"table.charset", OK, "", charsets},
		{"table.generated", OK, "", generated},
	}
}

func tableKeys(_ context.Context, x *exam) ([]Finding, error) {
	var out []Finding
	for i := range x.tables {
		t := &x.tables[i]
		if t.kind != "BASE TABLE" || t.hasKey() {
			continue
		}
		f := Finding{Severity: Refuse, Where: t.where(), What: t.where() + " has no primary key, nor a unique key without nullable columns",
			Why: "A row cannot be told from an equal one: updates and deletes would hit the wrong row, or several."}
		if u := t.nullableKey(); u != nil {
			for _, name := range u.columns {
				if c := t.column(name); c != nil && c.nullable {
					f.Fix = append(f.Fix, "ALTER TABLE "+t.quoted()+" MODIFY "+c.definition()+" NOT NULL")
				}
			}
		} else {
			f.Fix = []string{"ALTER TABLE " + t.quoted() + " ADD COLUMN " + sqldb.Quote(t.freeName("id")) + " BIGINT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY"}
			f.Setting = "rows that exist must get the same numbers in every datacenter: run it before they diverge, or copy the table"
		}
		out = append(out, f)
	}
	return out, nil
}

func (t *tableInfo) hasKey() bool {
	for _, u := range t.uniques {
		usable := true
		for _, name := range u.columns {
			c := t.column(name)
			usable = usable && c != nil && !c.nullable
		}
		if usable {
			return true
		}
	}
	return false
}

// nullableKey returns the first unique key whose columns could be made NOT NULL.
func (t *tableInfo) nullableKey() *uniqueInfo {
	for i, u := range t.uniques {
		usable := true
		for _, name := range u.columns {
			c := t.column(name)
			usable = usable && c != nil && !strings.Contains(c.extra, "generated")
		}
		if usable {
			return &t.uniques[i]
		}
	}
	return nil
}

func (t *tableInfo) freeName(name string) string {
	for t.column(name) != nil {
		name = "tandem_" + name
	}
	return name
}

func (c *columnInfo) definition() string {
	s := sqldb.Quote(c.name) + " " + c.columnType
	if c.collation != "" {
		s += " CHARACTER SET " + c.charset + " COLLATE " + c.collation
	}
	return s
}

func engines(ctx context.Context, x *exam) ([]Finding, error) {
	transactional := map[string]bool{}
	err := query(ctx, x.DB, "SELECT ENGINE, COALESCE(TRANSACTIONS,'NO') FROM information_schema.ENGINES", func(v []string) {
		transactional[strings.ToLower(v[0])] = v[1] == "YES"
	})
	if err != nil {
		return nil, err
	}
	var out []Finding
	for i := range x.tables {
		t := &x.tables[i]
		if t.kind != "BASE TABLE" || strings.EqualFold(t.engine, "InnoDB") {
			continue
		}
		f := Finding{Severity: Refuse, Where: t.where(), What: fmt.Sprintf("%s is in the engine %s", t.where(), t.engine),
			Why: "Its rows do not commit with the ledger's mark: after a crash a transaction would be applied twice, or in part.",
			Fix: []string{"ALTER TABLE " + t.quoted() + " ENGINE=InnoDB"}}
		if transactional[strings.ToLower(t.engine)] {
			f.Severity, f.Why = Warn, "tandem is tested with InnoDB only."
		}
		out = append(out, f)
	}
	return out, nil
}

func kinds(_ context.Context, x *exam) ([]Finding, error) {
	var out []Finding
	for i := range x.tables {
		t := &x.tables[i]
		f := Finding{Severity: Warn, Where: t.where(), What: t.where() + " is a " + strings.ToLower(t.kind)}
		switch t.kind {
		case "SEQUENCE":
			f.Why = "Each datacenter draws its own numbers from it: they clash unless increment and start differ."
			f.Setting = fmt.Sprintf("ALTER SEQUENCE %s INCREMENT BY %d RESTART <own start>", t.quoted(), x.DCs)
		case "SYSTEM VERSIONED":
			f.Why = "The server writes the history itself, with its own times: it differs between datacenters."
			f.Setting = "compare the current rows only"
		default:
			continue
		}
		out = append(out, f)
	}
	return out, nil
}

func cascades(ctx context.Context, x *exam) ([]Finding, error) {
	type key struct{ db, table, name string }
	rules := map[key][2]string{}
	var order []key
	err := query(ctx, x.DB, `SELECT CONSTRAINT_SCHEMA, TABLE_NAME, CONSTRAINT_NAME, DELETE_RULE, UPDATE_RULE FROM information_schema.REFERENTIAL_CONSTRAINTS
		ORDER BY CONSTRAINT_SCHEMA, TABLE_NAME, CONSTRAINT_NAME`, func(v []string) {
		acts := func(rule string) bool { return rule != "NO ACTION" && rule != "RESTRICT" }
		if k := (key{v[0], v[1], v[2]}); x.replicated(v[0]) && (acts(v[3]) || acts(v[4])) {
			rules[k] = [2]string{v[3], v[4]}
			order = append(order, k)
		}
	})
	if err != nil || len(order) == 0 {
		return nil, err
	}
	columns, parents, references := map[key][]string{}, map[key]string{}, map[key][]string{}
	err = query(ctx, x.DB, `SELECT CONSTRAINT_SCHEMA, TABLE_NAME, CONSTRAINT_NAME, COLUMN_NAME, REFERENCED_TABLE_SCHEMA, REFERENCED_TABLE_NAME, REFERENCED_COLUMN_NAME
		FROM information_schema.KEY_COLUMN_USAGE WHERE REFERENCED_TABLE_NAME IS NOT NULL
		ORDER BY CONSTRAINT_SCHEMA, TABLE_NAME, CONSTRAINT_NAME, ORDINAL_POSITION`, func(v []string) {
		k := key{v[0], v[1], v[2]}
		columns[k] = append(columns[k], sqldb.Quote(v[3]))
		parents[k] = sqldb.QuoteTable(v[4], v[5])
		references[k] = append(references[k], sqldb.Quote(v[6]))
	})
	if err != nil {
		return nil, err
	}
	var out []Finding
	for _, k := range order {
		table, name := sqldb.QuoteTable(k.db, k.table), sqldb.Quote(k.name)
		out = append(out, Finding{Severity: Refuse, Where: k.db + "." + k.table,
			What: fmt.Sprintf("foreign key %s has ON DELETE %s, ON UPDATE %s", k.name, rules[k][0], rules[k][1]),
			Why:  "InnoDB changes the child rows below the binlog, so they would change here and not in the other datacenter.",
			Fix: []string{"ALTER TABLE " + table + " DROP FOREIGN KEY " + name,
				"ALTER TABLE " + table + " ADD CONSTRAINT " + name + " FOREIGN KEY (" + strings.Join(columns[k], ",") + ") REFERENCES " + parents[k] + " (" + strings.Join(references[k], ",") + ")"},
			Setting: "let the application delete or change the child rows itself"})
	}
	return out, nil
}

// applyVariable is set in apply's sessions, so that triggers can tell them.
const applyVariable = "@tandem_apply"

func triggers(ctx context.Context, x *exam) ([]Finding, error) {
	var out []Finding
	err := query(ctx, x.DB, `SELECT TRIGGER_SCHEMA, TRIGGER_NAME, ACTION_TIMING, EVENT_MANIPULATION, EVENT_OBJECT_TABLE, ACTION_STATEMENT, DEFINER
		FROM information_schema.TRIGGERS ORDER BY TRIGGER_SCHEMA, TRIGGER_NAME`, func(v []string) {
		if !x.replicated(v[0]) || strings.Contains(strings.ToLower(v[5]), applyVariable) {
			return
		}
		name := sqldb.QuoteTable(v[0], v[1])
		definer := ""
		if user, host, ok := cutLast(v[6], "@"); ok {
			definer = "DEFINER=" + sqldb.Quote(user) + "@" + sqldb.Quote(host) + " "
		}
		body := strings.TrimRight(strings.TrimSpace(v[5]), ";")
		out = append(out, Finding{Severity: Refuse, Where: v[0] + "." + v[4], What: fmt.Sprintf("trigger %s runs %s %s, apply's writes included", v[1], strings.ToLower(v[2]), strings.ToLower(v[3])),
			Why: "What it did in the other datacenter arrives as rows; when it runs again here, it is done twice.",
			Fix: []string{"DROP TRIGGER " + name,
				"CREATE " + definer + "TRIGGER " + name + " " + v[2] + " " + v[3] + " ON " + sqldb.QuoteTable(v[0], v[4]) + " FOR EACH ROW BEGIN IF " + applyVariable + " IS NULL THEN " + body + "; END IF; END"}})
	})
	return out, err
}

func events(ctx context.Context, x *exam) ([]Finding, error) {
	if !x.on("event_scheduler") {
		return nil, nil
	}
	var out []Finding
	err := query(ctx, x.DB, "SELECT EVENT_SCHEMA, EVENT_NAME FROM information_schema.EVENTS WHERE STATUS='ENABLED' ORDER BY EVENT_SCHEMA, EVENT_NAME", func(v []string) {
		if x.replicated(v[0]) {
			out = append(out, Finding{Severity: Warn, Where: v[0] + "." + v[1], What: "event " + v[1] + " runs by the clock",
				Why: "It runs in each datacenter, and what it writes is sent to the others as well: its work is done several times.",
				Fix: []string{"ALTER EVENT " + sqldb.QuoteTable(v[0], v[1]) + " DISABLE"}, Setting: "leave it enabled in one datacenter"})
		}
	})
	return out, err
}

func charsets(_ context.Context, x *exam) ([]Finding, error) {
	var out []Finding
	for i := range x.tables {
		t := &x.tables[i]
		odd := map[string]bool{}
		for _, c := range t.columns {
			switch c.charset {
			case "", "utf8mb4", "ascii", "latin1", "binary":
			default:
				odd[c.charset] = true
			}
		}
		for _, name := range sorted(odd) {
			out = append(out, Finding{Severity: OK, Where: t.where(), What: t.where() + " has columns in " + name + ": their bytes travel unchanged"})
		}
	}
	return out, nil
}

func generated(_ context.Context, x *exam) ([]Finding, error) {
	var out []Finding
	for i := range x.tables {
		t := &x.tables[i]
		for _, c := range t.columns {
			switch {
			case strings.Contains(c.extra, "generated") && !strings.Contains(c.extra, "default_generated"):
				out = append(out, Finding{Severity: OK, Where: t.where(), What: fmt.Sprintf("column %s is generated: each server computes it itself", c.name)})
			case strings.Contains(c.extra, "invisible"):
				out = append(out, Finding{Severity: OK, Where: t.where(), What: fmt.Sprintf("column %s is invisible: it is replicated like any other", c.name)})
			}
		}
	}
	return out, nil
}
