package kafkace

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/segmentio/kafka-go"
	"pgregory.net/rapid"

	"github.com/tandem-dc/tandem/shared/event"
)

var update = flag.Bool("update", false, "write the golden files anew; commit only differences that you understand")

// readRecord reads a .record file: headers ("key" stands for the record's key), an empty line, the value.
func readRecord(t testing.TB, path string) *kafka.Message {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	head, value, ok := bytes.Cut(data, []byte("\n\n"))
	if !ok {
		t.Fatalf("%s has no empty line", path)
	}
	var msg kafka.Message
	if len(value) > 0 {
		msg.Value = value
	}
	for _, line := range strings.Split(string(head), "\n") {
		k, v, _ := strings.Cut(line, ": ")
		if k == "key" {
			msg.Key = []byte(v)
			continue
		}
		msg.Headers = append(msg.Headers, kafka.Header{Key: k, Value: []byte(v)})
	}
	return &msg
}

// Each testdata/X.record reads as the event in X.json, or with the error in X.error.
func TestRecords(t *testing.T) {
	paths, err := filepath.Glob("testdata/*.record")
	if err != nil || len(paths) == 0 {
		t.Fatal("no test data", err)
	}
	for _, path := range paths {
		base := strings.TrimSuffix(path, ".record")
		t.Run(filepath.Base(base), func(t *testing.T) {
			golden := base + ".json"
			var got []byte
			e, err := CloudEvent(readRecord(t, path))
			if strings.HasPrefix(filepath.Base(base), "refused") != (err != nil) {
				t.Errorf("error is %v", err)
			}
			if err != nil {
				golden, got = base+".error", []byte(err.Error()+"\n")
			} else if got, err = json.MarshalIndent(e, "", "  "); err != nil {
				t.Fatal(err)
			} else {
				got = append(got, '\n')
			}
			if *update {
				if err := os.WriteFile(golden, got, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got, want) {
				t.Errorf("got:\n%swant:\n%s", got, want)
			}
		})
	}
}

func TestErrNoEvent(t *testing.T) {
	if _, err := CloudEvent(&kafka.Message{Value: []byte("x")}); !errors.Is(err, ErrNoEvent) {
		t.Errorf("got %v", err)
	}
}

func genMeta() *rapid.Generator[event.Meta] {
	return rapid.Custom(func(t *rapid.T) event.Meta {
		dc := rapid.StringMatching(`[a-z][a-z0-9-]{0,31}`)
		word := rapid.StringMatching(`[!-~双]{1,30}`)
		m := event.Meta{
			ID: word.Draw(t, "id"), Source: rapid.StringMatching(`(/[a-z0-9-]{1,10}){1,4}`).Draw(t, "source"),
			Type:    rapid.SampledFrom([]string{event.TypeTransaction, event.TypeStatement, event.TypeHeartbeat}).Draw(t, "type"),
			Subject: word.Draw(t, "subject"), Origin: dc.Draw(t, "origin"),
			Epoch: rapid.Uint64Min(1).Draw(t, "epoch"), Sequence: rapid.Uint64Min(1).Draw(t, "sequence"),
			Time:         time.Unix(rapid.Int64Range(0, 1<<36).Draw(t, "s"), rapid.Int64Range(0, 999_999_999).Draw(t, "ns")).UTC(),
			PartitionKey: rapid.String().Draw(t, "key"), TraceParent: word.Draw(t, "trace"),
		}
		m.LastCommitted = rapid.Uint64Range(0, m.Sequence-1).Draw(t, "last")
		for range rapid.IntRange(0, 3).Draw(t, "marks") {
			m.Applied = append(m.Applied, event.Mark{Origin: dc.Draw(t, "dc"), Epoch: rapid.Uint64().Draw(t, "e"), Sequence: rapid.Uint64().Draw(t, "s")})
		}
		return m
	})
}

func TestRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := genMeta().Draw(t, "meta")
		data := []byte(`{"schema":"x"}`)
		msg := ToMessage(&want, data)
		if string(msg.Key) != want.PartitionKey || !bytes.Equal(msg.Value, data) || !msg.Time.IsZero() || msg.Topic != "" {
			t.Fatalf("message is %+v", msg)
		}
		got, err := FromMessage(&msg)
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(got, want) {
			t.Fatalf("got  %+v\nwant %+v", got, want)
		}
	})
}

// A generic CloudEvents reader sees the same event as ours.
func TestGenericReaderAgrees(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := genMeta().Draw(t, "meta")
		want.PartitionKey = strconv.FormatUint(want.Sequence, 10)
		msg := ToMessage(&want, []byte(`{}`))
		e, err := CloudEvent(&msg)
		if err != nil {
			t.Fatal(err)
		}
		got, err := event.FromCloudEvent(&e)
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(got, want) || string(e.Data()) != `{}` || e.DataContentType() != event.ContentType {
			t.Fatalf("got  %+v\nwant %+v", got, want)
		}
	})
}

