package tail

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/segmentio/kafka-go"
	"pgregory.net/rapid"

	"github.com/tandem-dc/tandem/shared/event"
	"github.com/tandem-dc/tandem/shared/kafkace"
)

func sample() (event.Meta, *event.Transaction) {
	m := event.Meta{
		ID: "7a5c:12", Source: event.Source("beijing", "7a5c"), Type: event.TypeTransaction,
		Time: time.Date(2024, 1, 31, 4, 0, 0, 500_000, time.UTC), Origin: "beijing", Epoch: 3, Sequence: 17, LastCommitted: 12,
		Applied: []event.Mark{{Origin: "guangzhou", Epoch: 2, Sequence: 99}},
	}
	x := &event.Transaction{
		GTID: "7a5c:12",
		Tables: []event.Table{{DB: "shop", Name: "orders", Key: []int{0}, Columns: []event.Column{
			{Name: "id", Type: event.BigInt}, {Name: "note", Type: event.VarChar, Charset: "gbk"},
			{Name: "token", Type: event.VarBinary}, {Name: "state", Type: event.Enum, Charset: "utf8mb4", Labels: []string{"new", "paid"}},
			{Name: "total", Type: event.Decimal},
		}}},
		Rows: []event.Row{
			{Op: event.Insert, After: []event.Value{event.Of("7"), event.Of("\xcb\xab\xbb\xee"), event.Of("\x00\xff"), event.Of("new"), event.Of("19.90")}},
			{
				Op:     event.Update,
				Before: []event.Value{event.Of("7"), event.Of("\xcb\xab\xbb\xee"), event.Of("\x00\xff"), event.Of("new"), event.Of("19.90")},
				After:  []event.Value{event.Of("7"), {Kind: event.Null}, {Kind: event.Absent}, event.Of("paid"), event.Of("19.90")},
			},
			{Op: event.Delete, Before: []event.Value{event.Of("7"), event.Of("\xff"), event.Of("a long value"), {Kind: event.Zero}, event.Of("")}},
		},
	}
	return m, x
}

func print(t testing.TB, p Printer, msg kafka.Message) string {
	t.Helper()
	var b strings.Builder
	if err := p.Print(&b, &msg); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestText(t *testing.T) {
	m, x := sample()
	msg := kafkace.ToMessage(&m, x.AppendJSON(nil))
	msg.Partition, msg.Offset = 4, 4711
	want := `2024-01-31 04:00:00.000500 beijing transaction 3/17 after 12 id 7a5c:12 applied guangzhou:2:99 (partition 4 offset 4711)
  insert shop.orders id=7 | note=双活 token=0x00ff state=new total=19.90
  update shop.orders id=7 | note: 双活 -> NULL state: new -> paid
  delete shop.orders id=7 | note=0xff token=0x61206c6f6e67...(12 bytes) state=(not a label) total=""
`
	if got := print(t, Text{Width: 12}, msg); got != want {
		t.Errorf("got:\n%swant:\n%s", got, want)
	}
}

func TestTextOfOtherEvents(t *testing.T) {
	m, _ := sample()
	ddl := m
	ddl.Type = event.TypeStatement
	refused := m
	refused.Type, refused.Reason = event.TypeDeadLetter, "Error 1146: Table 'shop.orders' doesn't exist"
	heartbeat := m
	heartbeat.Type, heartbeat.Applied = event.TypeHeartbeat, nil
	statement := &event.Transaction{Statement: &event.Statement{DB: "shop", SQL: "ALTER TABLE t\n\tADD c INT -- \x1b[31m", DDL: true}}
	_, x := sample()
	x.Rows = x.Rows[2:]
	for _, c := range []struct {
		printer Text
		msg     kafka.Message
		want    string
	}{
		{Text{}, kafkace.ToMessage(&ddl, statement.AppendJSON(nil)), "  ddl in shop: ALTER TABLE t  ADD c INT -- ?[31m\n"},
		{Text{}, kafkace.ToMessage(&refused, x.AppendJSON(nil)), "  refused: Error 1146: Table 'shop.orders' doesn't exist\n  delete shop.orders id=7 |"},
		{Text{}, kafkace.ToMessage(&refused, []byte(`{"broken`)), "  payload: string at byte 1 does not end"},
		{Text{}, kafkace.ToMessage(&heartbeat, []byte(`{}`)), ""},
		{Text{Heartbeats: true}, kafkace.ToMessage(&heartbeat, []byte(`{}`)), "heartbeat 3/17 id 7a5c:12 (partition 0 offset 0)\n"},
		{Text{}, kafka.Message{Partition: 1, Offset: 2, Value: []byte("\x1b")}, "partition 1 offset 2: record is no CloudEvent"},
	} {
		got := print(t, c.printer, c.msg)
		if (c.want == "") != (got == "") || !strings.Contains(got, c.want) {
			t.Errorf("got %q, want it to say %q", got, c.want)
		}
	}
}

// Nothing that a row holds may reach the terminal as a command, or break a line.
func TestTextIsSafe(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m, _ := sample()
		s := rapid.OneOf(rapid.String(), rapid.SampledFrom([]string{"\x1b]0;x\a", "\u202e", "a\nb", "\x9b31m"}))
		bytes := rapid.Map(s, func(s string) []byte { return []byte(s) })
		name := rapid.Map(s, func(s string) string { return "n" + s })
		x := &event.Transaction{
			Tables: []event.Table{{DB: name.Draw(t, "db"), Name: name.Draw(t, "table"), Key: []int{0}, Columns: []event.Column{
				{Name: name.Draw(t, "column"), Type: event.Text, Charset: rapid.SampledFrom([]string{"utf8mb4", "latin1", "gbk", "utf16", "unheard"}).Draw(t, "charset")},
			}}},
			Rows: []event.Row{{Op: event.Insert, After: []event.Value{{Kind: event.Data, Data: bytes.Draw(t, "value")}}}},
		}
		m.Reason, m.ID = s.Draw(t, "reason"), name.Draw(t, "id")
		msg := kafkace.ToMessage(&m, x.AppendJSON(nil))
		var b strings.Builder
		if err := (Text{Width: rapid.IntRange(0, 10).Draw(t, "width")}).Print(&b, &msg); err != nil {
			t.Fatal(err)
		}
		lines := strings.Split(strings.TrimSuffix(b.String(), "\n"), "\n")
		if len(lines) > 3 {
			t.Fatalf("%d lines: %q", len(lines), b.String())
		}
		for _, line := range lines {
			if clean(line) != line {
				t.Fatalf("line holds %q", line)
			}
		}
	})
}

