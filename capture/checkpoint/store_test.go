package checkpoint_test

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/tandem-dc/tandem/capture/binlog"
	"github.com/tandem-dc/tandem/capture/checkpoint"
	"github.com/tandem-dc/tandem/shared/coord"
	"github.com/tandem-dc/tandem/testbench/servers"
)

func TestMain(m *testing.M) { os.Exit(servers.Main(m)) }

func newStore(t *testing.T) (*checkpoint.Store, *clientv3.Client) {
	t.Helper()
	etcd, err := servers.StartEtcd(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = etcd.Close() })
	cli, err := coord.Open(coord.Config{Endpoints: []string{etcd.Endpoint()}}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cli.Close() })
	s, err := checkpoint.New(cli, "a", "b")
	if err != nil {
		t.Fatal(err)
	}
	return s, cli
}

// held is true in any transaction while the key lives.
func held(t *testing.T, cli *clientv3.Client, key string) clientv3.Cmp {
	t.Helper()
	res, err := cli.Put(t.Context(), key, "x")
	if err != nil {
		t.Fatal(err)
	}
	return clientv3.Compare(clientv3.ModRevision(key), "=", res.Header.Revision)
}

func TestSaveAndLoad(t *testing.T) {
	s, cli := newStore(t)
	if _, ok, err := s.Load(t.Context()); ok || err != nil {
		t.Fatalf("an empty store gave %v, %v", ok, err)
	}
	fence := held(t, cli, "lease")
	want := checkpoint.Checkpoint{Epoch: 7, Sequence: 1 << 60, Position: binlog.Position{GTIDSet: "u:1-5", File: "binlog.000001", Pos: 4_000_000_000}}
	for range 2 {
		if err := s.Save(t.Context(), fence, want); err != nil {
			t.Fatal(err)
		}
		got, ok, err := s.Load(t.Context())
		if err != nil || !ok {
			t.Fatalf("%v %v", ok, err)
		}
		if got.Epoch != want.Epoch || got.Sequence != want.Sequence || got.Position != want.Position || got.Version != checkpoint.Version || time.Since(got.Time) > time.Minute {
			t.Errorf("got %+v, want %+v", got, want)
		}
		want.Sequence++
	}
}

func TestDeposedCannotSave(t *testing.T) {
	s, cli := newStore(t)
	fence := held(t, cli, "lease")
	first := checkpoint.Checkpoint{Epoch: 7, Sequence: 1, Position: binlog.Position{File: "f", Pos: 4}}
	if err := s.Save(t.Context(), fence, first); err != nil {
		t.Fatal(err)
	}
	held(t, cli, "lease") // somebody else takes it
	later := first
	later.Sequence = 99
	if err := s.Save(t.Context(), fence, later); !errors.Is(err, checkpoint.ErrDeposed) {
		t.Fatalf("a deposed holder got %v", err)
	}
	if got, _, err := s.Load(t.Context()); err != nil || got.Sequence != 1 {
		t.Errorf("it moved the checkpoint to %+v, %v", got, err)
	}
}

func TestCorruptValueNamesKeyAndRemedy(t *testing.T) {
	s, cli := newStore(t)
	for name, value := range map[string]string{
		"empty":    "",
		"cut":      `{"version":1,"epoch":7,`,
		"version":  `{"version":2,"epoch":7,"sequence":1,"position":{"GTIDSet":"u:1"}}`,
		"epoch":    `{"version":1,"sequence":1,"position":{"GTIDSet":"u:1"}}`,
		"position": `{"version":1,"epoch":7,"sequence":1,"position":{}}`,
		"negative": `{"version":1,"epoch":7,"sequence":-1,"position":{"GTIDSet":"u:1"}}`,
	} {
		if _, err := cli.Put(t.Context(), checkpoint.Key("a", "b"), value); err != nil {
			t.Fatal(err)
		}
		_, _, err := s.Load(t.Context())
		var corrupt *checkpoint.CorruptError
		if !errors.As(err, &corrupt) || !strings.Contains(err.Error(), "etcdctl del /tandem/checkpoint/a/b") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestUnreachableEtcdIsAnError(t *testing.T) {
	s, cli := newStore(t)
	fence := held(t, cli, "lease")
	_ = cli.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if _, _, err := s.Load(ctx); err == nil || !strings.Contains(err.Error(), checkpoint.Key("a", "b")) {
		t.Errorf("Load: %v", err)
	}
	if err := s.Save(ctx, fence, checkpoint.Checkpoint{Epoch: 1}); err == nil || errors.Is(err, checkpoint.ErrDeposed) {
		t.Errorf("Save: %v", err)
	}
}

func TestNamesAreChecked(t *testing.T) {
	for _, dc := range []string{"", "A", "a/b", "../x"} {
		if _, err := checkpoint.New(nil, "a", dc); err == nil {
			t.Errorf("target %q was taken", dc)
		}
	}
}
