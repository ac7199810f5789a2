package apply

import (
	"encoding/binary"
	"strconv"
	"strings"

	"github.com/tandem-dc/tandem/shared/event"
)

// document is the expression that makes a JSON document from its text, and then
// from the path and text of each typed value, which JSON text alone would make
// a number or string. The session's literals are binary, which JSON does not take.
func document(list event.TypedList) string {
	var b strings.Builder
	b.WriteString("JSON_REPLACE(CONVERT(? USING utf8mb4)")
	for i := range list {
		b.WriteString(", CONVERT(? USING utf8mb4), " + typedMark(&list[i]))
	}
	return b.String() + ")"
}

// documentParams are the parameters of document after the text.
func documentParams(args []any, list event.TypedList) []any {
	for i := range list {
		args = append(args, []byte(list[i].Path))
		if list[i].Type == event.Bit {
			var x [8]byte
			copy(x[8-min(8, len(list[i].Text)):], list[i].Text)
			args = append(args, strconv.AppendUint(nil, binary.BigEndian.Uint64(x[:]), 10))
			continue
		}
		args = append(args, []byte(list[i].Text))
	}
	return args
}

// typedMark is the expression of one value of exactly its type. Where no CAST
// gives that, a column does.
func typedMark(x *event.Typed) string {
	column := func(typ, from string) string {
		return "JSON_EXTRACT((SELECT JSON_ARRAY(v) FROM JSON_TABLE(" + from + ", _utf8mb4'$[0]' COLUMNS (v " + typ +
			" PATH _utf8mb4'$' ERROR ON EMPTY ERROR ON ERROR)) t), _utf8mb4'$[0]')"
	}
	const raw = "JSON_ARRAY(CAST(? AS BINARY))"
	switch x.Type {
	case event.Decimal:
		// As many digits as a DECIMAL may have: the number of its own would make a statement each.
		scale := 0
		if point := strings.IndexByte(x.Text, '.'); point >= 0 {
			scale = len(x.Text) - point - 1
		}
		return "CAST(? AS DECIMAL(65," + strconv.Itoa(scale) + "))"
	case event.Date:
		return "CAST(? AS DATE)"
	case event.Time:
		return "CAST(? AS TIME(6))"
	case event.DateTime:
		return "CAST(? AS DATETIME(6))"
	case event.Timestamp:
		return column("TIMESTAMP(6)", "JSON_ARRAY(CAST(? AS DATETIME(6)))")
	case event.Bit:
		return column("BIT("+strconv.Itoa(8*len(x.Text))+")", "CONVERT(? USING utf8mb4)")
	case event.Binary: // padded to its width by the server
		return column("BINARY("+strconv.Itoa(len(x.Text))+")", raw)
	case event.VarBinary:
		if len(x.Text) <= 1024 {
			return column("VARBINARY(1024)", raw)
		}
		return column("VARBINARY(65000)", raw)
	case event.TinyBlob, event.Blob, event.MediumBlob:
		return column(string(x.Type), raw)
	}
	return column("LONGBLOB", raw)
}
