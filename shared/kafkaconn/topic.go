package kafkaconn

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/segmentio/kafka-go"
)

// EnsureTopic creates topic unless it exists, and returns when every partition
// has a leader. A topic with fewer partitions than asked for is an error; more
// are welcome, and replicas of an existing topic are left as they are. Without
// a deadline in ctx it takes at most 30 s.
func EnsureTopic(ctx context.Context, c Config, topic string, partitions, replicas int) error {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	t, err := describe(ctx, c, topic)
	if err != nil {
		return err
	}
	if errors.Is(t.Error, kafka.UnknownTopicOrPartition) {
		if err := create(ctx, c, topic, partitions, replicas); err != nil {
			return err
		}
		t.Error = kafka.LeaderNotAvailable
	}
	for pending(t) {
		select {
		case <-ctx.Done():
			return fmt.Errorf("topic %s has partitions without a leader: see the brokers' logs: %w", topic, context.Cause(ctx))
		case <-time.After(100 * time.Millisecond):
		}
		if t, err = describe(ctx, c, topic); err != nil {
			return err
		}
	}
	if t.Error != nil {
		return fmt.Errorf("topic %s: %w", topic, t.Error)
	}
	if n := len(t.Partitions); n < partitions {
		return fmt.Errorf("topic %s has %d partitions, %d are wanted: add some (kafka-topics.sh --alter --topic %s --partitions %d) or ask for fewer",
			topic, n, partitions, topic, partitions)
	}
	return nil
}

// describe asks with a client of its own, because a client answers from its cache.
func describe(ctx context.Context, c Config, topic string) (kafka.Topic, error) {
	client, done, err := c.Client()
	if err != nil {
		return kafka.Topic{}, err
	}
	defer done()
	m, err := client.Metadata(ctx, &kafka.MetadataRequest{Topics: []string{topic}})
	if err != nil {
		return kafka.Topic{}, fmt.Errorf("ask %v for topic %s: %w", c.Brokers, topic, err)
	}
	if len(m.Topics) != 1 {
		return kafka.Topic{}, fmt.Errorf("ask %v for topic %s: got %d topics", c.Brokers, topic, len(m.Topics))
	}
	return m.Topics[0], nil
}

// pending reports whether the brokers are still busy with the topic's creation
// or with the election of a leader.
func pending(t kafka.Topic) bool {
	if t.Error != nil {
		return errors.Is(t.Error, kafka.UnknownTopicOrPartition) || errors.Is(t.Error, kafka.LeaderNotAvailable)
	}
	for _, p := range t.Partitions {
		if errors.Is(p.Error, kafka.LeaderNotAvailable) || p.Leader.Host == "" {
			return true
		}
	}
	return false
}

func create(ctx context.Context, c Config, topic string, partitions, replicas int) error {
	client, done, err := c.Client()
	if err != nil {
		return err
	}
	defer done()
	res, err := client.CreateTopics(ctx, &kafka.CreateTopicsRequest{
		Topics: []kafka.TopicConfig{{Topic: topic, NumPartitions: partitions, ReplicationFactor: replicas}},
	})
	if err == nil {
		err = res.Errors[topic]
	}
	if err != nil && !errors.Is(err, kafka.TopicAlreadyExists) {
		return fmt.Errorf("create topic %s with %d partitions and %d replicas: %w", topic, partitions, replicas, err)
	}
	return nil
}

// DefaultMaxMessageBytes is what a Kafka broker accepts unless it is told
// otherwise: 1 MiB and the 12 bytes of a log entry's header.
const DefaultMaxMessageBytes = 1<<20 + 12

// sourceDefault marks a setting that nobody has set, in the broker's answers.
const sourceDefault = 5

// MaxMessageBytes returns the size of the largest record batch that topic
// accepts, in bytes, as the broker counts it: after compression, with all
// headers. Where the broker does not tell, or not us, it is DefaultMaxMessageBytes.
func MaxMessageBytes(ctx context.Context, c Config, topic string) (int, error) {
	client, done, err := c.Client()
	if err != nil {
		return 0, err
	}
	defer done()
	const name = "max.message.bytes"
	fail := func(err error) (int, error) {
		return 0, fmt.Errorf("ask %v for %s of topic %s: %w", c.Brokers, name, topic, err)
	}
	resource := kafka.DescribeConfigRequestResource{ResourceType: kafka.ResourceTypeTopic, ResourceName: topic}
	bound, err := setting(ctx, client, resource, name)
	if err != nil && !errors.Is(err, kafka.TopicAuthorizationFailed) {
		return fail(err)
	}
	if bound.set {
		return bound.value, nil
	}
	// The embedded broker does not count its own setting as the topic's.
	m, err := client.Metadata(ctx, &kafka.MetadataRequest{Topics: []string{topic}})
	if err != nil {
		return fail(err)
	}
	if len(m.Brokers) > 0 {
		resource = kafka.DescribeConfigRequestResource{ResourceType: kafka.ResourceTypeBroker, ResourceName: strconv.Itoa(m.Brokers[0].ID)}
		// Who may write a topic need not be allowed to see the broker's settings.
		if b, err := setting(ctx, client, resource, "message.max.bytes"); err == nil && b.set {
			return b.value, nil
		}
	}
	if bound.value > 0 {
		return bound.value, nil
	}
	return DefaultMaxMessageBytes, nil
}

type number struct {
	value int // 0: unknown
	set   bool
}

func setting(ctx context.Context, client *kafka.Client, of kafka.DescribeConfigRequestResource, name string) (number, error) {
	of.ConfigNames = []string{name}
	res, err := client.DescribeConfigs(ctx, &kafka.DescribeConfigsRequest{Resources: []kafka.DescribeConfigRequestResource{of}})
	if err != nil {
		return number{}, err
	}
	for _, r := range res.Resources {
		if r.Error != nil {
			return number{}, r.Error
		}
		for _, e := range r.ConfigEntries {
			if n, err := strconv.Atoi(e.ConfigValue); err == nil && e.ConfigName == name && n > 0 {
				return number{n, e.ConfigSource != sourceDefault}, nil
			}
		}
	}
	return number{}, nil
}
