package binlog

import (
	"fmt"
	"math"
	"strconv"
	"time"

	"github.com/go-mysql-org/go-mysql/mysql"

	"github.com/tandem-dc/tandem/shared/event"
)

// decoder reads the values of one column.
type decoder struct {
	mapColumn
	kind event.Type
}

// value reads one value that is neither absent nor NULL. Errors of c are left to
// the caller.
func (d *decoder) value(c *cursor) (event.Value, error) {
	switch d.typ {
	case mysql.MYSQL_TYPE_TINY:
		return d.integer(c.little(1), 8), nil
	case mysql.MYSQL_TYPE_SHORT:
		return d.integer(c.little(2), 16), nil
	case mysql.MYSQL_TYPE_INT24:
		return d.integer(c.little(3), 24), nil
	case mysql.MYSQL_TYPE_LONG:
		return d.integer(c.little(4), 32), nil
	case mysql.MYSQL_TYPE_LONGLONG:
		return d.integer(c.little(8), 64), nil
	case mysql.MYSQL_TYPE_NEWDECIMAL:
		b, err := appendDecimal(nil, c, int(d.meta>>8), int(d.meta&0xff))
		return data(b), err
	case mysql.MYSQL_TYPE_FLOAT:
		return data(strconv.AppendFloat(nil, float64(math.Float32frombits(uint32(c.little(4)))), 'g', -1, 32)), nil
	case mysql.MYSQL_TYPE_DOUBLE:
		return data(strconv.AppendFloat(nil, math.Float64frombits(c.little(8)), 'g', -1, 64)), nil
	case mysql.MYSQL_TYPE_BIT:
		return data(strconv.AppendUint(nil, c.big(d.bits()/8+min(d.bits()%8, 1)), 10)), nil
	case mysql.MYSQL_TYPE_ENUM:
		return d.enumLabel(c.little(int(d.meta)))
	case mysql.MYSQL_TYPE_SET:
		return d.setLabels(c.little(int(d.meta)))
	case mysql.MYSQL_TYPE_STRING, mysql.MYSQL_TYPE_VARCHAR, mysql.MYSQL_TYPE_VAR_STRING:
		return d.text(c), nil
	case mysql.MYSQL_TYPE_BLOB, mysql.MYSQL_TYPE_GEOMETRY, mysql.MYSQL_TYPE_VECTOR:
		return data(c.blob(d.meta)), nil
	case mysql.MYSQL_TYPE_JSON:
		return jsonDocument(c.blob(d.meta))
	}
	b, err := d.temporal(c)
	return data(b), err
}

func data(b []byte) event.Value {
	if b == nil {
		b = []byte{}
	}
	return event.Value{Kind: event.Data, Data: b}
}

// blob reads bytes after a length that takes size bytes.
func (c *cursor) blob(size uint16) []byte {
	if size < 1 || size > 4 {
		c.fail(fmt.Errorf("length of %d bytes is none that a server writes", size))
		return nil
	}
	return c.take(int(c.little(int(size))))
}

func (d *decoder) integer(v uint64, bits int) event.Value {
	if d.unsigned {
		return data(strconv.AppendUint(nil, v, 10))
	}
	shift := 64 - bits
	return data(strconv.AppendInt(nil, int64(v<<shift)>>shift, 10))
}

// bits is the width of a BIT column.
func (d *mapColumn) bits() int { return int(d.meta>>8)*8 + int(d.meta&0xff) }

func (d *decoder) text(c *cursor) event.Value {
	size := 1
	if d.meta > 255 {
		size = 2
	}
	b := c.take(int(c.little(size)))
	if d.kind == event.Binary && c.err == nil {
		// The server strips trailing zeros.
		if len(b) < int(d.meta) {
			b = append(make([]byte, 0, d.meta), b...)[:d.meta]
		}
	}
	return data(b)
}

func (d *decoder) enumLabel(index uint64) (event.Value, error) {
	if index == 0 {
		return event.Value{Kind: event.Zero}, nil
	}
	if index > uint64(len(d.labels)) {
		return event.Value{}, fmt.Errorf("enum index %d, but there are %d labels", index, len(d.labels))
	}
	return data(d.labels[index-1]), nil
}

func (d *decoder) setLabels(bits uint64) (event.Value, error) {
	b := []byte{}
	for i := 0; bits != 0; i, bits = i+1, bits>>1 {
		if bits&1 == 0 {
			continue
		}
		if i >= len(d.labels) {
			return event.Value{}, fmt.Errorf("set has bit %d, but there are %d labels", i, len(d.labels))
		}
		if len(b) > 0 {
			b = append(b, ',')
		}
		b = append(b, d.labels[i]...)
	}
	return data(b), nil
}

// decimalBytes is how many bytes n digits take, for n below 9.
var decimalBytes = [9]int{0, 1, 1, 2, 2, 3, 3, 4, 4}

