package tableinfo

import (
	"context"
	"database/sql"
	"errors"
	"strings"

	"github.com/tandem-dc/tandem/shared/sqldb"
)

// Every query selects the table's name too: where names compare without
// regard to case (MariaDB), `T` finds the rows of `t` as well.
const (
	columnsQuery = `SELECT table_schema, table_name, column_name, data_type, column_type, character_set_name, collation_name,
 is_nullable, extra, column_default, generation_expression
FROM information_schema.columns WHERE table_schema = ? AND table_name = ? ORDER BY ordinal_position`

	uniqueQuery = `SELECT table_schema, table_name, index_name, column_name, sub_part
FROM information_schema.statistics WHERE table_schema = ? AND table_name = ? AND non_unique = 0
ORDER BY index_name <> 'PRIMARY', index_name, seq_in_index`

	foreignKeysQuery = `SELECT k.table_schema, k.table_name, k.constraint_name, k.column_name,
 k.referenced_table_schema, k.referenced_table_name, k.referenced_column_name, r.delete_rule, r.update_rule
FROM information_schema.key_column_usage k
JOIN information_schema.referential_constraints r
 ON r.constraint_schema = k.constraint_schema AND r.constraint_name = k.constraint_name AND r.table_name = k.table_name
WHERE k.table_schema = ? AND k.table_name = ? AND k.referenced_table_name IS NOT NULL
ORDER BY k.constraint_name, k.ordinal_position`
)

// each scans the rows of a query on t whose first two columns are schema and
// table name, and calls use for those that are exactly t's.
func (t *Table) each(ctx context.Context, db *sql.DB, query string, dst []any, use func()) error {
	rows, err := db.QueryContext(ctx, query, t.DB, t.Name)
	if err != nil {
		return err
	}
	defer rows.Close()
	var schema, name string
	dst = append([]any{&schema, &name}, dst...)
	for rows.Next() {
		if err := rows.Scan(dst...); err != nil {
			return err
		}
		if schema == t.DB && name == t.Name {
			use()
		}
	}
	return rows.Err()
}

func (t *Table) loadColumns(ctx context.Context, db *sql.DB) error {
	var c Column
	var charset, collation, def, expression sql.NullString
	var nullable, extra string
	dst := []any{&c.Name, &c.DataType, &c.ColumnType, &charset, &collation, &nullable, &extra, &def, &expression}
	return t.each(ctx, db, columnsQuery, dst, func() {
		extra = strings.ToLower(extra)
		add := Column{
			Name: c.Name, DataType: strings.ToLower(c.DataType), ColumnType: c.ColumnType, Charset: charset.String, Collation: collation.String,
			Nullable:      nullable == "YES",
			Unsigned:      strings.Contains(strings.ToLower(c.ColumnType), "unsigned") && numeric(strings.ToLower(c.DataType)),
			Generated:     expression.String != "" || strings.Contains(extra, "virtual generated") || strings.Contains(extra, "stored generated"),
			AutoIncrement: strings.Contains(extra, "auto_increment"),
			Invisible:     strings.Contains(extra, "invisible"),
			OnUpdateNow:   strings.Contains(extra, "on update current_timestamp"),
		}
		if def.Valid && !strings.EqualFold(def.String, "NULL") {
			d := def.String
			add.Default = &d
		}
		t.Columns = append(t.Columns, add)
	})
}

// numeric tells types that may be unsigned from those whose labels may hold the word.
func numeric(dataType string) bool {
	switch dataType {
	case "tinyint", "smallint", "mediumint", "int", "bigint", "decimal", "float", "double":
		return true
	}
	return false
}

func (t *Table) loadUnique(ctx context.Context, db *sql.DB) error {
	var index string
	var column sql.NullString
	var prefix sql.NullInt64
	return t.each(ctx, db, uniqueQuery, []any{&index, &column, &prefix}, func() {
		if n := len(t.Unique); n == 0 || t.Unique[n-1].Name != index {
			t.Unique = append(t.Unique, Index{Name: index, Primary: index == "PRIMARY"})
		}
		u := &t.Unique[len(t.Unique)-1]
		u.Columns = append(u.Columns, column.String)
		u.Prefix = append(u.Prefix, int(prefix.Int64))
	})
}

