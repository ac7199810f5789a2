package event

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"slices"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"
)

// parser reads JSON (RFC 8259) strictly: no repeated names that a reader asks
// for, no lone surrogates, nothing after the end. It exists because
// encoding/json takes five times as long for a payload, and replaces what is
// no Unicode instead of refusing it.
type parser struct {
	b []byte
	s string // the same, to cut names out of without copying each
	i int
}

// maxDepth bounds the nesting of what is skipped.
const maxDepth = 64

func newParser(b []byte) (*parser, error) {
	if !utf8.Valid(b) {
		return nil, fmt.Errorf("not UTF-8")
	}
	return &parser{b: b, s: string(b)}, nil
}

func (p *parser) fail(what string) error {
	if p.i >= len(p.b) {
		return fmt.Errorf("JSON ends where %s is expected", what)
	}
	return fmt.Errorf("no %s at byte %d, which begins %.20q", what, p.i, p.b[p.i:])
}

func (p *parser) left() int { return len(p.b) - p.i }

func (p *parser) space() {
	for p.i < len(p.b) {
		switch p.b[p.i] {
		case ' ', '\t', '\n', '\r':
			p.i++
		default:
			return
		}
	}
}

// take consumes c, after space, if it comes next.
func (p *parser) take(c byte) bool {
	p.space()
	if p.i < len(p.b) && p.b[p.i] == c {
		p.i++
		return true
	}
	return false
}

// literal consumes word if it comes next and ends there.
func (p *parser) literal(word string) bool {
	p.space()
	end := p.i + len(word)
	if end > len(p.b) || p.s[p.i:end] != word {
		return false
	}
	if end < len(p.b) {
		switch p.b[end] {
		case ' ', '\t', '\n', '\r', ',', ']', '}':
		default:
			return false
		}
	}
	p.i = end
	return true
}

func (p *parser) end() error {
	p.space()
	if p.i < len(p.b) {
		return p.fail("end")
	}
	return nil
}

// maxNames bounds the names in one object of the schema, so that looking for
// repeated ones stays cheap.
const maxNames = 64

// object calls member after each name of an object of the schema; member must
// read the value. A value of null counts as absent.
func (p *parser) object(member func(name string) error) error {
	var few [8]string
	seen := few[:0]
	return p.members(func(name string) error {
		if slices.Contains(seen, name) {
			return fmt.Errorf("name %.40q is repeated before byte %d", name, p.i)
		}
		if len(seen) == maxNames {
			return fmt.Errorf("more than %d names in one object before byte %d", maxNames, p.i)
		}
		seen = append(seen, name)
		if p.literal("null") {
			return nil
		}
		return member(name)
	})
}

// members is object without an opinion about names and values.
func (p *parser) members(member func(name string) error) error {
	if !p.take('{') {
		return p.fail("object")
	}
	if p.take('}') {
		return nil
	}
	for {
		p.space()
		name, err := p.string("name")
		if err != nil {
			return err
		}
		if !p.take(':') {
			return p.fail("colon")
		}
		if err := member(name); err != nil {
			return err
		}
		if p.take('}') {
			return nil
		}
		if !p.take(',') {
			return p.fail("comma or end of object")
		}
	}
}

// array calls element where each one begins; element must read it.
func (p *parser) array(element func() error) error {
	if !p.take('[') {
		return p.fail("array")
	}
	if p.take(']') {
		return nil
	}
	for {
		if err := element(); err != nil {
			return err
		}
		if p.take(']') {
			return nil
		}
		if !p.take(',') {
			return p.fail("comma or end of array")
		}
	}
}

func (p *parser) bool() (bool, error) {
	if p.literal("true") {
		return true, nil
	}
	if p.literal("false") {
		return false, nil
	}
	return false, p.fail("true or false")
}

func (p *parser) uint32() (uint32, error) {
	p.space()
	start := p.i
	for p.i < len(p.b) && p.b[p.i] >= '0' && p.b[p.i] <= '9' {
		p.i++
	}
	digits := p.s[start:p.i]
	n, err := strconv.ParseUint(digits, 10, 32)
	if err != nil || len(digits) > 1 && digits[0] == '0' || p.i < len(p.b) && (p.b[p.i] == '.' || p.b[p.i] == 'e' || p.b[p.i] == 'E') {
		p.i = start
		return 0, p.fail("number from 0 to 4294967295")
	}
	return uint32(n), nil
}

// text reads a string, or {"base64": "..."} for bytes that are no UTF-8.
func (p *parser) text() (string, error) {
	p.space()
	if p.i < len(p.b) && p.b[p.i] == '"' {
		return p.string("text")
	}
	b, err := p.bytes()
	return string(b), err
}

