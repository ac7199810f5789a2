package event

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	ce "github.com/cloudevents/sdk-go/v2/event"
	"github.com/cloudevents/sdk-go/v2/types"
)

// CloudEvents types. The trailing version is bumped only by a breaking change.
const (
	TypeTransaction = "dev.tandem.binlog.transaction.v1" // data: Transaction
	TypeStatement   = "dev.tandem.binlog.statement.v1"   // data: Transaction with Statement set (DDL, or DML that was logged as text)
	TypeHeartbeat   = "dev.tandem.binlog.heartbeat.v1"   // data: Heartbeat
	TypeDeadLetter  = "dev.tandem.deadletter.v1"         // data: the refused event's data; reason in the extensions
)

// CloudEvents extension names: only a-z and 0-9 are legal there.
const (
	ExtOrigin        = "origindc"      // name of the DC where the transaction was committed first
	ExtEpoch         = "epoch"         // numbering generation, decimal
	ExtSequence      = "sequence"      // 20 digits, zero-padded so that it sorts as text
	ExtLastCommitted = "lastcommitted" // decimal; the sequence that must be applied before this one
	ExtApplied       = "applied"       // "dc:epoch:sequence" joined by commas: the writer DC's low-water marks
	ExtPartitionKey  = "partitionkey"
	ExtTraceParent   = "traceparent"
	ExtReason        = "reason" // dead letters only: why it was refused
)

// ContentType of every payload.
const ContentType = "application/json"

// Meta holds the CloudEvents attributes of one event.
//
// Sequence numbers of a stream (Origin, receiving DC) are contiguous from 1
// within an Epoch. LastCommitted < Sequence: the event may be applied once
// everything up to LastCommitted is. A heartbeat takes no number: its Sequence
// is the newest one given out when it was made.
type Meta struct {
	ID            string
	Source        string // "/tandem/<dc>/mysql/<server>"
	Type          string
	Subject       string
	Time          time.Time // commit time at the origin, µs where the server records it
	Origin        string
	Epoch         uint64
	Sequence      uint64
	LastCommitted uint64
	Applied       []Mark
	PartitionKey  string
	TraceParent   string
	Reason        string
}

// Mark is a low-water mark: everything of Origin's stream up to Sequence is applied.
type Mark struct {
	Origin   string
	Epoch    uint64
	Sequence uint64
}

// Source returns the CloudEvents source of a server in a datacenter.
func Source(dc, server string) string { return "/tandem/" + dc + "/mysql/" + server }

// MaxNameLen bounds a datacenter name, in bytes.
const MaxNameLen = 32

// CheckName reports whether dc can name a datacenter: 1 to MaxNameLen of a-z,
// 0-9 and '-', beginning with a letter. It goes into topic names, URIs and SQL
// values unescaped.
func CheckName(dc string) error {
	ok := len(dc) > 0 && len(dc) <= MaxNameLen && dc[0] >= 'a' && dc[0] <= 'z'
	for i := 0; ok && i < len(dc); i++ {
		c := dc[i]
		ok = c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '-'
	}
	if !ok {
		return fmt.Errorf("%q is no datacenter name: use 1 to %d of a-z, 0-9 and -, beginning with a letter", dc, MaxNameLen)
	}
	return nil
}

// Topic returns the Kafka topic that carries the transactions of a datacenter.
func Topic(dc string) string { return "binlog-" + dc }

// DeadLetterTopic returns the Kafka topic of events that a datacenter refused.
func DeadLetterTopic(dc string) string { return "deadletter-" + dc }

// Attributes calls f with each attribute of m that is set, in a fixed order and
// in CloudEvents string form; names are bare (no ce_ prefix). datacontenttype
// is not among them.
func (m *Meta) Attributes(f func(name, value string)) {
	f("specversion", "1.0")
	f("id", m.ID)
	f("source", m.Source)
	f("type", m.Type)
	opt := func(name, v string) {
		if v != "" {
			f(name, v)
		}
	}
	opt("subject", m.Subject)
	if !m.Time.IsZero() {
		f("time", m.Time.UTC().Format(time.RFC3339Nano))
	}
	opt(ExtOrigin, m.Origin)
	if m.Epoch != 0 {
		f(ExtEpoch, strconv.FormatUint(m.Epoch, 10))
		f(ExtSequence, fmt.Sprintf("%020d", m.Sequence))
		f(ExtLastCommitted, strconv.FormatUint(m.LastCommitted, 10))
	}
	opt(ExtApplied, formatMarks(m.Applied))
	opt(ExtPartitionKey, m.PartitionKey)
	opt(ExtTraceParent, m.TraceParent)
	opt(ExtReason, m.Reason)
}

// CloudEvent returns m and data as an SDK event.
func (m *Meta) CloudEvent(data []byte) (ce.Event, error) {
	e := ce.New()
	e.SetID(m.ID)
	e.SetSource(m.Source)
	e.SetType(m.Type)
	if m.Subject != "" {
		e.SetSubject(m.Subject)
	}
	if !m.Time.IsZero() {
		e.SetTime(m.Time)
	}
	m.Attributes(func(name, v string) {
		if isExtension(name) {
			e.SetExtension(name, v)
		}
	})
	if err := e.SetData(ContentType, data); err != nil {
		return e, err
	}
	return e, e.Validate()
}

