package pipeline_test

import (
	"strings"
	"testing"

	"github.com/tandem-dc/tandem/capture/pipeline"
)

// Other rules give other transactions a number. After an orderly stop that is
// fine; after a kill it would give numbers again that were sent already.
func TestRulesChangeOnlyAfterAnOrderlyStop(t *testing.T) {
	w := newWorld(t)
	w.script.commit(10)
	p, stop := w.start(w.config())
	w.until("all acknowledged", func() bool { return p.Status().Acked == 10 })
	stop()

	changed := w.config()
	changed.Rules = "exclude audit"
	changed.Drain = 0 // its end is abrupt: it may have sent something beyond its checkpoint
	w.script.commit(10)
	p, stop = w.start(changed)
	w.until("other rules go on after an orderly stop", func() bool { return p.Status().Acked == 20 })
	stop()

	p, stop = w.start(w.config())
	w.until("refused", func() bool { return p.Status().State == pipeline.Blocked })
	if s := p.Status().Reason; !strings.Contains(s, `"exclude audit"`) || !strings.Contains(s, "SIGTERM") {
		t.Errorf("reason: %s", s)
	}
	stop()

	changed.Drain = w.config().Drain
	w.script.commit(10)
	p, stop = w.start(changed) // the remedy
	w.until("the rules of before go on", func() bool { return p.Status().Acked == 30 })
	stop()
	w.script.commit(10)
	p, stop = w.start(w.config())
	w.until("and then change", func() bool { return p.Status().Acked == 40 })
	stop()
	checkStream(w, "binlog-a")
}