func (t *Table) loadForeignKeys(ctx context.Context, db *sql.DB) error {
	var f ForeignKey
	var column, refColumn string
	err := t.each(ctx, db, foreignKeysQuery, []any{&f.Name, &column, &f.RefDB, &f.RefTable, &refColumn, &f.OnDelete, &f.OnUpdate}, func() {
		if n := len(t.ForeignKeys); n == 0 || t.ForeignKeys[n-1].Name != f.Name {
			t.ForeignKeys = append(t.ForeignKeys, f)
		}
		k := &t.ForeignKeys[len(t.ForeignKeys)-1]
		k.Columns = append(k.Columns, column)
		k.RefColumns = append(k.RefColumns, refColumn)
	})
	if err != nil || len(t.ForeignKeys) > 0 {
		return err
	}
	return t.readForeignKeys(ctx, db)
}

// readForeignKeys takes them from SHOW CREATE TABLE: MariaDB's
// information_schema hides them from accounts that can only SELECT.
func (t *Table) readForeignKeys(ctx context.Context, db *sql.DB) error {
	rows, err := db.QueryContext(ctx, "SHOW CREATE TABLE "+sqldb.QuoteTable(t.DB, t.Name))
	if err != nil {
		return err
	}
	defer rows.Close()
	columns, err := rows.Columns()
	if err != nil || !rows.Next() || len(columns) != 2 { // a view has more
		return errors.Join(err, rows.Err())
	}
	var name, text string
	if err := rows.Scan(&name, &text); err != nil {
		return err
	}
	for line := range strings.Lines(text) {
		if f, ok := parseForeignKey(line); ok {
			if f.RefDB == "" {
				f.RefDB = t.DB
			}
			t.ForeignKeys = append(t.ForeignKeys, f)
		}
	}
	return rows.Err()
}

// parseForeignKey reads one line as the server prints it:
//
//	CONSTRAINT `f` FOREIGN KEY (`a`, `b`) REFERENCES `db`.`t` (`x`, `y`) ON DELETE CASCADE ON UPDATE SET NULL
func parseForeignKey(line string) (f ForeignKey, ok bool) {
	rest := strings.TrimRight(strings.TrimSpace(line), ",")
	if rest, ok = strings.CutPrefix(rest, "CONSTRAINT "); !ok {
		return f, false
	}
	if f.Name, rest, ok = quoted(rest); !ok {
		return f, false
	}
	if rest, ok = strings.CutPrefix(rest, " FOREIGN KEY ("); !ok {
		return f, false
	}
	if f.Columns, rest, ok = quotedList(rest); !ok {
		return f, false
	}
	if rest, ok = strings.CutPrefix(rest, " REFERENCES "); !ok {
		return f, false
	}
	if f.RefTable, rest, ok = quoted(rest); !ok {
		return f, false
	}
	if after, qualified := strings.CutPrefix(rest, "."); qualified {
		f.RefDB = f.RefTable
		if f.RefTable, rest, ok = quoted(after); !ok {
			return f, false
		}
	}
	if rest, ok = strings.CutPrefix(rest, " ("); !ok {
		return f, false
	}
	if f.RefColumns, rest, ok = quotedList(rest); !ok {
		return f, false
	}
	f.OnDelete, f.OnUpdate = action(rest, " ON DELETE "), action(rest, " ON UPDATE ")
	return f, true
}

// action reads what follows a keyword; the server leaves out its default.
func action(s, keyword string) string {
	if _, after, ok := strings.Cut(s, keyword); ok {
		for _, a := range []string{"CASCADE", "SET NULL", "SET DEFAULT", "NO ACTION"} {
			if strings.HasPrefix(after, a) {
				return a
			}
		}
	}
	return "RESTRICT"
}

func quotedList(s string) (names []string, rest string, ok bool) {
	for {
		var name string
		if name, s, ok = quoted(s); !ok {
			return nil, s, false
		}
		names = append(names, name)
		if rest, end := strings.CutPrefix(s, ")"); end {
			return names, rest, true
		}
		s = strings.TrimPrefix(s, ", ")
	}
}

// quoted reads a name in backticks, or in double quotes as under ANSI_QUOTES.
func quoted(s string) (name, rest string, ok bool) {
	if s == "" || s[0] != '`' && s[0] != '"' {
		return "", s, false
	}
	q := s[:1]
	var b strings.Builder
	for s = s[1:]; ; s = s[1:] {
		part, after, found := strings.Cut(s, q)
		if !found {
			return "", s, false
		}
		b.WriteString(part)
		if s = after; !strings.HasPrefix(s, q) {
			return b.String(), s, true
		}
		b.WriteString(q)
	}
}
