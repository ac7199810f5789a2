// Package kafkace answers how a CloudEvent looks as a Kafka record: the Kafka
// protocol binding of CloudEvents 1.0 for kafka-go messages.
package kafkace

import (
	"encoding/json"
	"errors"
	"fmt"
	"mime"
	"strings"
	"unicode/utf8"

	ce "github.com/cloudevents/sdk-go/v2/event"
	"github.com/cloudevents/sdk-go/v2/types"
	"github.com/segmentio/kafka-go"

	"github.com/tandem-dc/tandem/shared/event"
)

const (
	prefix      = "ce_"
	contentType = "content-type"
	// structured is how the content type of an event in structured mode begins.
	structured = "application/cloudevents"
)

// ErrNoEvent marks a record that is no CloudEvent at all: it has neither the
// attributes of binary mode nor the content type of structured mode.
var ErrNoEvent = errors.New("record is no CloudEvent")

// ToMessage returns the record of m with data in binary mode; its key is the
// partition key. Topic, partition and time are left to the producer: a record
// that carried the commit time could be past retention on arrival. The
// message shares memory with data, which must not be empty, since a record
// without value is a tombstone.
func ToMessage(m *event.Meta, data []byte) kafka.Message {
	msg := kafka.Message{Value: data, Headers: make([]kafka.Header, 0, 16)}
	if m.PartitionKey != "" {
		msg.Key = []byte(m.PartitionKey)
	}
	msg.Headers = append(msg.Headers, kafka.Header{Key: contentType, Value: []byte(event.ContentType)})
	m.Attributes(func(name, value string) {
		msg.Headers = append(msg.Headers, kafka.Header{Key: prefix + name, Value: []byte(value)})
	})
	return msg
}

// FromMessage reads the attributes of a binlog event in binary mode; the
// payload is msg.Value. It is strict: whatever ToMessage could not have
// written, save for extensions by others, is an error that names the header.
func FromMessage(msg *kafka.Message) (event.Meta, error) {
	var m event.Meta
	h, err := readHeaders(msg)
	if err != nil {
		return m, err
	}
	if h.structured() {
		return m, fmt.Errorf("content-type %.60q: a binlog event travels in binary mode", h.contentType)
	}
	if t, _, err := mime.ParseMediaType(h.contentType); err != nil || t != event.ContentType {
		return m, fmt.Errorf("content-type %.60q is not %s", h.contentType, event.ContentType)
	}
	if len(msg.Value) == 0 {
		return m, errors.New("record has no value")
	}
	if h.specVersion == "" {
		return m, fmt.Errorf("%w: no header %sspecversion", ErrNoEvent, prefix)
	}
	for _, a := range h.attributes {
		if err := m.Set(a.name, a.value); err != nil {
			return m, err
		}
	}
	return m, m.Check()
}

// CloudEvent reads any valid CloudEvent 1.0, in binary mode or in structured
// mode with JSON. The event shares memory with msg. A record that is none
// gives ErrNoEvent.
func CloudEvent(msg *kafka.Message) (ce.Event, error) {
	h, err := readHeaders(msg)
	if err != nil {
		return ce.Event{}, err
	}
	if h.structured() {
		return fromStructured(h.contentType, msg.Value)
	}
	if h.specVersion == "" {
		return ce.Event{}, fmt.Errorf("%w: no header %sspecversion and content-type is %.60q", ErrNoEvent, prefix, h.contentType)
	}
	if h.specVersion != ce.CloudEventsVersionV1 {
		return ce.Event{}, fmt.Errorf("specversion %.20q is not %s", h.specVersion, ce.CloudEventsVersionV1)
	}
	e := ce.New(ce.CloudEventsVersionV1)
	for _, a := range h.attributes {
		if err := setAttribute(&e, a.name, a.value); err != nil {
			return e, err
		}
	}
	if h.contentType != "" {
		e.SetDataContentType(h.contentType)
	}
	if len(msg.Value) > 0 {
		e.DataEncoded = msg.Value
	}
	return e, e.Validate()
}

