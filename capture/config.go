// Package capture answers how a datacenter's commits get to every target: it
// configures and wires the service, one independent pipeline for each target.
package capture

import (
	"errors"
	"fmt"
	"time"

	"github.com/tandem-dc/tandem/capture/binlog"
	"github.com/tandem-dc/tandem/capture/pipeline"
	"github.com/tandem-dc/tandem/capture/publish"
	"github.com/tandem-dc/tandem/shared/config"
	"github.com/tandem-dc/tandem/shared/coord"
	"github.com/tandem-dc/tandem/shared/event"
	"github.com/tandem-dc/tandem/shared/kafkaconn"
	"github.com/tandem-dc/tandem/shared/serve"
)

// Config is the service's configuration, read by config.Load.
type Config struct {
	DC      string        `key:"dc" help:"name of this datacenter, the same everywhere: 1 to 32 of a-z, 0-9 and -"`
	Source  binlog.Config `key:""`
	Etcd    coord.Config  `key:"etcd"`
	Targets []Target      `key:"targets" help:"where events go: this datacenter's own broker and every peer's"`

	Start       string        `key:"start" default:"latest" help:"where a stream without a checkpoint begins: latest, earliest, gtid:SET or FILE:POS"`
	LeaseTTL    time.Duration `key:"lease-ttl" default:"10s" help:"a standby takes over after so long; must be well above drain"`
	SaveEvery   time.Duration `key:"checkpoint-interval" default:"200ms" help:"least time between two checkpoints of a stream; a crash sends again what came since"`
	Drain       time.Duration `key:"drain" default:"5s" help:"how long a stop waits for acknowledgements; 0: not at all, and they are sent again"`
	Pause       time.Duration `key:"repair-interval" default:"15s" help:"time between attempts after an error that somebody has to repair"`
	HistoryKeys int           `key:"history-keys" default:"1048576" help:"row keys remembered per stream to tell which transactions depend on each other; about 60 bytes each"`

	Serve serve.Config    `key:""`
	Log   serve.LogConfig `key:"log"`
}

// Target is one broker that gets every event.
type Target struct {
	DC         string           `key:"dc" help:"name of the datacenter that the broker is in"`
	Kafka      kafkaconn.Config `key:"kafka"`
	Topic      string           `key:"topic" help:"topic of the events; default: binlog- and the name of this datacenter"`
	Partitions int              `key:"partitions" default:"1" help:"partitions of the topic if it has to be created; 0: it must exist. More than one lets the receiver see events far out of order when it catches up"`
	Replicas   int              `key:"replicas" default:"1" help:"replicas of the topic if it has to be created; 3 in production"`
	Publish    publish.Config   `key:""`
}

// Validate reports everything that cannot work, each with its key and remedy.
func (c *Config) Validate() error {
	var errs []error
	bad := func(key, problem, remedy string) {
		errs = append(errs, &config.Error{Key: key, Problem: problem, Remedy: remedy})
	}
	if c.DC == "" {
		bad("dc", "is empty", "set the name of this datacenter, for example beijing")
	} else if err := event.CheckName(c.DC); err != nil {
		bad("dc", err.Error(), "")
	}
	errs = append(errs, config.Within("mysql", c.Source.MySQL.Validate()), config.Within("etcd", c.Etcd.Validate()),
		c.Serve.Validate(), config.Within("log", c.Log.Validate()))
	if _, err := pipeline.ParseStart(c.Start); err != nil {
		bad("start", err.Error(), "for example gtid:3e11fa47-71ca-11e1-9e33-c80aa9429562:1-77 or binlog.000012:4")
	}
	for _, d := range []struct {
		key string
		v   time.Duration
	}{
		{"heartbeat", c.Source.Heartbeat}, {"lease-ttl", c.LeaseTTL}, {"checkpoint-interval", c.SaveEvery}, {"repair-interval", c.Pause},
	} {
		if d.v <= 0 {
			bad(d.key, fmt.Sprintf("%v is not positive", d.v), "leave it out for the default")
		}
	}
	switch {
	case c.Drain < 0:
		bad("drain", "is negative", "0 stops at once")
	// A stopping process does not renew its lease, the newest renewal being up to a third of it old.
	case c.Drain > c.LeaseTTL*6/10:
		bad("drain", fmt.Sprintf("%v is too close to lease-ttl %v: the lease could end before the last checkpoint", c.Drain, c.LeaseTTL),
			"keep it at or below six tenths of lease-ttl")
	}
	if c.HistoryKeys < 1 {
		bad("history-keys", fmt.Sprintf("%d keys are too few", c.HistoryKeys), "leave it out for the default")
	}
	return errors.Join(append(errs, c.validateTargets())...)
}

func (c *Config) validateTargets() error {
	if len(c.Targets) == 0 {
		return &config.Error{Key: "targets", Problem: "is empty", Remedy: "name at least one, as YAML: [{dc: " + orExample(c.DC) + ", kafka: {brokers: [127.0.0.1:9092]}}]"}
	}
	var errs []error
	seen := map[string]bool{}
	for i := range c.Targets {
		t := &c.Targets[i]
		key := fmt.Sprintf("targets.%d", i)
		if err := event.CheckName(t.DC); err != nil {
			errs = append(errs, &config.Error{Key: key + ".dc", Problem: err.Error()})
		} else if seen[t.DC] {
			errs = append(errs, &config.Error{Key: key + ".dc", Problem: fmt.Sprintf("%s is a target already", t.DC), Remedy: "name every datacenter once"})
		}
		seen[t.DC] = true
		if t.Partitions < 0 || t.Replicas < 0 {
			errs = append(errs, &config.Error{Key: key + ".partitions", Problem: "partitions and replicas must not be negative", Remedy: "leave them out for the defaults"})
		}
		errs = append(errs, config.Within(key+".kafka", t.Kafka.Validate()), config.Within(key, t.Publish.Validate()))
	}
	return errors.Join(errs...)
}

func orExample(dc string) string {
	if dc == "" {
		return "beijing"
	}
	return dc
}
