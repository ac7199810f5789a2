package knative_test

import (
	"context"
	"testing"
	"time"

	"github.com/segmentio/kafka-go"

	"github.com/tandem-dc/tandem/testbench/knative"
	"github.com/tandem-dc/tandem/testbench/servers"
)

// Both kinds of broker keep what they acknowledged, offsets included.
func TestDispatchSurvivesABrokersCrash(t *testing.T) {
	servers.EachKafka(t, func(t *testing.T, kind servers.KafkaKind) {
		ctx, cancel := context.WithTimeout(t.Context(), 90*time.Second)
		defer cancel()
		k, err := servers.StartKafka(ctx, servers.KafkaOptions{Kind: kind, Topics: map[string]int{topic: 4}})
		if err != nil {
			t.Fatal(err)
		}
		defer k.Close()
		transport := &kafka.Transport{}
		defer transport.CloseIdleConnections()
		b := &broker{t: t, addr: k.Bootstrap(), w: &kafka.Writer{
			Addr: kafka.TCP(k.Bootstrap()), Transport: transport, Topic: topic, RequiredAcks: kafka.RequireAll,
			BatchTimeout: time.Millisecond, Balancer: &kafka.RoundRobin{},
		}}
		defer b.w.Close()
		s := newSink(t, nil)
		plane := knative.ShippedDataPlane()
		plane.CommitInterval = 50 * time.Millisecond
		d := start(t, b.source(nil), knative.DispatcherOptions{Sink: s.url, DataPlane: plane})
		b.send(8)
		s.untilCount(t, 8)
		commits := d.Stats().Commits
		s.until(t, "a commit", func() bool { return d.Stats().Commits > commits })
		if err := k.Kill(); err != nil {
			t.Fatal(err)
		}
		if err := k.Restart(ctx); err != nil {
			t.Fatal(err)
		}
		b.send(8)
		s.untilCount(t, 16)
		if err := d.Stop(ctx); err != nil {
			t.Fatal(err)
		}
		if err := d.Start(ctx); err != nil {
			t.Fatal(err)
		}
		b.send(1)
		s.until(t, "the last event", func() bool { return d.Stats().Delivered == 17 })
		if n := len(s.ids()); n != 17 {
			t.Errorf("%d requests for 17 events", n)
		}
	})
}
