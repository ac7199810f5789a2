package coord_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/tandem-dc/tandem/shared/coord"
	"github.com/tandem-dc/tandem/testbench/link"
	"github.com/tandem-dc/tandem/testbench/servers"
)

func TestMain(m *testing.M) { os.Exit(servers.Main(m)) }

const ttl = coord.MinTTL

func startEtcd(t *testing.T) *servers.Etcd {
	t.Helper()
	e, err := servers.StartEtcd(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	})
	return e
}

func newLink(t *testing.T, e *servers.Etcd) *link.Link {
	t.Helper()
	l, err := link.New(e.Endpoint(), link.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.Close)
	return l
}

// contender is one process that wants the key "k".
type contender struct {
	cli    *clientv3.Client
	leads  chan term // one for each term, while it leads
	result chan error
	stop   context.CancelFunc
	once   sync.Once
}

type term struct {
	ctx    context.Context
	fence  clientv3.Cmp
	finish chan<- error // run returns what is sent here, or when ctx ends
}

func contend(t *testing.T, endpoint, id string, ttl time.Duration) *contender {
	t.Helper()
	log := slog.New(slog.NewTextHandler(t.Output(), nil))
	cli, err := coord.Open(coord.Config{Endpoints: []string{endpoint}}, log)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	c := &contender{cli: cli, leads: make(chan term, 10), result: make(chan error, 1), stop: stop}
	go func() {
		c.result <- coord.Hold(ctx, cli, "k", id, ttl, log, func(ctx context.Context, fence clientv3.Cmp) error {
			finish := make(chan error, 1)
			c.leads <- term{ctx, fence, finish}
			select {
			case err := <-finish:
				return err
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		})
	}()
	t.Cleanup(func() { c.end() })
	return c
}

// end stops the contender in order and returns what Hold returned.
func (c *contender) end() (err error) {
	c.once.Do(func() {
		c.stop()
		err = <-c.result
		c.cli.Close()
	})
	return err
}

func await[T any](t *testing.T, what string, c <-chan T, within time.Duration) T {
	t.Helper()
	select {
	case v := <-c:
		return v
	case <-time.After(within):
		t.Fatalf("no %s within %v", what, within)
		panic("unreachable")
	}
}

// write puts a value guarded by the fence of a term.
func write(t *testing.T, e *servers.Etcd, fence clientv3.Cmp, value string) bool {
	t.Helper()
	cli, err := coord.Open(coord.Config{Endpoints: []string{e.Endpoint()}}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer cli.Close()
	r, err := cli.Txn(t.Context()).If(fence).Then(clientv3.OpPut("guarded", value)).Commit()
	if err != nil {
		t.Fatal(err)
	}
	return r.Succeeded
}

func TestStandbyTakesOverFromADeadLeader(t *testing.T) {
	t.Parallel()
	e := startEtcd(t)
	a := contend(t, e.Endpoint(), "a", ttl)
	first := await(t, "leader", a.leads, 5*time.Second)
	if !write(t, e, first.fence, "by a") {
		t.Error("the fence refuses its own leader")
	}
	b := contend(t, e.Endpoint(), "b", ttl)

	died := time.Now()
	a.cli.Close() // a process that is killed revokes nothing either
	second := await(t, "new leader", b.leads, ttl+time.Second)
	t.Logf("taken over after %v", time.Since(died))
	if first.ctx.Err() == nil {
		t.Error("both lead")
	}
	if !errors.Is(context.Cause(first.ctx), coord.ErrLost) {
		t.Errorf("the dead leader's context ended by %v", context.Cause(first.ctx))
	}
	if write(t, e, first.fence, "by a, too late") {
		t.Error("the fence of a past term lets a write pass")
	}
	if !write(t, e, second.fence, "by b") {
		t.Error("the fence refuses the new leader")
	}
	if err := await(t, "end of the dead leader", a.result, 5*time.Second); err == nil || !strings.Contains(err.Error(), "closed") {
		t.Errorf("Hold on a closed client returned %v", err)
	}
	a.result <- nil
}

// The one who is cut off must know before the other one leads.
func TestLeaderThatIsCutOffStopsFirst(t *testing.T) {
	t.Parallel()
	for name, cut := range map[string]func(*testing.T, *link.Link){
		"refused": func(_ *testing.T, l *link.Link) { l.Cut() },
		"silent": func(t *testing.T, l *link.Link) {
			if err := l.Hang(); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := startEtcd(t)
			l := newLink(t, e)
			a := contend(t, l.Addr(), "a", ttl)
			first := await(t, "leader", a.leads, 5*time.Second)
			b := contend(t, e.Endpoint(), "b", ttl)
			cut(t, l)
			second := await(t, "new leader", b.leads, ttl+2*time.Second)
			if cause := context.Cause(first.ctx); !errors.Is(cause, coord.ErrLost) {
				t.Errorf("when b leads, a's context has ended by %v", cause)
			}
			if write(t, e, first.fence, "x") || !write(t, e, second.fence, "y") {
				t.Error("fences do not tell the terms apart")
			}
			if err := l.Restore(); err != nil {
				t.Fatal(err)
			}
			if err := b.end(); !errors.Is(err, context.Canceled) {
				t.Errorf("Hold returned %v", err)
			}
			await(t, "return of the first leader", a.leads, 20*time.Second)
		})
	}
}

func TestKeyIsHandedOverAtOnce(t *testing.T) {
	t.Parallel()
	e := startEtcd(t)
	a := contend(t, e.Endpoint(), "a", time.Minute)
	first := await(t, "leader", a.leads, 5*time.Second)
	b := contend(t, e.Endpoint(), "b", time.Minute)
	done := errors.New("done")
	first.finish <- done
	await(t, "new leader", b.leads, 5*time.Second)
	if err := await(t, "end of a", a.result, 5*time.Second); !errors.Is(err, done) {
		t.Errorf("Hold returned %v, want what run returned", err)
	}
	a.result <- nil
}

func TestLeaderSurvivesARestartOfEtcd(t *testing.T) {
	t.Parallel()
	e := startEtcd(t)
	a := contend(t, e.Endpoint(), "a", 5*time.Second)
	first := await(t, "leader", a.leads, 5*time.Second)
	b := contend(t, e.Endpoint(), "b", 5*time.Second)
	if err := e.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	select {
	case <-first.ctx.Done():
		t.Errorf("leader stopped: %v", context.Cause(first.ctx))
	case <-b.leads:
		t.Error("both lead")
	case <-time.After(6 * time.Second): // longer than the lease
	}
	if !write(t, e, first.fence, "x") {
		t.Error("the fence refuses its leader after the restart")
	}
	first.finish <- nil
	await(t, "new leader", b.leads, 10*time.Second)
}

func TestDeletedKeyEndsTheTerm(t *testing.T) {
	t.Parallel()
	e := startEtcd(t)
	a := contend(t, e.Endpoint(), "a", ttl)
	first := await(t, "leader", a.leads, 5*time.Second)
	if _, err := a.cli.Delete(t.Context(), "k"); err != nil {
		t.Fatal(err)
	}
	await(t, "end of the term", first.ctx.Done(), ttl)
	second := await(t, "next term", a.leads, 5*time.Second)
	if write(t, e, first.fence, "x") || !write(t, e, second.fence, "y") {
		t.Error("fences do not tell the terms apart")
	}
}

func TestEtcdThatComesLate(t *testing.T) {
	t.Parallel()
	e := startEtcd(t)
	if err := e.Stop(); err != nil {
		t.Fatal(err)
	}
	a := contend(t, e.Endpoint(), "a", ttl)
	if err := e.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	await(t, "leader", a.leads, 15*time.Second)
}

// Terms of many contenders never overlap, whatever the network does to them.
func TestNeverTwoLeaders(t *testing.T) {
	t.Parallel()
	e := startEtcd(t)
	var leaders, terms atomic.Int32
	var all sync.WaitGroup
	ctx, stop := context.WithTimeout(t.Context(), 8*time.Second)
	defer stop()
	for i := range 3 {
		l := newLink(t, e)
		log := slog.New(slog.DiscardHandler)
		cli, err := coord.Open(coord.Config{Endpoints: []string{l.Addr()}}, log)
		if err != nil {
			t.Fatal(err)
		}
		all.Go(func() {
			defer cli.Close()
			for n := 0; ctx.Err() == nil; n++ {
				_ = coord.Hold(ctx, cli, "k", "x", ttl, log, func(ctx context.Context, _ clientv3.Cmp) error {
					if leaders.Add(1) > 1 {
						t.Error("two lead")
					}
					terms.Add(1)
					defer leaders.Add(-1)
					if (n+i)%2 == 0 {
						l.Cut()
						<-ctx.Done()
						return l.Restore()
					}
					select {
					case <-ctx.Done():
					case <-time.After(100 * time.Millisecond):
					}
					return nil
				})
			}
		})
	}
	all.Wait()
	if terms.Load() < 3 {
		t.Errorf("only %d terms", terms.Load())
	}
	t.Logf("%d terms", terms.Load())
}

func TestOpenRefuses(t *testing.T) {
	t.Parallel()
	for want, c := range map[string]coord.Config{
		"endpoints":    {},
		"host:port":    {Endpoints: []string{"127.0.0.1:2379", "nowhere"}},
		"password":     {Endpoints: []string{"a:1"}, User: "u"},
		"dial-timeout": {Endpoints: []string{"a:1"}, DialTimeout: -1},
	} {
		if _, err := coord.Open(c, slog.New(slog.DiscardHandler)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want an error that names %q, got %v", want, err)
		}
	}
}

func TestClientLogsThroughSlog(t *testing.T) {
	t.Parallel()
	var b bytes.Buffer
	log := slog.New(slog.NewTextHandler(&b, &slog.HandlerOptions{Level: slog.LevelDebug}))
	cli, err := coord.Open(coord.Config{Endpoints: []string{"127.0.0.1:1"}}, log)
	if err != nil {
		t.Fatal(err)
	}
	defer cli.Close()
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if _, err := cli.Get(ctx, "k"); err == nil {
		t.Fatal("got an answer from nobody")
	}
	if !strings.Contains(b.String(), "level=DEBUG") || !strings.Contains(b.String(), "etcd client: ") || !strings.Contains(b.String(), "error=") {
		t.Errorf("log is %q", b.String())
	}
}
