package event

import (
	"slices"
	"time"

	"pgregory.net/rapid"
)

var allTypes = []Type{
	TinyInt, SmallInt, MediumInt, Int, BigInt, Decimal, Float, Double, Bit, Year, Date, Time, DateTime,
	Timestamp, Char, VarChar, Text, Binary, VarBinary, Blob, JSON, Enum, Set, Geometry, Vector,
}

var charsets = []string{"", "utf8mb4", "utf8mb3", "latin1", "gbk", "big5", "ascii", "binary", "utf16", "utf32"}

// anyBytes leans towards what breaks encoders: quotes, control characters,
// invalid UTF-8, separators that JavaScript dislikes.
func anyBytes() *rapid.Generator[[]byte] {
	return rapid.OneOf(
		rapid.SliceOfN(rapid.Byte(), 0, 20),
		rapid.Map(rapid.String(), func(s string) []byte { return []byte(s) }),
		rapid.SampledFrom([][]byte{
			{}, {0}, []byte(`"`), []byte(`\`), []byte("\n\r\t\x00\x1f\x7f"), []byte("\u2028\u2029\ufffd"), []byte("双活😀"),
			{0xff, 0xfe}, {0xc3}, {0xed, 0xa0, 0x80}, {0xcb, 0xab, 0x5c}, []byte("<script>&"), []byte(`{"base64":"AA=="}`), []byte("null"),
		}),
	)
}

func text(g *rapid.Generator[[]byte]) *rapid.Generator[string] {
	return rapid.Map(g, func(b []byte) string { return string(b) })
}

func name() *rapid.Generator[string] {
	return text(anyBytes().Filter(func(b []byte) bool { return len(b) > 0 }))
}

func genColumn() *rapid.Generator[Column] {
	return rapid.Custom(func(t *rapid.T) Column {
		c := Column{
			Name: name().Draw(t, "name"), Type: rapid.SampledFrom(allTypes).Draw(t, "type"),
			Unsigned: rapid.Bool().Draw(t, "unsigned"), Length: rapid.IntRange(0, 300).Draw(t, "length"),
		}
		if c.Type.Textual() {
			c.Charset = rapid.SampledFrom(charsets).Draw(t, "charset")
		}
		if c.Type == Enum || c.Type == Set {
			c.Labels = rapid.SliceOfN(text(anyBytes()), 1, 4).Draw(t, "labels")
		}
		return c
	})
}

func genValue(c Column) *rapid.Generator[Value] {
	return rapid.Custom(func(t *rapid.T) Value {
		kinds := []Kind{Absent, Null, Data, Data, Data}
		if c.Type == Enum {
			kinds = append(kinds, Zero)
		}
		v := Value{Kind: rapid.SampledFrom(kinds).Draw(t, "kind")}
		if v.Kind == Data {
			v.Data = anyBytes().Draw(t, "data")
			if c.Type == JSON && rapid.Bool().Draw(t, "typed") {
				list := TypedList(rapid.SliceOfN(genTyped(), 1, 3).Draw(t, "list"))
				v.Typed = &list
			}
		}
		return v
	})
}

func genTyped() *rapid.Generator[Typed] {
	return rapid.Custom(func(t *rapid.T) Typed {
		x := Typed{Path: "$" + text(anyBytes()).Draw(t, "path"), Text: text(anyBytes()).Draw(t, "text")}
		x.Type = rapid.SampledFrom([]Type{
			Decimal, Date, Time, DateTime, Timestamp, Bit, Binary, VarBinary, TinyBlob, Blob, MediumBlob, LongBlob,
		}).Draw(t, "type")
		if x.check() != nil {
			x.Text = "1"
		}
		return x
	})
}

func genTable() *rapid.Generator[Table] {
	return rapid.Custom(func(t *rapid.T) Table {
		tab := Table{
			DB: name().Draw(t, "db"), Name: name().Draw(t, "name"),
			Columns: rapid.SliceOfNDistinct(genColumn(), 1, 6, func(c Column) string { return c.Name }).Draw(t, "columns"),
		}
		tab.Key = rapid.SliceOfNDistinct(rapid.IntRange(0, len(tab.Columns)-1), 0, 3, rapid.ID).Draw(t, "key")
		return tab
	})
}

func genTransaction() *rapid.Generator[*Transaction] {
	return rapid.Custom(func(t *rapid.T) *Transaction {
		x := &Transaction{
			Server: text(anyBytes()).Draw(t, "server"), GTID: text(anyBytes()).Draw(t, "gtid"),
			File: text(anyBytes()).Draw(t, "file"), Pos: rapid.Uint32().Draw(t, "pos"),
			Tables: rapid.SliceOfN(genTable(), 0, 3).Draw(t, "tables"),
		}
		if rapid.Bool().Draw(t, "statement") {
			x.Statement = &Statement{DB: text(anyBytes()).Draw(t, "db"), SQL: text(anyBytes()).Draw(t, "sql"), DDL: rapid.Bool().Draw(t, "ddl")}
		}
		if len(x.Tables) == 0 {
			return x
		}
		for range rapid.IntRange(0, 5).Draw(t, "rows") {
			r := Row{Table: rapid.IntRange(0, len(x.Tables)-1).Draw(t, "table"), Op: rapid.SampledFrom([]Op{Insert, Update, Delete}).Draw(t, "op")}
			image := func(label string) []Value {
				values := []Value{}
				for _, c := range x.Tables[r.Table].Columns {
					values = append(values, genValue(c).Draw(t, label))
				}
				return values
			}
			if r.Op != Insert {
				r.Before = image("before")
			}
			if r.Op != Delete {
				r.After = image("after")
			}
			x.Rows = append(x.Rows, r)
		}
		return x
	})
}

// normal gives empty and missing slices one form, so that transactions compare
// by what they mean.
func normal(t *Transaction) *Transaction {
	c := *t
	c.Tables, c.Rows = slices.Clone(t.Tables), slices.Clone(t.Rows)
	if len(c.Tables) == 0 {
		c.Tables = nil
	}
	if len(c.Rows) == 0 {
		c.Rows = nil
	}
	for i := range c.Tables {
		if len(c.Tables[i].Key) == 0 {
			c.Tables[i].Key = nil
		}
	}
	for i := range c.Rows {
		c.Rows[i].Before, c.Rows[i].After = normalValues(c.Rows[i].Before), normalValues(c.Rows[i].After)
	}
	return &c
}

func normalValues(values []Value) []Value {
	out := slices.Clone(values)
	for i := range out {
		if len(out[i].Data) == 0 {
			out[i].Data = nil
		}
	}
	return out
}

func genMeta() *rapid.Generator[Meta] {
	return rapid.Custom(func(t *rapid.T) Meta {
		dc := rapid.StringMatching(`[a-z][a-z0-9-]{0,31}`)
		id := rapid.StringMatching(`[!-~双]{1,30}`)
		m := Meta{
			ID: id.Draw(t, "id"), Source: Source(dc.Draw(t, "dc"), rapid.StringMatching(`[a-z0-9-]{1,36}`).Draw(t, "server")),
			Type:    rapid.SampledFrom([]string{TypeTransaction, TypeStatement, TypeHeartbeat}).Draw(t, "type"),
			Subject: rapid.StringMatching(`[!-~]{0,10}`).Draw(t, "subject"),
			Origin:  dc.Draw(t, "origin"), Epoch: rapid.Uint64Min(1).Draw(t, "epoch"), Sequence: rapid.Uint64Min(1).Draw(t, "seq"),
			PartitionKey: rapid.StringMatching(`[!-~]{0,10}`).Draw(t, "key"),
			TraceParent:  rapid.StringMatching(`[0-9a-f-]{0,55}`).Draw(t, "trace"),
		}
		m.LastCommitted = rapid.Uint64Range(0, m.Sequence-1).Draw(t, "last")
		if rapid.Bool().Draw(t, "time") {
			m.Time = time.Unix(rapid.Int64Range(1, 1<<36).Draw(t, "s"), rapid.Int64Range(0, 999_999_999).Draw(t, "ns")).UTC()
		}
		for range rapid.IntRange(0, 3).Draw(t, "marks") {
			m.Applied = append(m.Applied, Mark{dc.Draw(t, "dc"), rapid.Uint64().Draw(t, "e"), rapid.Uint64().Draw(t, "s")})
		}
		return m
	})
}
