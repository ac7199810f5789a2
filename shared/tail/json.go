package tail

import (
	"encoding/json"
	"io"

	"github.com/segmentio/kafka-go"

	"github.com/tandem-dc/tandem/shared/event"
	"github.com/tandem-dc/tandem/shared/kafkace"
)

// JSON prints each event as one line in the JSON format of CloudEvents, with
// the place in the topic in the extensions that Knative uses for it. A record
// that is no event becomes {"error": ..., "partition": ..., "offset": ...}.
type JSON struct {
	Heartbeats bool // print heartbeats as well
}

// Print writes one record.
func (j JSON) Print(w io.Writer, m *kafka.Message) error {
	line, err := j.line(m)
	if err != nil {
		line, err = json.Marshal(map[string]any{"error": err.Error(), "partition": m.Partition, "offset": m.Offset})
	}
	if err != nil || line == nil {
		return err
	}
	_, err = w.Write(append(line, '\n'))
	return err
}

// line is nil for an event that is not asked for.
func (j JSON) line(m *kafka.Message) ([]byte, error) {
	e, err := kafkace.CloudEvent(m)
	if err != nil || e.Type() == event.TypeHeartbeat && !j.Heartbeats {
		return nil, err
	}
	e.SetExtension("knativekafkapartition", m.Partition)
	e.SetExtension("knativekafkaoffset", m.Offset)
	if e.DataContentType() == event.ContentType && !json.Valid(e.Data()) {
		e.DataBase64 = true // else it would break the line around it
	}
	return json.Marshal(e)
}
