package demo

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/tandem-dc/tandem/testbench/servers"
	"github.com/tandem-dc/tandem/testbench/shop"
	"github.com/tandem-dc/tandem/testbench/verify"
)

// verdict is what the demo has to say in the end.
type verdict struct {
	ways   [2]string
	names  [2]string
	result *verify.Result
	side   [2]sample
	load   [2]shop.Stats
	writes [2]string // latency of the shop's transactions
	failed [2]uint64
	looped [2]uint64 // transactions sent beyond those that were committed here
	warmup time.Duration
	took   time.Duration
}

// markers is how many transactions Drain commits on each side.
const markers = 1

// judge waits until both sides are drained and compares them.
func (d *demo) judge(ctx context.Context) (*verdict, error) {
	draining, cancel := context.WithTimeoutCause(ctx, drainLimit, fmt.Errorf("not drained within %v", drainLimit))
	defer cancel()
	if err := d.cluster.Drain(draining); err != nil {
		return nil, err
	}
	d.progress("compare every table row by row")
	verifying, cancelVerify := context.WithTimeout(ctx, verifyLimit)
	defer cancelVerify()
	result, err := d.cluster.Verify(verifying)
	if err != nil {
		return nil, err
	}
	v := &verdict{ways: d.ways(), result: result, warmup: d.Warmup}
	for i, s := range d.sides {
		if v.side[i], err = d.look(verifying, s); err != nil {
			return nil, err
		}
		v.names[i], v.load[i] = s.Name, s.load.Stats()
		probes := s.lag.Stats()
		v.failed[i] = probes.Failed + v.load[i].Failed
		h := s.load.Latency()
		v.writes[i] = fmt.Sprintf("p50 %s p99 %s ms", milliseconds(h, 50), milliseconds(h, 99))
		if made := v.side[i].committed + markers; v.side[i].sequence > made {
			v.looped[i] = v.side[i].sequence - made
		}
	}
	v.took = time.Since(d.began)
	return v, nil
}

func (v *verdict) good() bool {
	for i := range v.side {
		if v.side[i].losses.DeadLetters > 0 || v.side[i].losses.Pending > 0 || v.side[i].inFlight() > 0 || v.looped[i] > 0 {
			return false
		}
	}
	return v.result.Equal()
}

func (v *verdict) text() string {
	var b strings.Builder
	b.WriteByte('\n')
	if v.good() {
		fmt.Fprintf(&b, "EQUAL: %d tables, %d rows compared row by row, every column, byte by byte\n", len(v.result.Tables), v.result.Rows())
	} else {
		b.WriteString("NOT EQUAL\n")
		if !v.result.Equal() {
			v.result.Write(&b)
		}
	}
	for i, way := range v.ways {
		s, h := &v.side[i], v.side[i].lag
		fmt.Fprintf(&b, "%s: %d transactions, each once; lag from commit to visible p50 %s, p99 %s, max %s ms over %d probes\n", way, s.applied,
			milliseconds(h, 50), milliseconds(h, 99), milliseconds(h, 100), h.TotalCount())
		if v.looped[i] > 0 {
			fmt.Fprintf(&b, "  LOOP: %d more transactions were sent than were committed in %s\n", v.looped[i], v.names[i])
		}
	}
	fmt.Fprintf(&b, "conflicts: %d rows that both sides wrote, settled the same way on both and logged with both images\n", v.side[0].losses.Conflicts+v.side[1].losses.Conflicts)
	fmt.Fprintf(&b, "dead letters: %d\n", v.side[0].losses.DeadLetters+v.side[1].losses.DeadLetters)
	for i, name := range v.names {
		fmt.Fprintf(&b, "shop in %s: %d transactions of %.1f statements, %s from due to committed, %d retried, %d failed\n", name, v.load[i].Committed,
			float64(v.load[i].Statements)/float64(max(v.load[i].Committed, 1)), v.writes[i], v.load[i].Retried, v.failed[i])
		if err := v.load[i].LastError; err != nil {
			fmt.Fprintf(&b, "  the last failure: %v\n", errors.Unwrap(err))
		}
	}
	if v.warmup > 0 {
		fmt.Fprintf(&b, "the lags of the first %v, while caches fill and connections are made, are not counted\n", v.warmup)
	}
	fmt.Fprintf(&b, "took %.0f s\n", v.took.Seconds())
	return b.String()
}

// addresses says where to look while everything is kept running.
func (d *demo) addresses() {
	d.line("\nstill running; ctrl-C ends it")
	for _, s := range d.sides {
		c := s.SQL.Config(servers.App)
		host, port, _ := strings.Cut(c.Addr, ":")
		d.line("%s: mysql -h%s -P%s -u%s -p%s %s", s.Name, host, port, c.User, c.Password, shop.Database)
		d.line("  kafka %s, etcd %s", s.Kafka.Bootstrap(), s.Etcd.Endpoint())
		for _, w := range s.Runtime.Workloads() {
			for _, i := range s.Runtime.Instances(w) {
				d.line("  %s: %sstatusz %smetrics, log %s", i.Name, i.URL(), i.URL(), i.LogPath())
			}
		}
	}
}
