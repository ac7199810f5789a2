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

- **JSON on MySQL** travels as the text that the server prints, with the types of values that text does not tell: ` + "`DECIMAL`, `DATE`, `TIME`, `DATETIME`," + `
  ` + "`TIMESTAMP`, `BIT`" + ` and binary strings stay what they are. These come back from text alone, equal to read, but of another ` + "`JSON_TYPE()`" + `:
  integers, which are ` + "`INTEGER`" + ` up to 4294967295 and ` + "`UNSIGNED INTEGER`" + ` above, as MySQL reads them in text; binary strings longer than their type's
  column (` + "`BINARY`" + ` 255 bytes, ` + "`VARBINARY`" + ` 65000) or of types that no expression makes; all of a document that brings its row to more
  than 4096 such values, or whose paths to them take more than 1 MiB. A ` + "`TIMESTAMP`" + ` outside 1970 to 2038 in UTC, which another time zone can leave, becomes a ` + "`DATETIME`" + `.
  MariaDB's JSON is text; a document from MySQL is written there as its text.
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