func setAttribute(e *ce.Event, name, v string) (err error) {
	switch name {
	case "specversion":
	case "id":
		err = e.Context.SetID(v)
	case "source":
		err = e.Context.SetSource(v)
	case "type":
		err = e.Context.SetType(v)
	case "subject":
		err = e.Context.SetSubject(v)
	case "dataschema":
		err = e.Context.SetDataSchema(v)
	case "time":
		t, bad := types.ParseTime(v)
		if bad != nil {
			return fmt.Errorf("time %.40q is not RFC 3339", v)
		}
		err = e.Context.SetTime(t)
	default:
		err = e.Context.SetExtension(name, v)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

func fromStructured(contentType string, value []byte) (ce.Event, error) {
	var e ce.Event
	t, _, err := mime.ParseMediaType(contentType)
	if err != nil || t != ce.ApplicationCloudEventsJSON {
		return e, fmt.Errorf("content-type %.60q: of the structured formats only %s is known", contentType, ce.ApplicationCloudEventsJSON)
	}
	if err := json.Unmarshal(value, &e); err != nil {
		return e, fmt.Errorf("structured event: %w", err)
	}
	return e, e.Validate()
}

type attribute struct{ name, value string }

type headers struct {
	contentType string
	specVersion string
	attributes  []attribute // those with the prefix, specversion among them
}

func (h *headers) structured() bool {
	return len(h.contentType) >= len(structured) && strings.EqualFold(h.contentType[:len(structured)], structured)
}

// maxAttributes bounds what one record may carry. CloudEvents has 8 of its own.
const maxAttributes = 100

// readHeaders sorts the headers of the binding from those of others, and
// refuses what has two meanings. In structured mode a producer may repeat the
// attributes as headers; the event in the value is what counts.
func readHeaders(msg *kafka.Message) (headers, error) {
	var h headers
	var err error
	for i := range msg.Headers {
		if msg.Headers[i].Key != contentType {
			continue
		}
		if h.contentType != "" {
			return h, fmt.Errorf("header %q appears twice", contentType)
		}
		if h.contentType, err = headerValue(&msg.Headers[i]); err != nil {
			return h, err
		}
	}
	if h.structured() {
		return h, nil
	}
	for i := range msg.Headers {
		name, ok := strings.CutPrefix(msg.Headers[i].Key, prefix)
		if !ok {
			continue
		}
		value, err := headerValue(&msg.Headers[i])
		if err != nil {
			return h, err
		}
		if err := h.add(name, value); err != nil {
			return h, err
		}
	}
	return h, nil
}

func headerValue(h *kafka.Header) (string, error) {
	if !utf8.Valid(h.Value) {
		return "", fmt.Errorf("header %.60q is not UTF-8", h.Key)
	}
	return string(h.Value), nil
}

func (h *headers) add(name, value string) error {
	if !validName(name) {
		return fmt.Errorf("header %.60q: an attribute's name is made of a-z and 0-9", prefix+name)
	}
	for _, a := range h.attributes {
		if a.name == name {
			return fmt.Errorf("header %.60q appears twice", prefix+name)
		}
	}
	switch {
	case len(h.attributes) == maxAttributes:
		return fmt.Errorf("record has more than %d attributes", maxAttributes)
	case name == "data":
		return fmt.Errorf("header %q: data is the record's value, no attribute", prefix+name)
	case name == "datacontenttype":
		if value != h.contentType {
			return fmt.Errorf("header %q is %.60q but %q is %.60q", prefix+name, value, contentType, h.contentType)
		}
		return nil
	case name == "specversion":
		h.specVersion = value
	}
	h.attributes = append(h.attributes, attribute{name, value})
	return nil
}

func validName(name string) bool {
	for i := range len(name) {
		if c := name[i]; (c < 'a' || c > 'z') && (c < '0' || c > '9') {
			return false
		}
	}
	return name != ""
}
