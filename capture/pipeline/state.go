package pipeline

import (
	"sync"
	"time"

	"github.com/tandem-dc/tandem/capture/binlog"
	"github.com/tandem-dc/tandem/capture/publish"
)

// State is what a pipeline is doing.
type State string

// The states of a pipeline. Only Standby and Running are ready.
const (
	Standby  State = "standby"  // somebody else holds the lease, or nobody answers yet
	Starting State = "starting" // leads, and is on its way to the position
	Running  State = "running"
	Retrying State = "retrying" // failed, and tries again shortly
	Blocked  State = "blocked"  // somebody has to repair something; tries again now and then
)

// Status is what /statusz shows of a pipeline.
type Status struct {
	Target     string          `json:"target"`
	Topic      string          `json:"topic"`
	State      State           `json:"state"`
	Since      time.Time       `json:"since"`
	Reason     string          `json:"reason,omitempty"`
	Epoch      uint64          `json:"epoch"`
	Sequence   uint64          `json:"sequence"` // newest number given out
	Acked      uint64          `json:"acked"`    // newest number up to which all are acknowledged
	Read       binlog.Position `json:"read"`
	Position   binlog.Position `json:"position"`             // up to which all is acknowledged
	Through    *time.Time      `json:"through,omitempty"`    // commit time up to which all is acknowledged
	Checkpoint *time.Time      `json:"checkpoint,omitempty"` // when the newest was stored
	publish.Stats
}

// state is shared by the goroutines of a pipeline and by those who ask.
type state struct {
	mu       sync.Mutex
	now      State
	since    time.Time
	reason   error
	epoch    uint64
	progress *progress
	producer *publish.Producer
	saved    time.Time // when the newest checkpoint was stored
	saveErr  error
}

func (s *state) set(to State, reason error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.now != to {
		s.now, s.since = to, time.Now()
	}
	s.reason = reason
}

// attach makes one attempt's parts visible.
func (s *state) attach(epoch uint64, pr *progress, p *publish.Producer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.epoch, s.progress, s.producer, s.saveErr = epoch, pr, p, nil
}

// stored books an attempt to store the checkpoint, and reports whether it is the
// first failure.
func (s *state) stored(at time.Time, err error) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	first := s.saveErr == nil
	if s.saveErr = err; err == nil {
		s.saved = at
	}
	return first
}

// Status returns a snapshot.
func (p *Pipeline) Status() Status {
	s := &p.state
	s.mu.Lock()
	out := Status{Target: p.cfg.Target, Topic: p.cfg.Topic, State: s.now, Since: s.since, Epoch: s.epoch}
	progress, producer, saved, reason := s.progress, s.producer, s.saved, s.reason
	s.mu.Unlock()
	if reason == nil && out.State == Running {
		reason = p.trouble()
	}
	if reason != nil {
		out.Reason = reason.Error()
	}
	if !saved.IsZero() {
		out.Checkpoint = &saved
	}
	if progress != nil {
		read, done := progress.points()
		out.Sequence, out.Acked, out.Read, out.Position = read.sequence, done.sequence, read.position, done.position
		if !done.through.IsZero() {
			out.Through = &done.through
		}
	}
	if producer != nil && out.State == Running {
		out.Stats = producer.Stats()
	}
	return out
}

// trouble returns what keeps a running pipeline from being well.
func (p *Pipeline) trouble() error {
	p.state.mu.Lock()
	producer, err := p.state.producer, p.state.saveErr
	p.state.mu.Unlock()
	if err != nil {
		return err
	}
	return producer.Healthy()
}
