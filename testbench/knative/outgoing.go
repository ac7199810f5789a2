package knative

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"

	ce "github.com/cloudevents/sdk-go/v2/event"
	"github.com/cloudevents/sdk-go/v2/types"
	"github.com/segmentio/kafka-go"

	"github.com/tandem-dc/tandem/shared/kafkace"
)

// Extensions that Knative sets.
const (
	extPartition = "knativekafkapartition"
	extOffset    = "knativekafkaoffset"
	extErrorDest = "knativeerrordest"
	extErrorCode = "knativeerrorcode"
	extErrorData = "knativeerrordata"
)

// plainType is the type of an event made from a record that was none.
const plainType = "dev.knative.kafka.event"

// maxErrorData is how much of a refusal's body a dead letter carries.
const maxErrorData = 1024

type attribute struct{ name, value string }

// outgoing is an event on its way to a sink, in binary mode.
type outgoing struct {
	attributes  []attribute
	contentType string
	data        []byte
}

func (o *outgoing) set(name, value string) {
	for i := range o.attributes {
		if o.attributes[i].name == name {
			o.attributes[i].value = value
			return
		}
	}
	o.attributes = append(o.attributes, attribute{name, value})
}

func (o *outgoing) header() http.Header {
	h := make(http.Header, len(o.attributes)+1)
	for _, a := range o.attributes {
		h.Set("Ce-"+a.name, a.value)
	}
	if o.contentType != "" {
		h.Set("Content-Type", o.contentType)
	}
	return h
}

func (o *outgoing) message() kafka.Message {
	m := kafka.Message{Value: o.data}
	for _, a := range o.attributes {
		m.Headers = append(m.Headers, kafka.Header{Key: "ce_" + a.name, Value: []byte(a.value)})
		if a.name == "partitionkey" {
			m.Key = []byte(a.value)
		}
	}
	if o.contentType != "" {
		m.Headers = append(m.Headers, kafka.Header{Key: "content-type", Value: []byte(o.contentType)})
	}
	return m
}

// dead returns a copy that says why it could not be delivered.
func (o *outgoing) dead(f *failure) *outgoing {
	d := &outgoing{attributes: slices.Clone(o.attributes), contentType: o.contentType, data: o.data}
	d.set(extErrorDest, f.dest)
	if f.status != 0 {
		d.set(extErrorCode, strconv.Itoa(f.status))
		d.set(extErrorData, base64.StdEncoding.EncodeToString(f.body))
	}
	return d
}

// fromRecord returns the event of a record with what a KafkaSource adds.
// wrapped tells that the record was no CloudEvent and has been made one.
func fromRecord(msg *kafka.Message, source ObjectMeta, overrides map[string]string) (o *outgoing, wrapped bool, err error) {
	e, err := kafkace.CloudEvent(msg)
	if err != nil {
		o, wrapped = wrap(msg, source), true
	} else if o, err = fromEvent(&e); err != nil {
		return nil, false, err
	}
	for name, v := range overrides {
		o.set(name, v)
	}
	o.set(extPartition, strconv.Itoa(msg.Partition))
	o.set(extOffset, strconv.FormatInt(msg.Offset, 10))
	return o, wrapped, nil
}

func fromEvent(e *ce.Event) (*outgoing, error) {
	o := &outgoing{contentType: e.DataContentType(), data: e.Data()}
	add := func(name, v string) {
		if v != "" {
			o.attributes = append(o.attributes, attribute{name, v})
		}
	}
	add("specversion", e.SpecVersion())
	add("id", e.ID())
	add("source", e.Source())
	add("type", e.Type())
	add("subject", e.Subject())
	add("dataschema", e.DataSchema())
	if t := e.Time(); !t.IsZero() {
		add("time", types.FormatTime(t))
	}
	for name, v := range e.Extensions() {
		s, err := types.Format(v)
		if err != nil {
			return nil, fmt.Errorf("extension %s: %w", name, err)
		}
		add(name, s)
	}
	return o, nil
}

// wrap makes an event of a record that is none, as InvalidCloudEventInterceptor does.
func wrap(msg *kafka.Message, source ObjectMeta) *outgoing {
	o := &outgoing{data: msg.Value}
	namespace := source.Namespace
	if namespace == "" {
		namespace = "default"
	}
	o.set("specversion", "1.0")
	o.set("id", fmt.Sprintf("partition:%d/offset:%d", msg.Partition, msg.Offset))
	o.set("source", fmt.Sprintf("/apis/v1/namespaces/%s/kafkasources/%s#%s", namespace, source.Name, msg.Topic))
	o.set("type", plainType)
	o.set("subject", fmt.Sprintf("partition:%d#%d", msg.Partition, msg.Offset))
	if !msg.Time.IsZero() {
		o.set("time", types.FormatTime(msg.Time.UTC()))
	}
	if len(msg.Key) > 0 {
		o.set("partitionkey", headerText(msg.Key))
		o.set("key", headerText(msg.Key))
	}
	for _, h := range msg.Headers {
		if strings.EqualFold(h.Key, "content-type") {
			o.contentType = headerText(h.Value)
			continue
		}
		o.set("kafkaheader"+attributeName(h.Key), headerText(h.Value))
	}
	return o
}

func attributeName(s string) string {
	return strings.Map(func(r rune) rune {
		if r >= 'A' && r <= 'Z' {
			r += 'a' - 'A'
		}
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' {
			return r
		}
		return -1
	}, s)
}

// headerText keeps what may stand in an HTTP header; the rest becomes '?'.
func headerText(b []byte) string {
	return strings.Map(func(r rune) rune {
		if r < 0x20 || r == 0x7f {
			return '?'
		}
		return r
	}, strings.ToValidUTF8(string(b), "?"))
}
