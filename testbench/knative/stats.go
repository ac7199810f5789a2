package knative

import "sync/atomic"

// Stats counts what a Dispatcher did since it was started.
type Stats struct {
	Received     uint64 // records read
	Delivered    uint64 // events the sink took
	Retried      uint64 // requests sent again
	Wrapped      uint64 // records that were no CloudEvent, delivered as dev.knative.kafka.event
	Discarded    uint64 // records no event could be made of; their offsets are committed
	DeadLettered uint64 // events the dead-letter sink took
	Lost         uint64 // events neither sink took; their offsets are committed all the same
	Commits      uint64 // offset commits
	InFlight     int64  // events being delivered now, waiting for a retry included
	MaxInFlight  int64  // the most there were at once in one pod
}

type counters struct {
	received, delivered, retried, wrapped, discarded, deadLettered, lost, commits atomic.Uint64
	inFlight, maxInFlight                                                         atomic.Int64
}

func (c *counters) stats() Stats {
	return Stats{
		Received: c.received.Load(), Delivered: c.delivered.Load(), Retried: c.retried.Load(), Wrapped: c.wrapped.Load(),
		Discarded: c.discarded.Load(), DeadLettered: c.deadLettered.Load(), Lost: c.lost.Load(), Commits: c.commits.Load(),
		InFlight: c.inFlight.Load(), MaxInFlight: c.maxInFlight.Load(),
	}
}

func (c *counters) noteInFlight(n int64) {
	for old := c.maxInFlight.Load(); n > old; old = c.maxInFlight.Load() {
		if c.maxInFlight.CompareAndSwap(old, n) {
			return
		}
	}
}
