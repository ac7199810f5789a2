package demo

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"github.com/tandem-dc/tandem/testbench/cluster"
	"github.com/tandem-dc/tandem/testbench/shop"
	"github.com/tandem-dc/tandem/testbench/verify"
)

func goodVerdict() *verdict {
	v := &verdict{
		ways: [2]string{"a → b", "b → a"}, names: [2]string{"a", "b"}, took: time.Minute,
		result: &verify.Result{A: "a", B: "b", Tables: []verify.Table{{Name: "shop.orders", Rows: 7}}},
	}
	for i := range v.side {
		v.side[i] = sample{committed: 10, sequence: 11, applied: 11, lag: hdrhistogram.New(1, 1e9, 3)}
		_ = v.side[i].lag.RecordValue(120_000)
		v.load[i] = shop.Stats{Committed: 9, Statements: 27}
	}
	return v
}

func TestVerdict(t *testing.T) {
	if v := goodVerdict(); !v.good() || !strings.HasPrefix(v.text(), "\nEQUAL: 1 tables, 7 rows") || !strings.Contains(v.text(), "p50 120") || !strings.Contains(v.text(), "3.0 statements") {
		t.Errorf("good is %v\n%s", v.good(), v.text())
	}
	for name, tt := range map[string]struct {
		spoil func(*verdict)
		want  string
	}{
		"difference": {func(v *verdict) {
			v.result.Tables[0].Counts = map[verify.Kind]int64{verify.Missing: 1}
			v.result.Tables[0].Differences = []verify.Difference{{Kind: verify.Missing, Key: "id=3"}}
		}, "missing row id=3"},
		"nothing compared": {func(v *verdict) { v.result.Tables = nil }, "NOT EQUAL"},
		"dead letter":      {func(v *verdict) { v.side[1].losses = cluster.Losses{DeadLetters: 2} }, "dead letters: 2"},
		"pending":          {func(v *verdict) { v.side[0].losses.Pending = 1 }, "NOT EQUAL"},
		"in flight":        {func(v *verdict) { v.side[0].applied = 10 }, "NOT EQUAL"},
		"loop":             {func(v *verdict) { v.looped[0] = 5 }, "LOOP: 5 more transactions"},
	} {
		v := goodVerdict()
		tt.spoil(v)
		if v.good() || !strings.Contains(v.text(), tt.want) || strings.HasPrefix(v.text(), "\nEQUAL") {
			t.Errorf("%s: good is %v\n%s", name, v.good(), v.text())
		}
	}
}

func TestScreenRedrawsItsBlockOnly(t *testing.T) {
	var out bytes.Buffer
	s := newScreen(&out, false)
	if s.live {
		t.Error("a buffer is taken for a terminal")
	}
	s.draw([]string{"one", "two"})
	s.draw([]string{"three", "four"})
	s.line("record")
	s.draw([]string{"five"})
	want := "\x1b[2Kone\n\x1b[2Ktwo\n" + "\x1b[2A\x1b[2Kthree\n\x1b[2Kfour\n" + "record\n" + "\x1b[2Kfive\n"
	if out.String() != want {
		t.Errorf("%q", out.String())
	}
}

func TestFlagsAreChecked(t *testing.T) {
	good := Command{Duration: time.Second, Rate: 1}
	if err := good.Validate(); err != nil {
		t.Error(err)
	}
	for name, c := range map[string]Command{
		"duration":  {Rate: 1},
		"warmup":    {Duration: time.Second, Warmup: time.Second, Rate: 1},
		"rate":      {Duration: time.Second},
		"conflicts": {Duration: time.Second, Rate: 1, Conflicts: 2},
		"jitter":    {Duration: time.Second, Rate: 1, Latency: time.Millisecond, Jitter: time.Second},
	} {
		if err := c.Validate(); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
