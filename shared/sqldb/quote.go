package sqldb

import "strings"

// Quote returns ident as a quoted SQL identifier, safe for any name in any
// sql_mode. A NUL, which no name may hold, is left out.
func Quote(ident string) string {
	return "`" + strings.NewReplacer("`", "``", "\x00", "").Replace(ident) + "`"
}

// QuoteTable returns the quoted name of a table, with its database unless db is empty.
func QuoteTable(db, name string) string {
	if db == "" {
		return Quote(name)
	}
	return Quote(db) + "." + Quote(name)
}

// QuoteString returns s as a string literal that reads the same under any
// sql_mode. It is for DDL, which takes no parameters; data goes as parameters.
// A backslash means one thing or another by NO_BACKSLASH_ESCAPES and becomes a
// slash; NUL is left out.
func QuoteString(s string) string {
	return "'" + strings.NewReplacer("'", "''", `\`, "/", "\x00", "").Replace(s) + "'"
}
