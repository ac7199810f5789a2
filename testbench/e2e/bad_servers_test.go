package e2e_test

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tandem-dc/tandem/capture/checkpoint"
	"github.com/tandem-dc/tandem/shared/coord"
	"github.com/tandem-dc/tandem/testbench/cluster"
	"github.com/tandem-dc/tandem/testbench/link"
	"github.com/tandem-dc/tandem/testbench/port"
	"github.com/tandem-dc/tandem/testbench/servers"
)

// checkpoints reads those of a side's streams, by target.
func (w *world) checkpoints(t *testing.T, side int) map[string]checkpoint.Checkpoint {
	t.Helper()
	s := w.Sides[side]
	cli, err := coord.Open(coord.Config{Endpoints: []string{s.Etcd.Endpoint()}, DialTimeout: 5 * time.Second}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer cli.Close()
	all := map[string]checkpoint.Checkpoint{}
	for _, to := range w.Sides {
		store, err := checkpoint.New(cli, s.Name, to.Name)
		if err != nil {
			t.Fatal(err)
		}
		// It follows the acknowledgements at a distance.
		eventually(t, 10*time.Second, func(ctx context.Context) error {
			cp, ok, err := store.Load(ctx)
			if err != nil || !ok {
				return fmt.Errorf("checkpoint to %s: %v, %w", to.Name, ok, err)
			}
			stream, err := s.Stream(ctx, to.Name)
			if err == nil && cp.Sequence < stream.Acked {
				return fmt.Errorf("checkpoint to %s is at %d, acknowledged is %d", to.Name, cp.Sequence, stream.Acked)
			}
			all[to.Name] = cp // a stream that stands has no status
			return nil
		})
	}
	return all
}

// unready waits until a capture of the side says on /readyz, with 503, all of that.
func (w *world) unready(t *testing.T, side int, says ...string) {
	t.Helper()
	eventually(t, 30*time.Second, func(ctx context.Context) error {
		var bodies []string
		for _, i := range w.Sides[side].Runtime.Instances("capture") {
			err := notReady(ctx, i.URL(), says...)
			if err == nil {
				return nil
			}
			bodies = append(bodies, err.Error())
		}
		return fmt.Errorf("no capture says %q: %q", says, bodies)
	})
}

// notReady is nil if the program is not ready and says all of that.
func notReady(ctx context.Context, url string, says ...string) error {
	status, body, err := get(ctx, url+"readyz")
	if err != nil {
		return err
	}
	if status != http.StatusServiceUnavailable {
		return fmt.Errorf("readyz answers %d: %s", status, body)
	}
	for _, x := range says {
		if !strings.Contains(body, x) {
			return fmt.Errorf("readyz does not say %q: %s", x, body)
		}
	}
	return nil
}

func isReady(ctx context.Context, url string) error {
	status, body, err := get(ctx, url+"readyz")
	if err == nil && status != http.StatusOK {
		err = fmt.Errorf("readyz answers %d: %s", status, body)
	}
	return err
}

// The broker of the peer is dead: the own log goes on, and so does what the
// peer sends here. What the dead one misses arrives later.
func TestBadPeerDead(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		name := w.table(t, tables, "alone", "%s (id INT PRIMARY KEY, v VARCHAR(20))")
		w.drain(t)
		before := w.losses(t)
		a, b := w.Sides[0], w.Sides[1]
		if err := b.Kafka.Kill(); err != nil {
			t.Fatal(err)
		}
		started := false
		restart := func() {
			if !started {
				started = true
				if err := b.Kafka.Restart(context.WithoutCancel(t.Context())); err != nil {
					t.Error(err)
				}
			}
		}
		t.Cleanup(restart)
		local, err := a.Stream(t.Context(), a.Name)
		if err != nil {
			t.Fatal(err)
		}
		for n := range 20 {
			w.write(t, 0, fmt.Sprintf("INSERT INTO %s VALUES (%d, 'to the own log')", name, 2*n))
			w.write(t, 1, fmt.Sprintf("INSERT INTO %s VALUES (%d, 'to the living')", name, 2*n+1))
		}
		eventually(t, 5*time.Second, func(ctx context.Context) error {
			now, err := a.Stream(ctx, a.Name)
			if err == nil && now.Acked < local.Acked+20 {
				err = fmt.Errorf("the own log went from %d to %d", local.Acked, now.Acked)
			}
			return err
		})
		eventually(t, 5*time.Second, w.shows(0, "SELECT COUNT(*) FROM "+name, "40"))
		w.unready(t, 0, "stream to "+b.Name)
		if n, err := w.ask(t.Context(), 1, "SELECT COUNT(*) FROM "+name); err != nil || n != "20" {
			t.Errorf("%s has %s rows without a broker; %v", b.Name, n, err)
		}
		restart()
		w.drain(t)
		w.ready(t)
		w.clean(t, before)
		w.equal(t, tables)
	})
}

