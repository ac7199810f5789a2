package binlog

import (
	"bytes"
	"strings"
)

// lexer reads the beginning of a statement.
type lexer struct{ sql []byte }

// space skips blanks and comments. A comment for some versions only
// (/*!40000 ... */) is read as if it were none.
func (l *lexer) space() {
	for len(l.sql) > 0 {
		switch c := l.sql[0]; {
		case c == ' ' || c == '\t' || c == '\n' || c == '\r' || c == ';':
			l.sql = l.sql[1:]
		case c == '#' || bytes.HasPrefix(l.sql, []byte("-- ")):
			_, l.sql, _ = bytes.Cut(l.sql, []byte("\n"))
		case bytes.HasPrefix(l.sql, []byte("/*!")), bytes.HasPrefix(l.sql, []byte("/*M!")):
			_, l.sql, _ = bytes.Cut(l.sql, []byte("!"))
			for len(l.sql) > 0 && l.sql[0] >= '0' && l.sql[0] <= '9' {
				l.sql = l.sql[1:]
			}
		case bytes.HasPrefix(l.sql, []byte("/*")):
			_, l.sql, _ = bytes.Cut(l.sql[2:], []byte("*/"))
		case bytes.HasPrefix(l.sql, []byte("*/")):
			l.sql = l.sql[2:]
		default:
			return
		}
	}
}

func (l *lexer) end() bool {
	l.space()
	return len(l.sql) == 0
}

func wordByte(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '_' || c == '$' || c >= 0x80
}

// keyword reads a word in upper case. Anything else that stands there, a sign, a
// quoted name or text, is read and given as "?"; "" is the end.
func (l *lexer) keyword() string {
	l.space()
	n := 0
	for n < len(l.sql) && wordByte(l.sql[n]) {
		n++
	}
	if n > 0 {
		w := strings.ToUpper(string(l.sql[:n]))
		l.sql = l.sql[n:]
		return w
	}
	if len(l.sql) == 0 {
		return ""
	}
	if c := l.sql[0]; c == '`' || c == '"' || c == '\'' {
		l.quoted()
	} else {
		l.sql = l.sql[1:]
	}
	return "?"
}

func (l *lexer) peek() string {
	c := *l
	return c.keyword()
}

func (l *lexer) skip(words ...string) {
	for {
		w, found := l.peek(), false
		for _, x := range words {
			found = found || w == x
		}
		if !found {
			return
		}
		l.keyword()
	}
}

// name reads an identifier, quoted or not.
func (l *lexer) name() string {
	l.space()
	if len(l.sql) > 0 && (l.sql[0] == '`' || l.sql[0] == '"') {
		return l.quoted()
	}
	n := 0
	for n < len(l.sql) && wordByte(l.sql[n]) {
		n++
	}
	s := string(l.sql[:n])
	l.sql = l.sql[n:]
	return s
}

// quoted reads what stands in quotes; a doubled quote is one of its characters.
func (l *lexer) quoted() string {
	q := l.sql[0]
	var s []byte
	i := 1
	for ; i < len(l.sql); i++ {
		if l.sql[i] == q {
			if i+1 >= len(l.sql) || l.sql[i+1] != q {
				break
			}
			i++
		}
		s = append(s, l.sql[i])
	}
	l.sql = l.sql[min(i+1, len(l.sql)):]
	return string(s)
}

func (l *lexer) dot() bool {
	l.space()
	if len(l.sql) > 0 && l.sql[0] == '.' {
		l.sql = l.sql[1:]
		return true
	}
	return false
}

func (l *lexer) rest() []byte {
	l.space()
	return l.sql
}

func (l *lexer) endsWith(suffix string) bool {
	s := bytes.TrimRight(l.sql, " \t\r\n;")
	return len(s) >= len(suffix) && strings.EqualFold(string(s[len(s)-len(suffix):]), suffix)
}
