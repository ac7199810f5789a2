package apply_test

import (
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tandem-dc/tandem/functions/apply"
	"github.com/tandem-dc/tandem/testbench/servers"
)

// BenchmarkApply measures source transactions per second (one insert and one
// update each) with 256 events offered at once, alone and in groups, independent
// and all on one row.
func BenchmarkApply(b *testing.B) {
	for _, flavor := range servers.Flavors {
		for _, shape := range []struct {
			name  string
			group int
			chain bool
		}{{"group=1", 1, false}, {"group=32", 32, false}, {"group=1/one-row", 1, true}, {"group=32/one-row", 32, true}} {
			b.Run(fmt.Sprintf("%s/%s", flavor, shape.name), func(b *testing.B) {
				benchmarkApply(b, newWorld(b, servers.MySQLForTest(b, flavor)), shape.group, shape.chain)
			})
		}
	}
}

func benchmarkApply(b *testing.B, w *world, group int, chain bool) {
	w.makeCounters()
	w.exec("INSERT INTO counter VALUES (0, 0)")
	counter, log := w.table("counter", counterColumns), w.table("log", "seq bigint,id int")
	if !chain {
		for at := 1; at < 1000; at++ {
			w.exec("INSERT INTO counter VALUES (?, 0)", at)
		}
	}
	i := w.start(func(c *apply.Config) { c.Settings.Group, c.Settings.Wait = group, time.Minute })
	n := uint64(b.N)
	var next atomic.Uint64
	var wg sync.WaitGroup
	b.ResetTimer()
	for range 256 {
		wg.Go(func() {
			for {
				seq := next.Add(1)
				if seq > n {
					return
				}
				s := strconv.FormatUint(seq, 10)
				var last uint64
				change := update(counter, row("0", strconv.FormatUint(seq-1, 10)), row("0", s))
				if !chain {
					// Each row in turn: the same one again 1000 sequences later.
					id, was := strconv.FormatUint(seq%1000, 10), (seq-1)/1000
					if seq%1000 == 0 {
						was = seq/1000 - 1
					}
					last = max(seq, 1000) - 1000
					change = update(counter, row(id, strconv.FormatUint(was, 10)), row(id, strconv.FormatUint(was+1, 10)))
				} else {
					last = seq - 1
				}
				m := w.meta(seq, last)
				e, err := m.CloudEvent(payload("uuid:"+s, change, insert(log, s, "1")))
				if err != nil {
					b.Error(err)
					return
				}
				if code := i.send(e); code != 200 {
					b.Errorf("answered %d", code)
				}
			}
		})
	}
	wg.Wait()
	b.StopTimer()
	b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "tx/s")
	w.want("0", "SELECT COUNT(*) FROM tandem.conflict_log WHERE origin = ?", w.origin)
	w.want(strconv.FormatUint(n, 10), "SELECT COUNT(*) FROM log")
}