// appendDecimal reads a DECIMAL: groups of up to nine digits, big-endian, all
// bits inverted if negative, and the highest bit inverted. A column has at most 65 digits;
// inside JSON the server writes as many as its buffer may hold, with zeros in front.
func appendDecimal(b []byte, c *cursor, precision, scale int) ([]byte, error) {
	if precision < 1 || precision > 81 || scale > precision {
		return nil, fmt.Errorf("decimal(%d,%d) is none", precision, scale)
	}
	whole := precision - scale
	raw := c.take(whole/9*4 + decimalBytes[whole%9] + scale/9*4 + decimalBytes[scale%9])
	if c.err != nil {
		return nil, c.err
	}
	d := &cursor{b: append([]byte(nil), raw...)}
	negative := d.b[0]&0x80 == 0
	d.b[0] ^= 0x80
	if negative {
		b = append(b, '-')
		for i := range d.b {
			d.b[i] = ^d.b[i]
		}
	}
	start := len(b)
	group := func(digits int) {
		size := 4
		if digits < 9 {
			size = decimalBytes[digits]
		}
		s := strconv.FormatUint(d.big(size), 10)
		for range digits - len(s) {
			b = append(b, '0')
		}
		b = append(b, s...)
	}
	if whole%9 > 0 {
		group(whole % 9)
	}
	for range whole / 9 {
		group(9)
	}
	zeros := start
	for zeros < len(b)-1 && b[zeros] == '0' {
		zeros++
	}
	b = append(b[:start], b[zeros:]...)
	if len(b) == start {
		b = append(b, '0')
	}
	if scale == 0 {
		return b, nil
	}
	b = append(b, '.')
	for range scale / 9 {
		group(9)
	}
	if scale%9 > 0 {
		group(scale % 9)
	}
	return b, nil
}

func (d *decoder) temporal(c *cursor) ([]byte, error) {
	digits := int(d.meta)
	if digits > 6 {
		return nil, fmt.Errorf("%d fractional digits", digits)
	}
	fraction := (digits + 1) / 2 // bytes
	switch d.typ {
	case mysql.MYSQL_TYPE_YEAR:
		y := c.little(1)
		if y != 0 {
			y += 1900
		}
		return appendPadded(nil, y, 4), nil
	case mysql.MYSQL_TYPE_DATE, mysql.MYSQL_TYPE_NEWDATE:
		v := c.little(3)
		return appendDate(nil, v>>9, v>>5&15, v&31), nil
	case mysql.MYSQL_TYPE_TIME2:
		// Offset binary over whole and fractional part together.
		size := 3 + fraction
		v := int64(c.big(size)) - 1<<(8*size-1)
		return appendTime(nil, v, fraction, digits), nil
	case mysql.MYSQL_TYPE_DATETIME2:
		v := c.big(5) - 1<<39
		b := appendDate(nil, v>>22/13, v>>22%13, v>>17&31)
		b = appendClock(append(b, ' '), v>>12&31, v>>6&63, v&63)
		return appendFraction(b, c.big(fraction), fraction, digits), nil
	case mysql.MYSQL_TYPE_TIMESTAMP2:
		sec, frac := c.big(4), c.big(fraction)
		return appendTimestamp(nil, sec, frac, fraction, digits), nil
	case mysql.MYSQL_TYPE_TIMESTAMP:
		return appendTimestamp(nil, c.little(4), 0, 0, 0), nil
	case mysql.MYSQL_TYPE_DATETIME:
		v := c.little(8)
		b := appendDate(nil, v/1e10, v/1e8%100, v/1e6%100)
		return appendClock(append(b, ' '), v/1e4%100, v/100%100, v%100), nil
	case mysql.MYSQL_TYPE_TIME:
		v := int64(c.little(3)<<40) >> 40
		var b []byte
		if v < 0 {
			b, v = append(b, '-'), -v
		}
		return appendClock(b, uint64(v/10000), uint64(v/100%100), uint64(v%100)), nil
	}
	return nil, fmt.Errorf("type %d is unknown", d.typ)
}

func appendTimestamp(b []byte, sec, frac uint64, fraction, digits int) []byte {
	if sec == 0 && frac == 0 {
		b = append(b, "0000-00-00 00:00:00"...)
	} else {
		b = time.Unix(int64(sec), 0).UTC().AppendFormat(b, time.DateTime)
	}
	return appendFraction(b, frac, fraction, digits)
}

// appendTime prints a TIME whose value counts from zero in units of 256^-fraction.
func appendTime(b []byte, v int64, fraction, digits int) []byte {
	if v < 0 {
		b, v = append(b, '-'), -v
	}
	u := uint64(v)
	whole := u >> (8 * fraction)
	b = appendClock(b, whole>>12&1023, whole>>6&63, whole&63)
	return appendFraction(b, u&(1<<(8*fraction)-1), fraction, digits)
}

func appendDate(b []byte, year, month, day uint64) []byte {
	b = append(appendPadded(b, year, 4), '-')
	b = append(appendPadded(b, month, 2), '-')
	return appendPadded(b, day, 2)
}

func appendClock(b []byte, hour, minute, second uint64) []byte {
	b = append(appendPadded(b, hour, 2), ':')
	b = append(appendPadded(b, minute, 2), ':')
	return appendPadded(b, second, 2)
}

// appendFraction prints digits places of a fraction stored in so many bytes, each of
// which holds two decimal places.
func appendFraction(b []byte, frac uint64, bytes, digits int) []byte {
	if digits == 0 {
		return b
	}
	b = appendPadded(append(b, '.'), frac, 2*bytes)
	return b[:len(b)-(2*bytes-digits)]
}

func appendPadded(b []byte, v uint64, width int) []byte {
	for limit := uint64(math.Pow10(width - 1)); limit > v && limit > 1; limit /= 10 {
		b = append(b, '0')
	}
	return strconv.AppendUint(b, v, 10)
}
