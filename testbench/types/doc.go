package types

import (
	"fmt"
	"strings"
)

// Markdown is docs/types.md.
func Markdown() []byte {
	var b strings.Builder
	b.WriteString(`# Column types

<!-- Made from testbench/types: go test ./testbench/types -update -->

What tandem carries unchanged, and the values that prove it. Every line is inserted on a real server by a session with the settings shown,
read from its binlog and compared with what the server itself shows (` + "`capture/binlog` `TestTypes/<server>/<case>`" + `), and taken
through the whole road and compared on both sides (` + "`testbench/e2e`" + `). Each column also holds a NULL where it may.

| case | column | event type | servers | session | values | compared by |
|---|---|---|---|---|---|---|
`)
	for _, c := range All() {
		servers := "both"
		if len(c.Flavors) == 1 {
			servers = string(c.Flavors[0])
		}
		var values []string
		for _, v := range c.Values {
			values = append(values, code(v))
		}
		session := ""
		if c.Session != "" {
			session = code(strings.TrimPrefix(c.Session, "SET SESSION "))
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %s | %s | %s |\n", c.Name, code(c.Column), c.Type, servers, session, strings.Join(values, "<br>"), code(c.Expr("v")))
	}
	b.WriteString(`
## Limits

- **JSON on MySQL** travels as the text that the server prints. Values of SQL types inside a document (` + "`DECIMAL`, `DATETIME`, binary" + `) come back
  from text as JSON numbers and strings: equal to read, but no longer of the SQL type.
- **Partial JSON updates** (` + "`binlog_row_value_options=PARTIAL_JSON`" + `), MariaDB's ` + "`COMPRESSED`" + ` columns, and time columns in formats older than
  MySQL 5.6 are refused with an error that names the setting.
- **Row images that are not full** (` + "`binlog_row_image`" + ` MINIMAL or NOBLOB) are carried with the missing columns marked as absent, which is not NULL.
- The tables' own limits apply: the receiving column must be able to hold the value.
`)
	return []byte(b.String())
}

// code makes text safe for a table cell, and long lists short.
func code(s string) string {
	if len(s) > 120 {
		s = s[:60] + " … " + s[len(s)-40:]
	}
	s = strings.ReplaceAll(strings.ToValidUTF8(s, "?"), "|", `\|`)
	if strings.Contains(s, "`") {
		return "`` " + s + " ``"
	}
	return "`" + s + "`"
}
