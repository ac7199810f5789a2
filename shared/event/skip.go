package event

import "fmt"

// skip reads any JSON value and forgets it.
func (p *parser) skip() error { return p.skipBelow(maxDepth) }

func (p *parser) skipBelow(depth int) error {
	if depth == 0 {
		return fmt.Errorf("JSON is nested more than %d deep at byte %d", maxDepth, p.i)
	}
	p.space()
	if p.i >= len(p.b) {
		return p.fail("value")
	}
	switch p.b[p.i] {
	case '"':
		_, err := p.string("text")
		return err
	case '[':
		return p.array(func() error { return p.skipBelow(depth - 1) })
	case '{':
		return p.members(func(string) error { return p.skipBelow(depth - 1) })
	}
	if p.literal("null") || p.literal("true") || p.literal("false") {
		return nil
	}
	return p.skipNumber()
}

func (p *parser) skipNumber() error {
	start := p.i
	digits := func() bool {
		from := p.i
		for p.i < len(p.b) && p.b[p.i] >= '0' && p.b[p.i] <= '9' {
			p.i++
		}
		return p.i > from
	}
	one := func(set ...byte) bool {
		for _, c := range set {
			if p.i < len(p.b) && p.b[p.i] == c {
				p.i++
				return true
			}
		}
		return false
	}
	one('-')
	ok := one('0') || digits()
	if ok && one('.') {
		ok = digits()
	}
	if ok && one('e', 'E') {
		one('+', '-')
		ok = digits()
	}
	if !ok {
		p.i = start
		return p.fail("value")
	}
	return nil
}
