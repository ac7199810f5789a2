package tail

import (
	"encoding/hex"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"unicode"

	ce "github.com/cloudevents/sdk-go/v2/event"
	"github.com/segmentio/kafka-go"

	"github.com/tandem-dc/tandem/shared/event"
	"github.com/tandem-dc/tandem/shared/kafkace"
)

// Text prints events for people: one line for the event and one for each row.
// Whatever a terminal might obey is quoted.
type Text struct {
	Width      int  // characters of one value at most; 0: all
	Heartbeats bool // print heartbeats as well
}

// Print writes one record.
func (t Text) Print(w io.Writer, m *kafka.Message) error {
	e, err := kafkace.CloudEvent(m)
	if err != nil {
		_, err = fmt.Fprintf(w, "partition %d offset %d: %s\n", m.Partition, m.Offset, clean(err.Error()))
		return err
	}
	if e.Type() == event.TypeHeartbeat && !t.Heartbeats {
		return nil
	}
	var b strings.Builder
	t.head(&b, m, &e)
	t.payload(&b, &e)
	_, err = io.WriteString(w, b.String())
	return err
}

// kinds are short names of the types.
var kinds = map[string]string{
	event.TypeTransaction: "transaction", event.TypeStatement: "statement",
	event.TypeHeartbeat: "heartbeat", event.TypeDeadLetter: "dead letter",
}

func (t Text) head(b *strings.Builder, m *kafka.Message, e *ce.Event) {
	ext := func(name string) string {
		if v, ok := e.Extensions()[name]; ok {
			return fmt.Sprint(v)
		}
		return ""
	}
	at := "no time"
	if !e.Time().IsZero() {
		at = e.Time().UTC().Format("2006-01-02 15:04:05.000000")
	}
	kind := kinds[e.Type()]
	if kind == "" {
		kind = quote(e.Type())
	}
	fmt.Fprintf(b, "%s %s %s", at, quote(orDash(ext(event.ExtOrigin))), kind)
	if epoch := ext(event.ExtEpoch); epoch != "" {
		fmt.Fprintf(b, " %s/%s", quote(epoch), quote(number(ext(event.ExtSequence))))
		if last := ext(event.ExtLastCommitted); last != "" && e.Type() != event.TypeHeartbeat {
			fmt.Fprintf(b, " after %s", quote(last))
		}
	}
	fmt.Fprintf(b, " id %s", quote(e.ID()))
	if applied := ext(event.ExtApplied); applied != "" {
		fmt.Fprintf(b, " applied %s", quote(applied))
	}
	fmt.Fprintf(b, " (partition %d offset %d)\n", m.Partition, m.Offset)
	if reason := ext(event.ExtReason); reason != "" {
		fmt.Fprintf(b, "  refused: %s\n", clean(reason))
	}
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// number drops the zeros that make a sequence sort as text.
func number(s string) string {
	n, err := strconv.ParseUint(s, 10, 64)
	if err != nil {
		return orDash(s)
	}
	return strconv.FormatUint(n, 10)
}

func (t Text) payload(b *strings.Builder, e *ce.Event) {
	if e.Type() == event.TypeHeartbeat {
		return
	}
	x, err := event.DecodeTransaction(e.Data())
	if err != nil {
		short, rest := t.cut(strings.ToValidUTF8(string(e.Data()), "?"))
		fmt.Fprintf(b, "  %s\n  %s%s\n", clean(err.Error()), clean(short), rest)
		return
	}
	if s := x.Statement; s != nil {
		what := "data"
		if s.DDL {
			what = "ddl"
		}
		fmt.Fprintf(b, "  %s in %s: %s\n", what, quote(orDash(s.DB)), clean(strings.ToValidUTF8(s.SQL, "?")))
	}
	for i := range x.Rows {
		t.row(b, &x.Tables[x.Rows[i].Table], &x.Rows[i])
	}
}

var ops = map[event.Op]string{event.Insert: "insert", event.Update: "update", event.Delete: "delete"}

// row prints the key first, then what was written; of an update what changed.
func (t Text) row(b *strings.Builder, table *event.Table, r *event.Row) {
	fmt.Fprintf(b, "  %s %s.%s", ops[r.Op], quote(table.DB), quote(table.Name))
	key, image := r.Before, r.After
	if key == nil {
		key = r.After
	}
	if image == nil {
		image = r.Before
	}
	for _, i := range table.Key {
		fmt.Fprintf(b, " %s=%s", quote(table.Columns[i].Name), t.value(&table.Columns[i], key[i]))
	}
	b.WriteString(" |")
	for i := range table.Columns {
		c := &table.Columns[i]
		switch {
		case r.Op == event.Update && image[i].Kind == event.Absent: // a partial image holds what changed
		case r.Op == event.Update && !key[i].Equal(image[i]):
			fmt.Fprintf(b, " %s: %s -> %s", quote(c.Name), t.value(c, key[i]), t.value(c, image[i]))
		case r.Op != event.Update && !slices.Contains(table.Key, i):
			fmt.Fprintf(b, " %s=%s", quote(c.Name), t.value(c, image[i]))
		}
	}
	b.WriteByte('\n')
}

func (t Text) value(c *event.Column, v event.Value) string {
	switch v.Kind {
	case event.Absent:
		return "?"
	case event.Null:
		return "NULL"
	case event.Zero:
		return "(not a label)"
	}
	if !c.Type.Bytes() {
		charset := c.Charset
		if !c.Type.Textual() {
			charset = ""
		}
		if s, ok := decode(charset, v.Data); ok {
			if s == "NULL" {
				return `"NULL"`
			}
			return t.cutQuoted(s)
		}
	}
	return t.hex(v.Data)
}

func (t Text) hex(data []byte) string {
	if n := t.Width / 2; t.Width > 0 && len(data) > n {
		return fmt.Sprintf("0x%s...(%d bytes)", hex.EncodeToString(data[:n]), len(data))
	}
	return "0x" + hex.EncodeToString(data)
}

// quote returns s as it is if a person can tell where it begins and ends, else
// as a Go string literal.
func quote(s string) string {
	if s == "" || strings.ContainsAny(s, " \"'`=|?") || clean(s) != s {
		return strconv.Quote(s)
	}
	return s
}

func (t Text) cutQuoted(s string) string {
	short, rest := t.cut(s)
	return quote(short) + rest
}

// cut shortens s to Width characters, and says in rest what is missing.
func (t Text) cut(s string) (short, rest string) {
	if t.Width <= 0 || len(s) <= t.Width {
		return s, ""
	}
	n := 0
	for i := range s {
		if n == t.Width {
			return s[:i], fmt.Sprintf("...(%d bytes)", len(s))
		}
		n++
	}
	return s, ""
}

// clean replaces what a terminal might obey.
func clean(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\n' || r == '\t' || r == '\r':
			return ' '
		case !unicode.IsPrint(r):
			return '?'
		}
		return r
	}, s)
}