// The broker has no room left. The embedded one answers KAFKA_STORAGE_ERROR to
// everything that is produced: a simulation. Apache Kafka gets a small file
// system that is filled up, see TestBadFullDisk.
func TestBadFullBroker(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		broker, ok := w.Sides[1].Kafka.(interface{ SetFull(bool) error })
		if w.kind != servers.Embedded || !ok {
			t.Skip("simulated in the embedded broker only")
		}
		name := w.table(t, tables, "full", "%s (id INT PRIMARY KEY, v VARCHAR(20))")
		w.drain(t)
		before := w.losses(t)
		if err := broker.SetFull(true); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := broker.SetFull(false); err != nil {
				t.Error(err)
			}
		})
		for n := range 10 {
			w.write(t, 0, fmt.Sprintf("INSERT INTO %s VALUES (%d, 'waits')", name, 2*n))
			w.write(t, 1, fmt.Sprintf("INSERT INTO %s VALUES (%d, 'goes on')", name, 2*n+1))
		}
		eventually(t, 5*time.Second, w.shows(0, "SELECT COUNT(*) FROM "+name, "20"))
		w.unready(t, 0, "stream to "+w.Sides[1].Name, "disk is full")
		if n, err := w.ask(t.Context(), 1, "SELECT COUNT(*) FROM "+name); err != nil || n != "10" {
			t.Errorf("the full side has %s rows; %v", n, err)
		}
		if err := broker.SetFull(false); err != nil {
			t.Fatal(err)
		}
		w.drain(t)
		w.ready(t)
		w.clean(t, before)
		w.equal(t, tables)
	})
}

// alone is a capture or apply outside of the cluster, whose servers are behind
// links that can be cut.
type alone struct {
	*servers.Process
	url string
	log string
}

func program(t *testing.T, name string, env map[string]string) *alone {
	t.Helper()
	bin, err := cluster.Programs(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	p, err := port.Reserve()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	a := &alone{url: "http://" + port.Addr(p) + "/", log: filepath.Join(dir, name+".log")}
	environ := []string{"HOME=" + dir, "PATH=" + os.Getenv("PATH")}
	if name == "apply" {
		environ = append(environ, fmt.Sprint("PORT=", p))
	} else {
		environ = append(environ, "TANDEM_LISTEN="+port.Addr(p))
	}
	for k, v := range env {
		environ = append(environ, k+"="+v)
	}
	a.Process, err = servers.StartProcess(servers.Command{Name: name, Path: filepath.Join(bin, name), Env: environ, Dir: dir, Log: a.log})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the log of %s ends:\n%s", name, a.Tail(30))
		}
		if err := a.Kill(); err != nil {
			t.Error(err)
		}
	})
	return a
}

func cutLink(t *testing.T, upstream string) *link.Link {
	t.Helper()
	l, err := link.New(upstream, link.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.Close)
	l.Cut()
	return l
}

func mend(t *testing.T, l *link.Link) {
	t.Helper()
	if err := l.Restore(); err != nil {
		t.Fatal(err)
	}
}