func TestJSON(t *testing.T) {
	m, x := sample()
	msg := kafkace.ToMessage(&m, x.AppendJSON(nil))
	msg.Partition, msg.Offset = 4, 4711
	got := print(t, JSON{}, msg)
	if strings.Count(got, "\n") != 1 || !strings.HasSuffix(got, "\n") {
		t.Errorf("not one line: %q", got)
	}
	var e struct {
		SpecVersion, ID, Sequence                 string
		KnativeKafkaPartition, KnativeKafkaOffset int
		Data                                      json.RawMessage
	}
	if err := json.Unmarshal([]byte(got), &e); err != nil {
		t.Fatal(err)
	}
	if e.SpecVersion != "1.0" || e.ID != "7a5c:12" || e.Sequence != "00000000000000000017" || e.KnativeKafkaPartition != 4 || e.KnativeKafkaOffset != 4711 {
		t.Errorf("got %+v", e)
	}
	if back, err := event.DecodeTransaction(e.Data); err != nil || len(back.Rows) != 3 {
		t.Errorf("data: %v", err)
	}
	for _, bad := range []kafka.Message{{Value: []byte("x")}, kafkace.ToMessage(&m, []byte("{\n"))} {
		if got := print(t, JSON{}, bad); strings.Count(got, "\n") != 1 || !json.Valid([]byte(got)) {
			t.Errorf("bad record prints %q", got)
		}
	}
}

func TestDecode(t *testing.T) {
	for _, c := range []struct{ charset, data, want string }{
		{"utf8mb4", "双😀", "双😀"},
		{"latin1", "\xe9\x80", "é€"},
		{"gbk", "\xcb\xab\x81\x5c", "双乗"},
		{"gb18030", "\x94\x39\xfc\x36", "😀"},
		{"big5", "\xa5\x5c", "功"},
		{"cp932", "\x83\x65", "テ"},
		{"euckr", "\xc7\xd1", "한"},
		{"utf16", "\x53\xcc\xd8\x3d\xde\x00", "双😀"},
		{"utf16le", "\xcc\x53", "双"},
		{"utf32", "\x00\x01\xf6\x00", "😀"},
		{"koi8r", "\xd0", "п"},
	} {
		if got, ok := decode(c.charset, []byte(c.data)); !ok || got != c.want {
			t.Errorf("%s %x is %q, %v; want %q", c.charset, c.data, got, ok, c.want)
		}
	}
	for charset, data := range map[string]string{"utf8mb4": "\xff", "gbk": "\x81", "big5": "\xa5", "utf16": "\xd8\x00", "klingon": "a"} {
		if got, ok := decode(charset, []byte(data)); ok {
			t.Errorf("%s %x is %q", charset, data, got)
		}
	}
}
