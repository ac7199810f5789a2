package tableinfo

import (
	"context"
	"database/sql"
	"strings"
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
	return t.each(ctx, db, foreignKeysQuery, []any{&f.Name, &column, &f.RefDB, &f.RefTable, &refColumn, &f.OnDelete, &f.OnUpdate}, func() {
		if n := len(t.ForeignKeys); n == 0 || t.ForeignKeys[n-1].Name != f.Name {
			t.ForeignKeys = append(t.ForeignKeys, f)
		}
		k := &t.ForeignKeys[len(t.ForeignKeys)-1]
		k.Columns = append(k.Columns, column)
		k.RefColumns = append(k.RefColumns, refColumn)
	})
}
