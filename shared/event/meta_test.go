package event

import (
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	ce "github.com/cloudevents/sdk-go/v2/event"
	"pgregory.net/rapid"
)

func TestMetaThroughCloudEvent(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := genMeta().Draw(t, "meta")
		e, err := want.CloudEvent([]byte(`{"a":1}`))
		if err != nil {
			t.Fatal(err)
		}
		if string(e.Data()) != `{"a":1}` || e.DataContentType() != ContentType {
			t.Fatalf("data is %q of type %s", e.Data(), e.DataContentType())
		}
		got, err := FromCloudEvent(&e)
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(got, want) {
			t.Fatalf("got  %+v\nwant %+v", got, want)
		}
	})
}

func TestMetaThroughAttributes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := genMeta().Draw(t, "meta")
		var got Meta
		want.Attributes(func(name, v string) {
			if v == "" {
				t.Fatalf("attribute %s is empty, which CloudEvents forbids", name)
			}
			if strings.Trim(name, "abcdefghijklmnopqrstuvwxyz0123456789") != "" || len(name) > 20 {
				t.Fatalf("attribute name %s is illegal", name)
			}
			if err := got.Set(name, v); err != nil {
				t.Fatal(err)
			}
		})
		if err := got.Check(); err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(got, want) {
			t.Fatalf("got  %+v\nwant %+v", got, want)
		}
	})
}

func TestAttributes(t *testing.T) {
	m := Meta{
		ID: "u:5", Source: Source("beijing", "u"), Type: TypeTransaction, Time: time.Date(2024, 1, 31, 12, 0, 0, 500_000, time.FixedZone("", 8*3600)),
		Origin: "beijing", Epoch: 3, Sequence: 17, LastCommitted: 12, Applied: []Mark{{"guangzhou", 2, 99}, {"chengdu", 1, 0}},
	}
	got := map[string]string{}
	m.Attributes(func(name, v string) { got[name] = v })
	want := map[string]string{
		"specversion": "1.0", "id": "u:5", "source": "/tandem/beijing/mysql/u", "type": "dev.tandem.binlog.transaction.v1",
		"time": "2024-01-31T04:00:00.0005Z", "origindc": "beijing", "epoch": "3", "sequence": "00000000000000000017",
		"lastcommitted": "12", "applied": "guangzhou:2:99,chengdu:1:0",
	}
	if !maps.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestFromCloudEventRefuses(t *testing.T) {
	good := Meta{ID: "u:5", Source: "/tandem/beijing/mysql/u", Type: TypeTransaction, Origin: "beijing", Epoch: 3, Sequence: 17, LastCommitted: 12}
	for want, spoil := range map[string]func(e *ce.Event){
		"type":                        func(e *ce.Event) { e.SetType("com.example.other") },
		"origindc":                    func(e *ce.Event) { e.SetExtension(ExtOrigin, "Bei jing") },
		"epoch is missing":            func(e *ce.Event) { e.SetExtension(ExtEpoch, nil) },
		"epoch \"x\"":                 func(e *ce.Event) { e.SetExtension(ExtEpoch, "x") },
		"epoch \"-1\"":                func(e *ce.Event) { e.SetExtension(ExtEpoch, -1) },
		"sequence is missing":         func(e *ce.Event) { e.SetExtension(ExtSequence, "0") },
		"lastcommitted 17":            func(e *ce.Event) { e.SetExtension(ExtLastCommitted, 17) },
		"not dc:epoch:sequence":       func(e *ce.Event) { e.SetExtension(ExtApplied, "a:1") },
		"no datacenter name":          func(e *ce.Event) { e.SetExtension(ExtApplied, "A:1:1") },
		"applied \"y\"":               func(e *ce.Event) { e.SetExtension(ExtApplied, "a:1:y") },
		"more than 64":                func(e *ce.Event) { e.SetExtension(ExtApplied, strings.Repeat("a:1:1,", 64)+"a:1:1") },
		"source is missing":           func(e *ce.Event) { e.Context.(*ce.EventContextV1).Source.Path = "" },
		"id is missing":               func(e *ce.Event) { e.Context.(*ce.EventContextV1).ID = "" },
		"18446744073709551616":        func(e *ce.Event) { e.SetExtension(ExtSequence, "18446744073709551616") },
		"":                            func(*ce.Event) {},
		"knative stamps are ignored ": func(e *ce.Event) { e.SetExtension("knativekafkaoffset", 7) },
	} {
		e, err := good.CloudEvent([]byte(`{}`))
		if err != nil {
			t.Fatal(err)
		}
		spoil(&e)
		_, err = FromCloudEvent(&e)
		if fine := want == "" || strings.HasSuffix(want, " "); fine != (err == nil) || !fine && !strings.Contains(err.Error(), want) {
			t.Errorf("want an error that says %q, got %v", want, err)
		}
	}
}

func TestSetRefuses(t *testing.T) {
	var m Meta
	for name, v := range map[string]string{"specversion": "0.3", "time": "yesterday", ExtEpoch: "1e3", ExtApplied: ","} {
		if err := m.Set(name, v); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s=%s gives %v", name, v, err)
		}
	}
}

func TestHeartbeatMayComeBeforeTheFirstTransaction(t *testing.T) {
	m := Meta{ID: "h", Source: "/s", Type: TypeHeartbeat, Origin: "a", Epoch: 1}
	if err := m.Check(); err != nil {
		t.Error(err)
	}
}

func TestCheckName(t *testing.T) {
	good := []string{"a", "beijing", "dc-2", strings.Repeat("a", MaxNameLen)}
	bad := []string{"", "2dc", "-a", "Beijing", "北京", "a_b", "a.b", "a:b", strings.Repeat("a", MaxNameLen+1)}
	for _, s := range slices.Concat(good, bad) {
		if err := CheckName(s); (err == nil) != slices.Contains(good, s) {
			t.Errorf("%q: %v", s, err)
		}
	}
}