// bytes reads what text reads; the result may share memory with the input.
func (p *parser) bytes() ([]byte, error) {
	p.space()
	if p.i >= len(p.b) || p.b[p.i] != '{' {
		start, end, plain, err := p.scan("value")
		if err != nil || !plain {
			return p.unescape(start, end, err)
		}
		return p.b[start:end:end], nil
	}
	at := p.i
	var data []byte
	found := false
	err := p.object(func(name string) (err error) {
		if name != "base64" {
			return fmt.Errorf("object at byte %d is no value: it has %.40q", at, name)
		}
		found = true
		data, err = p.base64()
		return err
	})
	if err == nil && !found {
		err = fmt.Errorf("object at byte %d is no value", at)
	}
	return data, err
}

func (p *parser) base64() ([]byte, error) {
	p.space()
	start, end, plain, err := p.scan("base64")
	if err != nil {
		return nil, err
	}
	if !plain || bytes.ContainsAny(p.b[start:end], "\r\n") {
		return nil, fmt.Errorf("bad base64 at byte %d", start)
	}
	data := make([]byte, base64.StdEncoding.DecodedLen(end-start))
	n, err := base64.StdEncoding.Strict().Decode(data, p.b[start:end])
	if err != nil {
		return nil, fmt.Errorf("bad base64 at byte %d: %w", start, err)
	}
	return data[:n], nil
}

func (p *parser) string(what string) (string, error) {
	start, end, plain, err := p.scan(what)
	if err != nil || !plain {
		b, err := p.unescape(start, end, err)
		return string(b), err
	}
	return p.s[start:end], nil
}

// scan consumes a string and returns the bounds of what is between the quotes;
// plain means that it holds no escapes.
func (p *parser) scan(what string) (start, end int, plain bool, err error) {
	if p.i >= len(p.b) || p.b[p.i] != '"' {
		return 0, 0, false, p.fail(what)
	}
	start, plain = p.i+1, true
	for i := start; i < len(p.b); i++ {
		switch c := p.b[i]; {
		case c == '"':
			p.i = i + 1
			return start, i, plain, nil
		case c == '\\':
			plain = false
			i++
		case c < 0x20:
			return 0, 0, false, fmt.Errorf("control character in the string at byte %d", i)
		}
	}
	return 0, 0, false, fmt.Errorf("string at byte %d does not end", start-1)
}

func (p *parser) unescape(start, end int, err error) ([]byte, error) {
	if err != nil {
		return nil, err
	}
	out := make([]byte, 0, end-start)
	for i := start; i < end; {
		if p.b[i] != '\\' {
			out = append(out, p.b[i])
			i++
			continue
		}
		c := p.b[i+1] // scan saw to it that there is one
		i += 2
		switch c {
		case '"', '\\', '/':
			out = append(out, c)
		case 'b':
			out = append(out, '\b')
		case 'f':
			out = append(out, '\f')
		case 'n':
			out = append(out, '\n')
		case 'r':
			out = append(out, '\r')
		case 't':
			out = append(out, '\t')
		case 'u':
			r, next := p.unicode(i, end)
			if r < 0 {
				return nil, fmt.Errorf("bad \\u escape or lone surrogate at byte %d", i-2)
			}
			out = utf8.AppendRune(out, r)
			i = next
		default:
			return nil, fmt.Errorf("bad escape at byte %d", i-2)
		}
	}
	return out, nil
}

// unicode reads the digits of one \u escape, or of a surrogate pair, and
// returns the rune and where it ends; -1 if it is none.
func (p *parser) unicode(i, end int) (rune, int) {
	r := p.hex4(i, end)
	if r < 0 || !utf16.IsSurrogate(r) {
		return r, i + 4
	}
	if i+6 > end || p.b[i+4] != '\\' || p.b[i+5] != 'u' {
		return -1, 0
	}
	low := p.hex4(i+6, end)
	if low < 0 {
		return -1, 0
	}
	if r = utf16.DecodeRune(r, low); r == utf8.RuneError {
		return -1, 0
	}
	return r, i + 10
}

func (p *parser) hex4(i, end int) rune {
	if i+4 > end {
		return -1
	}
	var r rune
	for _, c := range p.b[i : i+4] {
		switch {
		case c >= '0' && c <= '9':
			c -= '0'
		case c >= 'a' && c <= 'f':
			c -= 'a' - 10
		case c >= 'A' && c <= 'F':
			c -= 'A' - 10
		default:
			return -1
		}
		r = r<<4 | rune(c)
	}
	return r
}
