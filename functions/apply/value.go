package apply

import (
	"bytes"
	"encoding/binary"
	"math/big"
	"strconv"
	"strings"

	"github.com/tandem-dc/tandem/shared/event"
)

// bind turns a value into a parameter of a prepared statement in a session whose
// character set is binary. ok is false for text that is no value of the type.
func bind(c *event.Column, v event.Value) (param any, ok bool) {
	switch v.Kind {
	case event.Null:
		return nil, true
	case event.Zero:
		return int64(0), true
	case event.Absent:
		return nil, false
	}
	text := string(v.Data)
	switch c.Type {
	case event.TinyInt, event.SmallInt, event.MediumInt, event.Int, event.BigInt, event.Year:
		// As numbers: a year "0000" as text would become 2000.
		if c.Unsigned {
			n, err := strconv.ParseUint(text, 10, 64)
			return n, err == nil
		}
		n, err := strconv.ParseInt(text, 10, 64)
		return n, err == nil
	case event.Bit:
		n, err := strconv.ParseUint(text, 10, 64)
		return n, err == nil
	case event.Float:
		// The double that equals the float: the server rounds it back to the same.
		n, err := strconv.ParseFloat(text, 32)
		return n, err == nil
	case event.Double:
		n, err := strconv.ParseFloat(text, 64)
		return n, err == nil
	}
	if v.Data == nil {
		return []byte{}, true // a nil slice would be NULL
	}
	return v.Data, true
}

// comparableType tells whether a before image's value finds the same value again in
// the column. Floats and JSON may print differently than they were stored.
func comparableType(t event.Type) bool {
	switch t {
	case event.Float, event.Double, event.JSON, event.Geometry, event.Vector:
		return false
	}
	return true
}

// same tells whether a value that stands in a row here is the event's, by type.
func same(c *event.Column, a, b event.Value) bool {
	if a.Kind == event.Zero || b.Kind == event.Zero {
		// A row read back shows index 0 of an ENUM as the empty string.
		empty := func(v event.Value) bool { return v.Kind == event.Zero || v.Kind == event.Data && len(v.Data) == 0 }
		return empty(a) && empty(b)
	}
	if a.Kind != b.Kind {
		return false
	}
	if a.Kind != event.Data || bytes.Equal(a.Data, b.Data) {
		return true
	}
	x, y := string(a.Data), string(b.Data)
	switch c.Type {
	case event.TinyInt, event.SmallInt, event.MediumInt, event.Int, event.BigInt, event.Year, event.Bit, event.Decimal:
		m, ok1 := new(big.Rat).SetString(plain(x))
		n, ok2 := new(big.Rat).SetString(plain(y))
		return ok1 && ok2 && m.Cmp(n) == 0
	case event.Float, event.Double:
		bits := 64
		if c.Type == event.Float {
			bits = 32
		}
		m, err1 := strconv.ParseFloat(x, bits)
		n, err2 := strconv.ParseFloat(y, bits)
		return err1 == nil && err2 == nil && m == n
	case event.Date, event.Time, event.DateTime, event.Timestamp:
		return moment(x) == moment(y)
	}
	return false
}

// plain refuses what big.Rat reads and MySQL does not print; it bounds the exponent.
func plain(s string) string {
	if len(s) > 128 || strings.ContainsAny(s, "eE/_xX") {
		return ""
	}
	return s
}

// moment is a temporal value without the zeros that end its fraction; as text it
// sorts by time (of DATETIME and TIMESTAMP).
func moment(s string) string {
	if strings.IndexByte(s, '.') < 0 {
		return s
	}
	return strings.TrimSuffix(strings.TrimRight(s, "0"), ".")
}

// fromRow turns what a SELECT in a binary session returned into an event's value.
func fromRow(t event.Type, b []byte) event.Value {
	if b == nil {
		return event.Value{Kind: event.Null}
	}
	if t == event.Bit && len(b) <= 8 {
		var x [8]byte
		copy(x[8-len(b):], b)
		return event.Of(strconv.FormatUint(binary.BigEndian.Uint64(x[:]), 10))
	}
	return event.Value{Kind: event.Data, Data: bytes.Clone(b)}
}