// Programs that start before their servers say which one they miss, live on, and
// work as soon as it is there.
func TestBadUnreachableAtStart(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		s := w.Sides[0]
		t.Run("capture", func(t *testing.T) {
			etcd, mysql, kafka := cutLink(t, s.Etcd.Endpoint()), cutLink(t, s.SQL.Config(servers.Capture).Addr), cutLink(t, s.Kafka.Bootstrap())
			// A datacenter of its own, into a topic that nobody reads.
			dc := fmt.Sprintf("lonely%d", named.Add(1))
			env := map[string]string{
				"TANDEM_DC": dc, "TANDEM_MYSQL_ADDR": mysql.Addr(), "TANDEM_MYSQL_USER": servers.Capture, "TANDEM_MYSQL_PASSWORD": s.SQL.Config(servers.Capture).Password,
				"TANDEM_ETCD_ENDPOINTS": etcd.Addr(),
				"TANDEM_TARGETS":        fmt.Sprintf("[{dc: %s, kafka: {brokers: ['%s'], address-map: {'%s': '%s'}}}]", dc, kafka.Addr(), s.Kafka.Bootstrap(), kafka.Addr()),
			}
			for k, v := range hasty["capture"] {
				env[k] = v
			}
			p := program(t, "capture", env)
			eventually(t, 20*time.Second, func(ctx context.Context) error { return notReady(ctx, p.url, "etcd", etcd.Addr()) })
			mend(t, etcd)
			eventually(t, 20*time.Second, func(ctx context.Context) error { return notReady(ctx, p.url, "mysql "+mysql.Addr()) })
			mend(t, mysql)
			eventually(t, 30*time.Second, func(ctx context.Context) error { return notReady(ctx, p.url, kafka.Addr()) })
			mend(t, kafka)
			eventually(t, 30*time.Second, func(ctx context.Context) error { return isReady(ctx, p.url) })
			if !p.Running() {
				t.Error("it did not live on")
			}
		})
		t.Run("apply", func(t *testing.T) {
			mysql := cutLink(t, s.SQL.Config(servers.Apply).Addr)
			p := program(t, "apply", map[string]string{
				"TANDEM_DC": s.Name, "TANDEM_MYSQL_ADDR": mysql.Addr(), "TANDEM_MYSQL_USER": servers.Apply, "TANDEM_MYSQL_PASSWORD": s.SQL.Config(servers.Apply).Password,
				"TANDEM_KAFKA_BROKERS": s.Kafka.Bootstrap(),
			})
			eventually(t, 20*time.Second, func(ctx context.Context) error { return notReady(ctx, p.url, "MySQL "+mysql.Addr()) })
			mend(t, mysql)
			eventually(t, 20*time.Second, func(ctx context.Context) error { return isReady(ctx, p.url) })
			if !p.Running() {
				t.Error("it did not live on")
			}
		})
	})
}

// A wrong configuration ends the program at once, with the key and what to do.
func TestBadConfiguration(t *testing.T) {
	good := map[string]map[string]string{
		"capture": {"TANDEM_DC": "beijing", "TANDEM_MYSQL_USER": "capture", "TANDEM_TARGETS": "[{dc: beijing}]"},
		"apply":   {"TANDEM_DC": "beijing", "TANDEM_MYSQL_USER": "apply"},
	}
	for _, x := range []struct {
		program, key, value string
		says                []string
	}{
		{"capture", "TANDEM_DC", "", []string{"dc", "set the name of this datacenter"}},
		{"capture", "TANDEM_TARGETS", "[{dc: beijing, kafka: {brokers: [nowhere]}}]", []string{"targets.0.kafka", "host:port"}},
		{"capture", "TANDEM_TARGETS", "[{dc: beijing, conections: 3}]", []string{"conections", "connections"}},
		{"capture", "TANDEM_START", "yesterday", []string{"start", "earliest"}},
		{"capture", "TANDEM_MYSQL_ADR", "127.0.0.1:3306", []string{"TANDEM_MYSQL_ADR", "TANDEM_MYSQL_ADDR"}},
		{"capture", "TANDEM_ETCD_ENDPOINTS", "nowhere", []string{"etcd.endpoints", "host:port"}},
		{"apply", "TANDEM_DC", "Bei jing", []string{"dc", "name this datacenter"}},
		{"apply", "TANDEM_APPLY_WORKERS", "many", []string{"apply.workers", "many"}},
		{"apply", "TANDEM_APPLY_WORKERS", "1000", []string{"apply.workers", "use fewer"}},
		{"apply", "TANDEM_KAFKA_BROKERS", "nowhere", []string{"kafka.brokers", "host:port"}},
	} {
		t.Run(x.program+"/"+x.key+"="+x.value, func(t *testing.T) {
			env := map[string]string{x.key: x.value}
			for k, v := range good[x.program] {
				if k != x.key {
					env[k] = v
				}
			}
			p := program(t, x.program, env)
			select {
			case <-p.Done():
			case <-time.After(20 * time.Second):
				t.Fatal("it runs on")
			}
			if p.Err() == nil {
				t.Error("it ends as if all were well")
			}
			out := p.Tail(20)
			for _, says := range x.says {
				if !strings.Contains(out, says) {
					t.Errorf("it does not say %q, but\n%s", says, out)
				}
			}
		})
	}
}