func TestFromMessageRefuses(t *testing.T) {
	good := event.Meta{ID: "u:5", Source: "/tandem/beijing/mysql/u", Type: event.TypeTransaction, Origin: "beijing", Epoch: 3, Sequence: 17, LastCommitted: 12}
	header := func(key, value string) func(*kafka.Message) {
		return func(m *kafka.Message) {
			for i := range m.Headers {
				if m.Headers[i].Key == key {
					m.Headers[i].Value = []byte(value)
					return
				}
			}
			m.Headers = append(m.Headers, kafka.Header{Key: key, Value: []byte(value)})
		}
	}
	for _, c := range []struct {
		want  string
		spoil func(*kafka.Message)
	}{
		{"", func(*kafka.Message) {}},
		{"", header("ce_knativekafkaoffset", "7")},
		{"", header("other", "\xff")},
		{"no value", func(m *kafka.Message) { m.Value = nil }},
		{"content-type", header("content-type", "text/plain")},
		{"binary mode", header("content-type", "application/cloudevents+json")},
		{"specversion", header("ce_specversion", "0.3")},
		{"specversion", func(m *kafka.Message) { m.Headers = slices.Delete(m.Headers, 1, 2) }},
		{"type", header("ce_type", "x")},
		{"sequence", header("ce_sequence", "x")},
		{"twice", func(m *kafka.Message) { m.Headers = append(m.Headers, m.Headers[3]) }},
		{"twice", func(m *kafka.Message) { m.Headers = append(m.Headers, m.Headers[0]) }},
		{"not UTF-8", header("ce_subject", "\xff")},
		{"a-z and 0-9", header("ce_a_b", "x")},
		{"no attribute", header("ce_data", "x")},
		{"more than 100", func(m *kafka.Message) {
			for i := range 101 {
				header("ce_x"+strconv.Itoa(i), "")(m)
			}
		}},
	} {
		msg := ToMessage(&good, []byte(`{}`))
		c.spoil(&msg)
		if _, err := FromMessage(&msg); (c.want == "") != (err == nil) || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("want an error that says %q, got %v", c.want, err)
		}
	}
}

// fuzzMessage makes a message of lines like those of a .record file.
func fuzzMessage(head string, value []byte) *kafka.Message {
	msg := &kafka.Message{Value: value}
	for _, line := range strings.Split(head, "\n") {
		k, v, _ := strings.Cut(line, ": ")
		msg.Headers = append(msg.Headers, kafka.Header{Key: k, Value: []byte(v)})
	}
	return msg
}

func seed(f *testing.F) {
	paths, _ := filepath.Glob("testdata/*.record")
	for _, path := range paths {
		data, err := os.ReadFile(path)
		if err != nil {
			f.Fatal(err)
		}
		head, value, _ := bytes.Cut(data, []byte("\n\n"))
		f.Add(string(head), value)
	}
	f.Add("content-type: application/json\nce_specversion: 1.0\nce_id: 1\nce_source: s\nce_type: "+event.TypeTransaction+
		"\nce_origindc: a\nce_epoch: 1\nce_sequence: 2\nce_lastcommitted: 1\nce_applied: b:1:1\nce_time: 2024-01-31T12:00:00.5Z", []byte(`{}`))
}

// What is accepted is written again as the same.
func FuzzFromMessage(f *testing.F) {
	seed(f)
	f.Fuzz(func(t *testing.T, head string, value []byte) {
		msg := fuzzMessage(head, value)
		m, err := FromMessage(msg)
		if err != nil {
			return
		}
		again := ToMessage(&m, msg.Value)
		back, err := FromMessage(&again)
		if err != nil {
			t.Fatalf("%v in %+v", err, again)
		}
		if !reflect.DeepEqual(m, back) {
			t.Fatalf("got  %+v\nwant %+v", back, m)
		}
	})
}

// What is accepted is a valid event, and survives as JSON.
func FuzzCloudEvent(f *testing.F) {
	seed(f)
	f.Fuzz(func(t *testing.T, head string, value []byte) {
		e, err := CloudEvent(fuzzMessage(head, value))
		if err != nil {
			return
		}
		if err := e.Validate(); err != nil {
			t.Fatal(err)
		}
	})
}

func BenchmarkToMessage(b *testing.B) {
	m := event.Meta{
		ID: "7a5c:12", Source: "/tandem/beijing/mysql/7a5c", Type: event.TypeTransaction, Time: time.Now(), Origin: "beijing",
		Epoch: 1, Sequence: 123456, LastCommitted: 123400, Applied: []event.Mark{{Origin: "guangzhou", Epoch: 1, Sequence: 99}},
	}
	data := []byte(`{}`)
	b.ReportAllocs()
	for b.Loop() {
		ToMessage(&m, data)
	}
}

func BenchmarkFromMessage(b *testing.B) {
	m := event.Meta{
		ID: "7a5c:12", Source: "/tandem/beijing/mysql/7a5c", Type: event.TypeTransaction, Time: time.Now(), Origin: "beijing",
		Epoch: 1, Sequence: 123456, LastCommitted: 123400, Applied: []event.Mark{{Origin: "guangzhou", Epoch: 1, Sequence: 99}},
	}
	msg := ToMessage(&m, []byte(`{}`))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := FromMessage(&msg); err != nil {
			b.Fatal(err)
		}
	}
}
