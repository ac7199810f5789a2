package datacenter_test

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/segmentio/kafka-go"

	"github.com/tandem-dc/tandem/shared/kafkaconn"
	"github.com/tandem-dc/tandem/shared/sqldb"
	"github.com/tandem-dc/tandem/testbench/datacenter"
	"github.com/tandem-dc/tandem/testbench/link"
	"github.com/tandem-dc/tandem/testbench/servers"
)

func TestMain(m *testing.M) { os.Exit(servers.Main(m)) }

func TestTwoDatacentersAndTheWayBetween(t *testing.T) {
	servers.EachKafka(t, func(t *testing.T, kind servers.KafkaKind) {
		const latency = 30 * time.Millisecond
		began := time.Now()
		topics := map[string]int{"events": 1}
		a := datacenter.StartForTest(t, datacenter.Options{Name: "beijing", Number: 1, Flavor: sqldb.MariaDB, Broker: kind, Topics: topics, Redis: true})
		b := datacenter.StartForTest(t, datacenter.Options{Name: "guangzhou", Number: 2, Flavor: sqldb.MySQL, Broker: kind, Topics: topics})
		t.Logf("two datacenters stand after %v", time.Since(began))
		for _, d := range []*datacenter.Datacenter{a, b} {
			var step, offset int
			if err := d.SQL.Admin("").QueryRow("SELECT @@auto_increment_increment, @@auto_increment_offset").Scan(&step, &offset); err != nil {
				t.Fatal(err)
			}
			if step != datacenter.KeyStep || offset != d.Number {
				t.Errorf("%s: generated keys go by %d from %d", d.Name, step, offset)
			}
		}
		if a.Cache == nil || b.Cache != nil {
			t.Error("only beijing asked for Redis")
		}

		there, back, err := datacenter.Connect(a, b, link.Options{Latency: latency})
		if err != nil {
			t.Fatal(err)
		}
		defer there.Close()
		defer back.Close()
		for _, r := range []*datacenter.Route{there, back} {
			if took := produce(t, r.Kafka()); took < 2*latency {
				t.Errorf("a produce from %s to %s took %v, the way there and back is %v", r.From, r.To, took, 2*latency)
			}
		}
		if took := produce(t, b.Kafka.Config()); took > latency {
			t.Logf("slow machine: a local produce took %v", took)
		}
		there.Cut()
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		if err := tryProduce(ctx, t, there.Kafka()); err == nil {
			t.Error("a produce passes a link that is cut")
		}
		produce(t, back.Kafka())
	})
}

// produce tells how long the second of two produces takes, with connections made.
func produce(t *testing.T, c kafkaconn.Config) (took time.Duration) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if err := tryProduce(ctx, t, c, &took); err != nil {
		t.Fatal(err)
	}
	return took
}

func tryProduce(ctx context.Context, t *testing.T, c kafkaconn.Config, took ...*time.Duration) error {
	t.Helper()
	client, closeIdle, err := c.Client()
	if err != nil {
		t.Fatal(err)
	}
	defer closeIdle()
	for range 2 {
		began := time.Now()
		answer, err := client.Produce(ctx, &kafka.ProduceRequest{Topic: "events", RequiredAcks: kafka.RequireAll,
			Records: kafka.NewRecordReader(kafka.Record{Value: kafka.NewBytes([]byte("x"))})})
		if err == nil {
			err = answer.Error
		}
		if err != nil {
			return err
		}
		for _, p := range took {
			*p = time.Since(began)
		}
	}
	return nil
}

func TestProgramsAndWhatIsLeft(t *testing.T) {
	t.Setenv("TANDEM_NOT_FOR_CHILDREN", "x")
	for _, keep := range []bool{true, false} {
		dir := filepath.Join(t.TempDir(), "dc")
		d, err := datacenter.Processes{}.Start(t.Context(), datacenter.Options{Name: "beijing", Number: 1, Flavor: sqldb.MariaDB, Dir: dir})
		if err != nil {
			t.Fatal(err)
		}
		ready := filepath.Join(dir, "ready")
		p, err := d.Run(t.Context(), datacenter.Program{
			Name: "capture", Path: "/bin/sh", Args: []string{"-c", `env; touch "$READY"; exec sleep 300`},
			Env:   map[string]string{"READY": ready, "TANDEM_DC": "beijing"},
			Ready: func(context.Context) error { _, err := os.Stat(ready); return err },
		})
		if err != nil {
			t.Fatal(err)
		}
		if env := p.Tail(1000); !strings.Contains(env, "TANDEM_DC=beijing") || strings.Contains(env, "NOT_FOR_CHILDREN") {
			t.Errorf("the program sees\n%s", env)
		}
		if _, err := d.Run(t.Context(), datacenter.Program{Name: "broken", Path: "/bin/sh", Args: []string{"-c", "echo mysql.addr is wrong; exit 3"},
			Ready: func(context.Context) error { return os.ErrNotExist }}); err == nil || !strings.Contains(err.Error(), "mysql.addr is wrong") {
			t.Errorf("a program that ends at once: %v", err)
		}
		if err := d.Close(keep); err != nil {
			t.Fatal(err)
		}
		if p.Running() {
			t.Error("the program outlives its datacenter")
		}
		var left []string
		if err := filepath.WalkDir(filepath.Dir(dir), func(path string, e os.DirEntry, err error) error {
			if err == nil && !e.IsDir() {
				left = append(left, filepath.Base(path))
			}
			return err
		}); err != nil {
			t.Fatal(err)
		}
		slices.Sort(left)
		want := ""
		if keep {
			want = "broken.log capture.log etcd.log kafka.log mariadb.log"
		}
		if got := strings.Join(left, " "); got != want {
			t.Errorf("keep %v leaves %q, want %q", keep, got, want)
		}
	}
}

func TestImpossibleOptionsAreRefused(t *testing.T) {
	for _, o := range []datacenter.Options{{}, {Name: "Peking", Number: 1}, {Name: "beijing"}, {Name: "beijing", Number: 9}} {
		if d, err := (datacenter.Processes{}).Start(t.Context(), o); err == nil {
			t.Errorf("%+v is accepted", o)
			d.Close(false)
		}
	}
}
