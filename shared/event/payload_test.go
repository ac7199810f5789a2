package event

import (
	"encoding/json"
	"reflect"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestTransactionRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := genTransaction().Draw(t, "transaction")
		data := want.AppendJSON(nil)
		if !json.Valid(data) {
			t.Fatalf("no valid JSON: %s", data)
		}
		got, err := DecodeTransaction(data)
		if err != nil {
			t.Fatalf("%v in %s", err, data)
		}
		if !reflect.DeepEqual(normal(got), normal(want)) {
			t.Fatalf("got  %+v\nwant %+v\nfrom %s", got, want, data)
		}
	})
}

// Whatever is accepted must mean the same to the reference decoder, and survive
// another trip unchanged.
func FuzzDecodeTransaction(f *testing.F) {
	f.Add(benchmarkTransaction().AppendJSON(nil))
	for _, s := range refused {
		f.Add([]byte(s.payload))
	}
	for _, s := range accepted {
		f.Add([]byte(s))
	}
	f.Add([]byte(`{"schema":"tandem.transaction/1",` + table + `,"rows":[{"t":0,"op":"c","BefoRe":[],"after":["1","x"]}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		first, err := DecodeTransaction(data)
		reference, referenceErr := referenceDecode(data)
		if referenceErr == nil && err != nil {
			// It may be too lenient, but what it makes of the input must be readable.
			first = reference
		} else if err != nil {
			return
		} else if referenceErr != nil {
			if !ambiguous(data) {
				t.Fatalf("accepted, but by encoding/json: %v", referenceErr)
			}
		} else if !reflect.DeepEqual(normal(first), normal(reference)) && !ambiguous(data) {
			t.Fatalf("decoded   %+v\nreference %+v", first, reference)
		}
		again := first.AppendJSON(nil)
		second, err := DecodeTransaction(again)
		if err != nil {
			t.Fatalf("%v in %s", err, again)
		}
		if !reflect.DeepEqual(normal(first), normal(second)) {
			t.Fatalf("first  %+v\nsecond %+v\nfrom %s", first, second, again)
		}
	})
}

// ambiguous reports whether data has a name in the wrong case, which
// encoding/json takes for the name itself.
func ambiguous(data []byte) bool {
	var v any
	return json.Unmarshal(data, &v) == nil && foldedName(v)
}

func foldedName(v any) bool {
	switch v := v.(type) {
	case []any:
		return slices.ContainsFunc(v, foldedName)
	case map[string]any:
		for name, value := range v {
			if name != strings.ToLower(name) || strings.ContainsAny(name, "ſK") || foldedName(value) {
				return true
			}
		}
	}
	return false
}

const table = `"tables":[{"db":"d","name":"t","key":[0],"columns":[{"name":"a","type":"int"},{"name":"e","type":"enum","labels":["x"]}]}]`

const document = `"tables":[{"db":"d","name":"t","columns":[{"name":"a","type":"json"},{"name":"b","type":"text"}]}]`

func documents(a, b string) string {
	return `{"schema":"tandem.transaction/1",` + document + `,"rows":[{"t":0,"op":"c","after":[` + a + `,` + b + `]}]}`
}

var accepted = []string{
	documents(`{"typed":[["$","decimal","1.10"]],"json":"1.10"}`, `"x"`),
	documents(` {"json":{"base64":"MQ=="},"typed":[["$.\"a\"[0]","bit",{"base64":"BQ=="}]],"base64":null}`, `"x"`),
	documents(`{"base64":"MQ==","json":null,"typed":null}`, `"x"`),
	`{"schema":"tandem.transaction/1"}`,
	`{"schema":"tandem.transaction/1","tables":[],"rows":[]}`,
	`{"schema":"tandem.transaction/1","unknown":{"a":[1,2]},` + table + `,"rows":[{"t":0,"op":"c","after":["1",0]}]}`,
	`{"schema":"tandem.transaction/1",` + table + `,"rows":[{"t":0,"op":"u","before":[null,false],"after":[{"base64":"/w=="},"\u00e9\ud83d\ude00\n"]}]}`,
	"{ \"schema\" : \"tandem.transaction/1\" ,\t\"server\":\"s\",\"gtid\":{\"base64\":\"/w==\"},\"pos\":4294967295,\"statement\":{\"ddl\":true,\"db\":\"d\",\"sql\":\"DROP\"}\n}",
}

var refused = []struct{ payload, want string }{
	{``, "JSON ends"},
	{`null`, "no object"},
	{`[]`, "payload"},
	{`{"schema":"tandem.transaction/2"}`, "upgrade the receiver"},
	{`{"schema":"tandem.transaction/1"} x`, "payload"},
	{`{"schema":"tandem.transaction/1","pos":4294967296}`, "pos"},
	{`{"schema":"tandem.transaction/1","pos":-1}`, "pos"},
	{`{"schema":"tandem.transaction/1","tables":[{"name":"t","columns":[{"name":"a","type":"int"}]}]}`, "db or name"},
	{`{"schema":"tandem.transaction/1","tables":[{"db":"d","name":"t","columns":[]}]}`, "0 columns"},
	{`{"schema":"tandem.transaction/1","tables":[{"db":"d","name":"t","columns":[{"name":"a","type":"money"}]}]}`, "money"},
	{`{"schema":"tandem.transaction/1","tables":[{"db":"d","name":"t","columns":[{"name":"a","type":"int"},{"name":"a","type":"int"}]}]}`, "repeated"},
	{`{"schema":"tandem.transaction/1","tables":[{"db":"d","name":"t","key":[1],"columns":[{"name":"a","type":"int"}]}]}`, "key column 1"},
	{`{"schema":"tandem.transaction/1","tables":[{"db":"d","name":"t","key":[-1],"columns":[{"name":"a","type":"int"}]}]}`, "key: no number"},
	{`{"schema":"tandem.transaction/1","rows":[{"t":0,"op":"c","after":[]}]}`, "table 0"},
	{`{"schema":"tandem.transaction/1",` + table + `,"rows":[{"t":0,"op":"x","after":["1","x"]}]}`, "op"},
	{`{"schema":"tandem.transaction/1",` + table + `,"rows":[{"t":0,"op":"","after":["1","x"]}]}`, "op"},
	{`{"schema":"tandem.transaction/1",` + table + `,"rows":[{"t":0,"op":"c","after":["1"]}]}`, "1 values for 2 columns"},
	{`{"schema":"tandem.transaction/1",` + table + `,"rows":[{"t":0,"op":"c"}]}`, "after image"},
	{`{"schema":"tandem.transaction/1",` + table + `,"rows":[{"t":0,"op":"c","before":["1","x"],"after":["1","x"]}]}`, "before image"},
	{`{"schema":"tandem.transaction/1",` + table + `,"rows":[{"t":0,"op":"d","before":[0,"x"]}]}`, "a is 0 but no enum"},
	{`{"schema":"tandem.transaction/1",` + table + `,"rows":[{"t":0,"op":"d","before":[1,"x"]}]}`, "no value"},
	{`{"schema":"tandem.transaction/1",` + table + `,"rows":[{"t":0,"op":"d","before":[true,"x"]}]}`, "no value"},
	{`{"schema":"tandem.transaction/1",` + table + `,"rows":[{"t":0,"op":"d","before":[["1"],"x"]}]}`, "no value"},
	{`{"schema":"tandem.transaction/1",` + table + `,"rows":[{"t":0,"op":"d","before":[{"base64":"!"},"x"]}]}`, "base64"},
	{`{"schema":"tandem.transaction/1",` + table + `,"rows":[{"t":0,"op":"d","before":[{},"x"]}]}`, "no value"},
	{`{"schema":"tandem.transaction/1",` + table + `,"rows":[{"t":0,"op":"d","before":[{"base64":"","more":1},"x"]}]}`, "no value"},
	{`{"schema":"tandem.transaction/1",` + table + `,"rows":[{"t":0,"op":"d","before":["` + "\xff" + `","x"]}]}`, "UTF-8"},
	{documents(`"1"`, `{"json":"1.10","typed":[["$","decimal","1.10"]]}`), "b has typed values"},
	{documents(`{"json":"1.10","typed":[["$","money","1.10"]]}`, `"x"`), "money"},
	{documents(`{"json":"1.10","typed":[["$","geometry","1.10"]]}`, `"x"`), "geometry"},
	{documents(`{"json":"1.10","typed":[["a","decimal","1.10"]]}`, `"x"`), "no path"},
	{documents(`{"json":"1.10","typed":[["$","decimal",""]]}`, `"x"`), "0 bytes"},
	{documents(`{"json":"1.10","typed":[["$","bit",{"base64":""}]]}`, `"x"`), "0 bytes"},
	{documents(`{"json":"1.10","typed":[["$","decimal"]]}`, `"x"`), "2 parts"},
	{documents(`{"json":"1.10","typed":[["$","decimal","1.10","x"]]}`, `"x"`), "more than 3 parts"},
	{documents(`{"json":"1.10","typed":[null]}`, `"x"`), "no array"},
	{documents(`{"json":"1.10","typed":[["$","decimal",null]]}`, `"x"`), "no value"},
	{documents(`{"json":"1.10","typed":[]}`, `"x"`), "0 typed values"},
	{documents(`{"json":"1.10"}`, `"x"`), "no value"},
	{documents(`{"typed":[["$","decimal","1.10"]]}`, `"x"`), "no value"},
	{documents(`{"base64":"MQ==","json":"1.10","typed":[["$","decimal","1.10"]]}`, `"x"`), "no value"},
	{documents(`{"base64":"MQ==","typed":[["$","decimal","1.10"]]}`, `"x"`), "no value"},
	{documents(`{"json":"1.10","typed":[`+strings.Repeat(`["$","decimal","1.10"],`, MaxTyped)+`["$","decimal","1.10"]]}`, `"x"`), "more than 4096"},
	{`{"schema":"tandem.transaction/1",` + table + `,"rows":[{"t":0,"op":"d","before":["\ud800","x"]}]}`, "surrogate"},
}

func TestDecodeRefuses(t *testing.T) {
	for _, c := range refused {
		got, err := DecodeTransaction([]byte(c.payload))
		if err == nil {
			t.Errorf("%s is accepted as %+v", c.payload, got)
		} else if !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %q does not say %q", c.payload, err, c.want)
		}
	}
}

func TestDecodeAccepts(t *testing.T) {
	for _, payload := range accepted {
		if _, err := DecodeTransaction([]byte(payload)); err != nil {
			t.Errorf("%s: %v", payload, err)
		}
	}
}

// The wire form is what docs/event-schema.md shows; a change here is a change
// for every reader outside.
func TestWireForm(t *testing.T) {
	x := &Transaction{
		Server: "7a5c", GTID: "7a5c:12", File: "binlog.000002", Pos: 4711,
		Tables: []Table{{DB: "shop", Name: "t", Key: []int{0}, Columns: []Column{
			{Name: "id", Type: BigInt, Unsigned: true},
			{Name: "名", Type: VarChar, Charset: "utf8mb4"},
			{Name: "l", Type: VarChar, Charset: "latin1"},
			{Name: "b", Type: Binary, Length: 2},
			{Name: "e", Type: Enum, Charset: "latin1", Labels: []string{"a", "\xe9"}},
			{Name: "at", Type: Timestamp, Length: 6},
		}}, {DB: "shop", Name: "j", Columns: []Column{{Name: "j", Type: JSON}}}},
		Rows: []Row{
			{Op: Insert, After: []Value{Of("18446744073709551615"), Of("双\"\n"), Of("\xe9"), Of("a\x00"), {Kind: Zero}, {Kind: Null}}},
			{Op: Delete, Before: []Value{Of("1"), {Kind: Absent}, Of("plain"), Of("ab"), Of("a"), Of("2024-01-31 12:00:00.500000")}},
			{Table: 1, Op: Insert, After: []Value{{Kind: Data, Data: []byte(`{"a": [1.10, "base64:type252:AP8="]}`), Typed: &TypedList{
				{Path: `$."a"[0]`, Type: Decimal, Text: "1.10"}, {Path: `$."a"[1]`, Type: Blob, Text: "\x00\xff"},
			}}}},
		},
	}
	const want = `{"schema":"tandem.transaction/1","server":"7a5c","gtid":"7a5c:12","file":"binlog.000002","pos":4711,` +
		`"tables":[{"db":"shop","name":"t","key":[0],"columns":[{"name":"id","type":"bigint","unsigned":true},` +
		`{"name":"名","type":"varchar","charset":"utf8mb4"},{"name":"l","type":"varchar","charset":"latin1"},` +
		`{"name":"b","type":"binary","length":2},` +
		`{"name":"e","type":"enum","charset":"latin1","labels":["a",{"base64":"6Q=="}]},{"name":"at","type":"timestamp","length":6}]},` +
		`{"db":"shop","name":"j","key":[],"columns":[{"name":"j","type":"json"}]}],` +
		`"rows":[{"t":0,"op":"c","after":["18446744073709551615","双\"\n",{"base64":"6Q=="},{"base64":"YQA="},0,null]},` +
		`{"t":0,"op":"d","before":["1",false,"plain",{"base64":"YWI="},"a","2024-01-31 12:00:00.500000"]},` +
		`{"t":1,"op":"c","after":[{"json":"{\"a\": [1.10, \"base64:type252:AP8=\"]}",` +
		`"typed":[["$.\"a\"[0]","decimal","1.10"],["$.\"a\"[1]","blob",{"base64":"AP8="}]]}]}]}`
	if got := string(x.AppendJSON(nil)); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

// benchmarkTransaction is an order as the shop writes it: five rows in three tables.
func benchmarkTransaction() *Transaction {
	column := func(name string, typ Type) Column {
		c := Column{Name: name, Type: typ}
		if typ.Textual() {
			c.Charset = "utf8mb4"
		}
		return c
	}
	x := &Transaction{Server: "b0d9a1d4-0f6e-11ef-9b3c-0242ac120002", GTID: "b0d9a1d4-0f6e-11ef-9b3c-0242ac120002:123456", File: "binlog.000012", Pos: 123456789}
	for _, name := range []string{"orders", "order_items", "payments"} {
		x.Tables = append(x.Tables, Table{DB: "shop", Name: name, Key: []int{0}, Columns: []Column{
			column("id", BigInt), column("merchant_id", BigInt), column("status", VarChar), column("amount", Decimal),
			column("note", Text), column("token", VarBinary), column("created_at", DateTime), column("updated_at", Timestamp),
		}})
	}
	values := []Value{
		Of("7311234567890123"), Of("42"), Of("paid"), Of("1234.50"), Of("送到前台，谢谢 \"fragile\""), Of("\x00\x01\xfe\xff0123456789ab"),
		Of("2024-05-01 12:00:00.123456"), Of("2024-05-01 12:00:00.123456"),
	}
	x.Rows = []Row{
		{Table: 0, Op: Insert, After: values}, {Table: 1, Op: Insert, After: values}, {Table: 1, Op: Insert, After: values},
		{Table: 2, Op: Insert, After: values}, {Table: 0, Op: Update, Before: values, After: values},
	}
	return x
}

func BenchmarkEncode(b *testing.B) {
	x := benchmarkTransaction()
	buf := x.AppendJSON(nil)
	b.SetBytes(int64(len(buf)))
	b.ReportAllocs()
	for b.Loop() {
		buf = x.AppendJSON(buf[:0])
	}
}

func BenchmarkDecode(b *testing.B) {
	data := benchmarkTransaction().AppendJSON(nil)
	b.SetBytes(int64(len(data)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := DecodeTransaction(data); err != nil {
			b.Fatal(err)
		}
	}
}
