package apply

import (
	"github.com/tandem-dc/tandem/shared/event"
)

// job is one event on its way into MySQL.
type job struct {
	stream  *stream
	order   *order // the epoch's; the stream may have moved on
	entry   *entry
	meta    event.Meta
	data    []byte // the payload as it came; nil while only stored
	txn     *event.Transaction
	broken  error // the payload cannot be read: to be parked
	stored  bool  // stands in tandem.pending
	waiters int   // calls of Handle
	held    bool  // counts in Function.held
	size    int64 // of the payload
	done    chan struct{}
	err     error // set before done is closed
	result  result
}

func newJob(s *stream, o *order, m event.Meta, data []byte) *job {
	return &job{stream: s, order: o, meta: m, data: data, size: int64(len(data)), done: make(chan struct{})}
}

// decode reads the payload once.
func (j *job) decode() {
	j.txn, j.broken = event.DecodeTransaction(j.data)
}

func (j *job) rows() int {
	if j.txn == nil {
		return 1
	}
	return len(j.txn.Rows)
}

// result is how an event ended, for metrics.
type result string

const (
	resultApplied   result = "applied"
	resultDuplicate result = "duplicate" // applied before
	resultParked    result = "parked"
	resultStale     result = "stale" // of an epoch that is over
	resultStored    result = "stored"
	resultOwn       result = "own" // committed in this datacenter first
	resultRefused   result = "refused"
	resultFailed    result = "failed" // answered so that it comes again
	resultOverload  result = "overloaded"
	resultHeartbeat result = "heartbeat"
)
