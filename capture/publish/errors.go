package publish

import (
	"errors"
	"fmt"

	"github.com/segmentio/kafka-go"

	"github.com/tandem-dc/tandem/shared/retry"
)

// SizeError says that the broker will not take an event of this size.
type SizeError struct {
	ID    string
	Topic string
	Size  int // bytes, before compression
	Limit int // bytes; 0: the broker did not tell
}

func (e *SizeError) Error() string {
	limit := "its limit"
	if e.Limit > 0 {
		limit = fmt.Sprintf("%d bytes", e.Limit)
	}
	return fmt.Sprintf("event %s has %d bytes, topic %s takes at most %s: nothing was skipped and the checkpoint stands before the event; "+
		"raise the topic's max.message.bytes (or the broker's message.max.bytes and replica.fetch.max.bytes), or set compression=zstd, and capture goes on by itself",
		e.ID, e.Size, e.Topic, limit)
}

// Permanent reports whether err ends a Producer: sending again cannot help until
// somebody changes a setting.
func Permanent(err error) bool {
	var size *SizeError
	if errors.As(err, &size) || retry.IsPermanent(err) {
		return true
	}
	_, fatal := refusal(err)
	return fatal
}

// refusal returns the broker's answer in err, 0 if it has none, and whether the
// answer will be the same next time.
func refusal(err error) (kafka.Error, bool) {
	var code kafka.Error
	if !errors.As(err, &code) {
		return 0, false
	}
	switch code {
	case kafka.TopicAuthorizationFailed, kafka.ClusterAuthorizationFailed, kafka.InvalidTopic, kafka.InvalidRequiredAcks,
		kafka.UnsupportedForMessageFormat, kafka.UnsupportedVersion, kafka.PolicyViolation, kafka.InvalidRecord,
		kafka.UnsupportedCompressionType, kafka.SASLAuthenticationFailed, kafka.UnsupportedSASLMechanism, kafka.SecurityDisabled,
		kafka.InvalidTimestamp:
		return code, true
	}
	return code, false
}

func tooLarge(err error) bool {
	return errors.Is(err, kafka.MessageSizeTooLarge) || errors.Is(err, kafka.RecordListTooLarge)
}

// explained marks an error that says already what can be done.
type explained struct{ error }

func (e explained) Unwrap() error { return e.error }

// explain adds what an operator can do about a broker's answer.
func explain(err error, topic string) error {
	code, _ := refusal(err)
	if code == 0 || errors.As(err, new(explained)) {
		return err
	}
	remedy := ""
	switch code {
	case kafka.KafkaStorageError:
		remedy = "the broker cannot write: see whether its disk is full or failed; sending again until it can"
	case kafka.NotEnoughReplicas, kafka.NotEnoughReplicasAfterAppend:
		remedy = "fewer in-sync replicas than the topic's min.insync.replicas; sending again until they are back"
	case kafka.UnknownTopicOrPartition:
		remedy = "create the topic; sending again until it exists"
	case kafka.TopicAuthorizationFailed, kafka.ClusterAuthorizationFailed:
		remedy = "grant this account WRITE and DESCRIBE on the topic"
	case kafka.SASLAuthenticationFailed:
		remedy = "check kafka.sasl.user and kafka.sasl.password"
	default:
		return explained{fmt.Errorf("topic %s: %w", topic, err)}
	}
	return explained{fmt.Errorf("topic %s: %w: %s", topic, err, remedy)}
}
