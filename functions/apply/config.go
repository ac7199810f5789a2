package apply

import (
	"cmp"
	"errors"
	"time"

	"github.com/tandem-dc/tandem/shared/config"
	"github.com/tandem-dc/tandem/shared/event"
	"github.com/tandem-dc/tandem/shared/kafkaconn"
	"github.com/tandem-dc/tandem/shared/ledger"
	"github.com/tandem-dc/tandem/shared/sqldb"
)

// Config of one instance. Zero fields take the defaults that their tags name,
// but Migrate and Enabled, whose zero is false.
type Config struct {
	DC       string           `key:"dc" help:"name of this datacenter"`
	MySQL    sqldb.Config     `key:"mysql"`
	Kafka    kafkaconn.Config `key:"kafka"`
	Settings Settings         `key:"apply"`
	Dead     DeadLetterTo     `key:"deadletter"`
}

// Settings bound the work of one instance.
type Settings struct {
	Workers      int           `key:"workers" default:"8" help:"MySQL transactions in flight at once"`
	Group        int           `key:"group" default:"32" help:"source transactions in one MySQL transaction at most; 1: never group"`
	GroupRows    int           `key:"group-rows" default:"1000" help:"row changes in one MySQL transaction beyond which no further source transaction joins"`
	Wait         time.Duration `key:"wait" default:"1s" help:"an event that has waited so long for a predecessor is stored in tandem.pending and answered"`
	MaxWaiting   int           `key:"max-waiting" default:"2048" help:"events waiting for predecessors in memory; more are answered 429"`
	MaxWaitBytes int64         `key:"max-waiting-bytes" default:"134217728" help:"their payloads, bytes; more are answered 429"`
	Retry        time.Duration `key:"retry" default:"10s" help:"how long transient errors of MySQL are retried before the event is answered 503"`
	Timeout      time.Duration `key:"timeout" default:"5m" help:"longest MySQL transaction"`
	LockWait     time.Duration `key:"lock-wait" default:"5s" help:"longest wait for a row lock; it is retried after that"`
	Sweep        time.Duration `key:"sweep" default:"2s" help:"how often stored events, dead letters and other instances' progress are looked at"`
	Refresh      time.Duration `key:"refresh" default:"100ms" help:"how often other instances' progress is read while events wait"`
	Migrate      bool          `key:"migrate" default:"true" help:"create the tandem schema at start if the account may"`
}

// DeadLetterTo says where refused events are published.
type DeadLetterTo struct {
	Enabled bool          `key:"enabled" default:"true" help:"publish refused events to Kafka; they stand in tandem.dead_letter in any case"`
	Topic   string        `key:"topic" help:"default: deadletter-<dc>"`
	Timeout time.Duration `key:"timeout" default:"10s" help:"longest attempt to publish one"`
}

// Validate reports settings that cannot work.
func (c Config) Validate() error {
	var errs []error
	bad := func(key, problem, remedy string) {
		errs = append(errs, &config.Error{Key: key, Problem: problem, Remedy: remedy})
	}
	if err := event.CheckName(c.DC); err != nil {
		bad("dc", err.Error(), "name this datacenter")
	}
	errs = append(errs, config.Within("mysql", c.MySQL.Validate()))
	s := c.Settings
	for _, n := range []struct {
		key   string
		value int64
	}{
		{"workers", int64(s.Workers)}, {"group", int64(s.Group)}, {"group-rows", int64(s.GroupRows)}, {"wait", int64(s.Wait)},
		{"max-waiting", int64(s.MaxWaiting)}, {"max-waiting-bytes", s.MaxWaitBytes}, {"retry", int64(s.Retry)}, {"timeout", int64(s.Timeout)},
		{"lock-wait", int64(s.LockWait)}, {"sweep", int64(s.Sweep)}, {"refresh", int64(s.Refresh)},
	} {
		if n.value < 0 {
			bad("apply."+n.key, "is negative", "write a positive value, or leave it out")
		}
	}
	if s.Workers > 256 {
		bad("apply.workers", "is above 256", "use fewer: each holds a connection")
	}
	if s.Group > ledger.RingSize/8 {
		bad("apply.group", "is above 512", "use a smaller one: 32 gains most of what there is")
	}
	if c.Dead.Enabled {
		errs = append(errs, config.Within("kafka", c.Kafka.Validate()))
	}
	return errors.Join(errs...)
}

func (c Config) filled() Config {
	s := &c.Settings
	s.Workers = cmp.Or(s.Workers, 8)
	s.Group = cmp.Or(s.Group, 32)
	s.GroupRows = cmp.Or(s.GroupRows, 1000)
	s.Wait = cmp.Or(s.Wait, time.Second)
	s.MaxWaiting = cmp.Or(s.MaxWaiting, 2048)
	s.MaxWaitBytes = cmp.Or(s.MaxWaitBytes, 128<<20)
	s.Retry = cmp.Or(s.Retry, 10*time.Second)
	s.Timeout = cmp.Or(s.Timeout, 5*time.Minute)
	s.LockWait = cmp.Or(s.LockWait, 5*time.Second)
	s.Sweep = cmp.Or(s.Sweep, 2*time.Second)
	s.Refresh = cmp.Or(s.Refresh, 100*time.Millisecond)
	c.Dead.Topic = cmp.Or(c.Dead.Topic, event.DeadLetterTopic(c.DC))
	c.Dead.Timeout = cmp.Or(c.Dead.Timeout, 10*time.Second)
	return c
}
