package demo

import (
	"fmt"
	"io"
	"os"
	"strings"
	"sync"

	"golang.org/x/term"
)

// screen prints lines, and on a terminal a block below them that is drawn anew.
type screen struct {
	out   io.Writer
	live  bool // a terminal that takes cursor movements
	mu    sync.Mutex
	block int // lines of the block that stand there
}

func newScreen(out io.Writer, plain bool) *screen {
	f, ok := out.(*os.File)
	return &screen{out: out, live: ok && !plain && term.IsTerminal(int(f.Fd())) && os.Getenv("TERM") != "dumb"}
}

// line prints one above the block.
func (s *screen) line(format string, args ...any) { s.write(fmt.Sprintf(format, args...) + "\n") }

func (s *screen) write(text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.block = 0 // what is drawn stays, as part of the record
	_, _ = io.WriteString(s.out, text)
}

// draw replaces the block.
func (s *screen) draw(lines []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var b strings.Builder
	if s.block > 0 {
		fmt.Fprintf(&b, "\x1b[%dA", s.block)
	}
	for _, l := range lines {
		b.WriteString("\x1b[2K" + l + "\n")
	}
	s.block = len(lines)
	_, _ = io.WriteString(s.out, b.String())
}
