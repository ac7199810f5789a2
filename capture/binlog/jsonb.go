package binlog

import (
	"encoding/base64"
	"errors"
	"fmt"
	"math"
	"strconv"

	"github.com/go-mysql-org/go-mysql/mysql"
)

// Types of values in MySQL's binary JSON.
const (
	jsonSmallObject = iota
	jsonLargeObject
	jsonSmallArray
	jsonLargeArray
	jsonLiteral
	jsonInt16
	jsonUint16
	jsonInt32
	jsonUint32
	jsonInt64
	jsonUint64
	jsonDouble
	jsonString
	jsonOpaque = 15
)

// jsonDepth is the nesting that MySQL allows.
const jsonDepth = 100

var errJSON = errors.New("JSON document is damaged")

// append appends the text of a binary JSON document as MySQL prints it. An
// empty document, which an INSERT IGNORE of NULL leaves, reads as null there.
func (r *jsonReader) append(b, doc []byte) ([]byte, error) {
	if len(doc) == 0 {
		return append(b, "null"...), nil
	}
	return r.value(b, doc[0], doc[1:], 0)
}

func (r *jsonReader) value(b []byte, typ byte, doc []byte, depth int) ([]byte, error) {
	if depth > jsonDepth {
		return nil, errJSON
	}
	c := &cursor{b: doc}
	switch typ {
	case jsonSmallObject, jsonLargeObject, jsonSmallArray, jsonLargeArray:
		return r.container(b, typ, doc, depth)
	case jsonLiteral:
		literals := []string{"null", "true", "false"}
		i := c.byte()
		if c.err != nil || int(i) >= len(literals) {
			return nil, errJSON
		}
		return append(b, literals[i]...), nil
	case jsonInt16:
		b = strconv.AppendInt(b, int64(int16(c.little(2))), 10)
	case jsonUint16:
		b = strconv.AppendUint(b, c.little(2), 10)
	case jsonInt32:
		b = strconv.AppendInt(b, int64(int32(c.little(4))), 10)
	case jsonUint32:
		b = strconv.AppendUint(b, c.little(4), 10)
	case jsonInt64:
		b = strconv.AppendInt(b, int64(c.little(8)), 10)
	case jsonUint64:
		b = strconv.AppendUint(b, c.little(8), 10)
	case jsonDouble:
		b = appendJSONDouble(b, math.Float64frombits(c.little(8)))
	case jsonString:
		b = appendJSONString(b, c.take(c.jsonLength()))
	case jsonOpaque:
		field := c.byte()
		raw := c.take(c.jsonLength())
		if c.err != nil {
			return nil, errJSON
		}
		start := len(b)
		b, err := appendJSONOpaque(b, field, raw)
		if err == nil {
			r.note(field, b[start:], raw)
		}
		return b, err
	default:
		return nil, fmt.Errorf("%w: type %d", errJSON, typ)
	}
	if c.err != nil {
		return nil, errJSON
	}
	return b, nil
}

// jsonLength reads seven bits of a length per byte, lowest first.
func (c *cursor) jsonLength() int {
	n := 0
	for shift := 0; shift < 35; shift += 7 {
		x := c.byte()
		n |= int(x&0x7f) << shift
		if x&0x80 == 0 {
			return n
		}
	}
	c.fail(errJSON)
	return 0
}

// container reads an object or array: the number of elements, the size in bytes,
// entries of keys (place and length), entries of values (type and place, or the
// value itself if it is small), then keys and values.
func (r *jsonReader) container(b []byte, typ byte, doc []byte, depth int) ([]byte, error) {
	width := 2
	if typ == jsonLargeObject || typ == jsonLargeArray {
		width = 4
	}
	head := &cursor{b: doc}
	count, size := head.little(width), head.little(width)
	if head.err != nil || size > uint64(len(doc)) || size < uint64(2*width) || count > size {
		return nil, errJSON
	}
	doc = doc[:size]
	head.b = doc[2*width:]
	object := typ == jsonSmallObject || typ == jsonLargeObject
	opening, closing := byte('['), byte(']')
	keys := &cursor{}
	if object {
		opening, closing = '{', '}'
		keys.b = head.take(int(count) * (width + 2))
	}
	b = append(b, opening)
	r.path = append(r.path, jsonLeg{})
	for i := range count {
		if i > 0 {
			b = append(b, ", "...)
		}
		if object {
			place, length := keys.little(width), keys.little(2)
			if place > size || place+length > size {
				return nil, errJSON
			}
			r.path[depth].key = doc[place : place+length]
			b = append(appendJSONString(b, r.path[depth].key), ": "...)
		}
		r.path[depth].index = int(i)
		kind := head.byte()
		entry := head.take(width)
		if head.err != nil || keys.err != nil {
			return nil, errJSON
		}
		value := entry
		if !jsonInline(kind, width) {
			place := (&cursor{b: entry}).little(width)
			if place > size {
				return nil, errJSON
			}
			value = doc[place:]
		}
		var err error
		if b, err = r.value(b, kind, value, depth+1); err != nil {
			return nil, err
		}
	}
	r.path = r.path[:depth]
	return append(b, closing), nil
}