func isExtension(name string) bool {
	return !slices.Contains([]string{"specversion", "id", "source", "type", "subject", "time"}, name)
}

// FromCloudEvent reads the attributes of a binlog event. Extensions that tandem
// does not know (Knative stamps its own) are ignored. Errors name the attribute.
func FromCloudEvent(e *ce.Event) (Meta, error) {
	m := Meta{ID: e.ID(), Source: e.Source(), Type: e.Type(), Subject: e.Subject(), Time: e.Time()}
	for name, v := range e.Extensions() {
		s, err := types.Format(v)
		if err != nil {
			return m, fmt.Errorf("%s: %w", name, err)
		}
		if err := m.setExtension(name, s); err != nil {
			return m, err
		}
	}
	return m, m.Check()
}

// Set stores the attribute name in m, from its CloudEvents string form; names
// are bare and in lower case. An extension that tandem does not know is ignored.
func (m *Meta) Set(name, v string) (err error) {
	switch name {
	case "specversion":
		if v != ce.CloudEventsVersionV1 {
			err = fmt.Errorf("specversion %.20q is not 1.0", v)
		}
	case "id":
		m.ID = v
	case "source":
		m.Source = v
	case "type":
		m.Type = v
	case "subject":
		m.Subject = v
	case "time":
		if m.Time, err = time.Parse(time.RFC3339Nano, v); err != nil {
			return fmt.Errorf("time %.40q is not RFC 3339", v)
		}
		m.Time = m.Time.UTC()
	default:
		err = m.setExtension(name, v)
	}
	return err
}

func (m *Meta) setExtension(name, v string) (err error) {
	switch name {
	case ExtOrigin:
		m.Origin = v
	case ExtEpoch:
		m.Epoch, err = parseNumber(name, v)
	case ExtSequence:
		m.Sequence, err = parseNumber(name, v)
	case ExtLastCommitted:
		m.LastCommitted, err = parseNumber(name, v)
	case ExtApplied:
		m.Applied, err = parseMarks(v)
	case ExtPartitionKey:
		m.PartitionKey = v
	case ExtTraceParent:
		m.TraceParent = v
	case ExtReason:
		m.Reason = v
	}
	return err
}

// Check refuses attributes that would confuse the order of a stream, and what
// CloudEvents asks of every event. Errors name the attribute.
func (m *Meta) Check() error {
	if m.ID == "" {
		return fmt.Errorf("id is missing")
	}
	if m.Source == "" {
		return fmt.Errorf("source is missing")
	}
	switch m.Type {
	case TypeTransaction, TypeStatement, TypeHeartbeat:
	default:
		return fmt.Errorf("type %q is not one that tandem applies", m.Type)
	}
	if err := CheckName(m.Origin); err != nil {
		return fmt.Errorf("%s: %w", ExtOrigin, err)
	}
	if m.Epoch == 0 {
		return fmt.Errorf("%s is missing or 0", ExtEpoch)
	}
	if m.Type == TypeHeartbeat {
		return nil
	}
	if m.Sequence == 0 {
		return fmt.Errorf("%s is missing or 0", ExtSequence)
	}
	if m.LastCommitted >= m.Sequence {
		return fmt.Errorf("%s %d is not below %s %d", ExtLastCommitted, m.LastCommitted, ExtSequence, m.Sequence)
	}
	return nil
}

func parseNumber(name, v string) (uint64, error) {
	n, err := strconv.ParseUint(v, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("%s %.40q is no unsigned decimal number", name, v)
	}
	return n, nil
}

func formatMarks(marks []Mark) string {
	var b strings.Builder
	for i, m := range marks {
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, "%s:%d:%d", m.Origin, m.Epoch, m.Sequence)
	}
	return b.String()
}

// maxMarks bounds how many datacenters one event may speak of.
const maxMarks = 64

func parseMarks(s string) ([]Mark, error) {
	if s == "" {
		return nil, nil
	}
	if strings.Count(s, ",") >= maxMarks {
		return nil, fmt.Errorf("%s names more than %d datacenters", ExtApplied, maxMarks)
	}
	parts := strings.Split(s, ",")
	marks := make([]Mark, 0, len(parts))
	for _, part := range parts {
		f := strings.Split(part, ":")
		if len(f) != 3 {
			return nil, fmt.Errorf("%s: %.80q is not dc:epoch:sequence", ExtApplied, part)
		}
		if err := CheckName(f[0]); err != nil {
			return nil, fmt.Errorf("%s: %w", ExtApplied, err)
		}
		epoch, err := parseNumber(ExtApplied, f[1])
		if err != nil {
			return nil, err
		}
		seq, err := parseNumber(ExtApplied, f[2])
		if err != nil {
			return nil, err
		}
		marks = append(marks, Mark{f[0], epoch, seq})
	}
	return marks, nil
}
