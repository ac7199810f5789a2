package binlog

import "errors"

var errShort = errors.New("the event is shorter than what it announces")

// cursor reads the fields of an event. Once it has run over the end it yields
// zero values, and err tells.
type cursor struct {
	b   []byte
	err error
}

// fail ends reading: nothing is left, so that loops end too.
func (c *cursor) fail(err error) {
	if c.err == nil {
		c.err = err
	}
	c.b = nil
}

// take returns the next n bytes, or nil.
func (c *cursor) take(n int) []byte {
	if c.err != nil || n < 0 || n > len(c.b) {
		c.fail(errShort)
		return nil
	}
	b := c.b[:n:n]
	c.b = c.b[n:]
	return b
}

// little reads n bytes as an integer, least significant byte first.
func (c *cursor) little(n int) (v uint64) {
	for i, b := range c.take(n) {
		v |= uint64(b) << (8 * i)
	}
	return v
}

// big reads n bytes as an integer, most significant byte first.
func (c *cursor) big(n int) (v uint64) {
	for _, b := range c.take(n) {
		v = v<<8 | uint64(b)
	}
	return v
}

func (c *cursor) byte() byte { return byte(c.little(1)) }

// packed reads a length-encoded integer.
func (c *cursor) packed() uint64 {
	switch first := c.byte(); first {
	case 0xfb, 0xff:
		c.fail(errShort)
		return 0
	case 0xfc:
		return c.little(2)
	case 0xfd:
		return c.little(3)
	case 0xfe:
		return c.little(8)
	default:
		return uint64(first)
	}
}

// count reads a length-encoded integer that counts things of at least one bit
// each, so it cannot exceed what is left.
func (c *cursor) count() int {
	n := c.packed()
	if n > uint64(len(c.b))*8 {
		c.fail(errShort)
		return 0
	}
	return int(n)
}

// lenBytes reads bytes after their length-encoded length.
func (c *cursor) lenBytes() []byte {
	n := c.packed()
	if n > uint64(len(c.b)) {
		c.fail(errShort)
		return nil
	}
	return c.take(int(n))
}

func (c *cursor) bitmap(bits int) bitmap { return bitmap(c.take((bits + 7) / 8)) }

// bitmap has the first bit in the lowest place of the first byte.
type bitmap []byte

func (b bitmap) has(i int) bool { return i>>3 < len(b) && b[i>>3]&(1<<(i&7)) != 0 }

// hasHigh is for bitmaps that begin with the highest place.
func (b bitmap) hasHigh(i int) bool { return i>>3 < len(b) && b[i>>3]&(0x80>>(i&7)) != 0 }

func (b bitmap) ones(n int) (count int) {
	for i := range n {
		if b.has(i) {
			count++
		}
	}
	return count
}