// jsonInline reports whether a value stands in its entry.
func jsonInline(kind byte, width int) bool {
	switch kind {
	case jsonLiteral, jsonInt16, jsonUint16:
		return true
	case jsonInt32, jsonUint32:
		return width == 4
	}
	return false
}

func appendJSONString(b, s []byte) []byte {
	const hex = "0123456789abcdef"
	b = append(b, '"')
	for _, c := range s {
		switch c {
		case '"', '\\':
			b = append(b, '\\', c)
		case '\b':
			b = append(b, `\b`...)
		case '\f':
			b = append(b, `\f`...)
		case '\n':
			b = append(b, `\n`...)
		case '\r':
			b = append(b, `\r`...)
		case '\t':
			b = append(b, `\t`...)
		default:
			if c < 0x20 {
				b = append(b, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
			} else {
				b = append(b, c)
			}
		}
	}
	return append(b, '"')
}

// appendJSONDouble prints the shortest digits that read back as v, with a
// point or an exponent, so that it stays a double. MySQL takes an exponent from 16
// places before or 15 zeros after the point on.
func appendJSONDouble(b []byte, v float64) []byte {
	digits := strconv.AppendFloat(nil, v, 'e', -1, 64)
	e := len(digits) - 1
	for e > 0 && digits[e] != 'e' {
		e--
	}
	exponent, _ := strconv.Atoi(string(digits[e+1:]))
	switch {
	case v == 0:
		return append(b, strconv.FormatFloat(v, 'f', 1, 64)...)
	case exponent > 14 || exponent < -15:
		b = append(b, digits[:e]...)
		return strconv.AppendInt(append(b, 'e'), int64(exponent), 10)
	}
	b = strconv.AppendFloat(b, v, 'f', -1, 64)
	if v == math.Trunc(v) {
		b = append(b, ".0"...)
	}
	return b
}

// appendJSONOpaque prints values of SQL types that JSON does not have.
func appendJSONOpaque(b []byte, field byte, raw []byte) ([]byte, error) {
	c := &cursor{b: raw}
	switch field {
	case mysql.MYSQL_TYPE_NEWDECIMAL:
		precision, scale := int(c.byte()), int(c.byte())
		return appendDecimal(b, c, precision, scale)
	case mysql.MYSQL_TYPE_DATE, mysql.MYSQL_TYPE_TIME, mysql.MYSQL_TYPE_DATETIME, mysql.MYSQL_TYPE_TIMESTAMP:
		packed := int64(c.little(8))
		if c.err != nil {
			return nil, errJSON
		}
		b = append(b, '"')
		if field == mysql.MYSQL_TYPE_TIME {
			b = appendTime(b, packed, 3, 6)
		} else {
			v := uint64(packed) >> 24
			b = appendDate(b, v>>22/13, v>>22%13, v>>17&31)
			if field != mysql.MYSQL_TYPE_DATE {
				b = appendClock(append(b, ' '), v>>12&31, v>>6&63, v&63)
				b = appendFraction(b, uint64(packed)&(1<<24-1), 3, 6)
			}
		}
		return append(b, '"'), nil
	}
	b = append(b, `"base64:type`...)
	b = append(strconv.AppendUint(b, uint64(field), 10), ':')
	// The server breaks the lines, as mail does.
	const line = 76 / 4 * 3
	for len(raw) > line {
		b = append(base64.StdEncoding.AppendEncode(b, raw[:line]), `\n`...)
		raw = raw[line:]
	}
	return append(base64.StdEncoding.AppendEncode(b, raw), '"'), nil
}
