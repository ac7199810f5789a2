package knative_test

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tandem-dc/tandem/testbench/knative"
)

const triggers = "../../triggers"

// echo builds the program that stands for capture and apply.
var echo = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "tandem-echo-")
	if err != nil {
		return "", err
	}
	out, err := exec.Command("go", "build", "-o", filepath.Join(dir, "echo"), "./testdata/echo").CombinedOutput()
	if err != nil {
		return "", errors.New(string(out))
	}
	return filepath.Join(dir, "echo"), nil
})

func build(t *testing.T, b *broker) *knative.Manifests {
	t.Helper()
	m, err := knative.Build(triggers, "overlays/beijing", knative.Overrides{
		ConfigMaps: map[string]map[string]string{"datacenter": {"peer": "west", "kafka": b.addr, "mysql": "127.0.0.1:3"}},
		Secrets:    map[string]map[string]string{"tandem-mysql": {"capture-password": "c", "apply-password": "a"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func run(t *testing.T, m *knative.Manifests, edit func(*knative.Options)) *knative.Runtime {
	t.Helper()
	program, err := echo()
	if err != nil {
		t.Fatal(err)
	}
	o := knative.Options{
		Dir: t.TempDir(), Log: slog.New(slog.NewTextHandler(t.Output(), nil)), ReadyTimeout: 20 * time.Second, Grace: 5 * time.Second,
		Binary: func(string) (string, error) { return program, nil },
	}
	if edit != nil {
		edit(&o)
	}
	r, err := knative.New(m, o)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := r.Stop(ctx); err != nil {
			t.Error(err)
		}
	})
	return r
}

// get asks an instance; while it is being restarted the answer is empty.
func get(i *knative.Instance, path string) (list []string) {
	c := &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	res, err := c.Get(i.URL() + path)
	if err != nil {
		return nil
	}
	defer res.Body.Close()
	if json.NewDecoder(res.Body).Decode(&list) != nil {
		return nil
	}
	return list
}

func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	limit := time.After(20 * time.Second)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-limit:
			t.Fatalf("waited 20s for %s", what)
		}
	}
}

func TestAnOverlayRuns(t *testing.T) {
	b := newBroker(t, "deadletter-beijing")
	r := run(t, build(t, b), func(o *knative.Options) {
		o.Env = map[string]map[string]string{"apply": {"TANDEM_APPLY_WORKERS": "2"}}
	})
	b.send(20)
	apply := r.Instances("apply")[0]
	until(t, "20 events", func() bool { return len(get(apply, "ids")) == 20 })

	env := get(apply, "env")
	for _, want := range []string{"TANDEM_DC=beijing", "TANDEM_MYSQL_ADDR=127.0.0.1:3", "TANDEM_MYSQL_PASSWORD=a", "TANDEM_KAFKA_BROKERS=" + b.addr, "K_SERVICE=apply", "TANDEM_APPLY_WORKERS=2"} {
		if !slices.Contains(env, want) {
			t.Errorf("apply misses %s in %v", want, env)
		}
	}
	captures := r.Instances("capture")
	if len(captures) != 2 {
		t.Fatalf("%d captures, the Deployment has 2 replicas", len(captures))
	}
	listens := map[string]bool{}
	for _, c := range captures {
		env := get(c, "env")
		if !slices.Contains(env, "TANDEM_MYSQL_PASSWORD=c") || slices.ContainsFunc(env, func(s string) bool { return strings.HasPrefix(s, "PORT=") }) {
			t.Errorf("environment of %s: %v", c.Name, env)
		}
		for _, e := range env {
			if strings.HasPrefix(e, "TANDEM_LISTEN=") {
				listens[e] = true
			}
		}
	}
	if len(listens) != 2 {
		t.Errorf("two processes listen at %v", listens)
	}
	if text := apply.Tail(100); !strings.Contains(text, "got id-20") {
		t.Errorf("log of apply: %s", text)
	}
}

func TestAKilledFunctionComesBackAndMissesNothing(t *testing.T) {
	b := newBroker(t, "deadletter-beijing")
	r := run(t, build(t, b), nil)
	apply := r.Instances("apply")[0]
	for range 3 {
		pid := apply.PID()
		if err := apply.Kill(); err != nil {
			t.Fatal(err)
		}
		b.send(5)
		until(t, "a new life", func() bool { return apply.Running() && apply.PID() != pid })
	}
	until(t, "delivery", func() bool { return r.Source("apply").Stats().Delivered == 15 })
	if st := r.Source("apply").Stats(); st.Lost+st.DeadLettered != 0 || apply.Starts() != 4 {
		t.Errorf("%+v, %d lives", st, apply.Starts())
	}
}

func TestRestartsCanBeHeldBack(t *testing.T) {
	b := newBroker(t, "deadletter-beijing")
	r := run(t, build(t, b), nil)
	apply, source := r.Instances("apply")[0], r.Source("apply")
	r.SetRestart("apply", false)
	if err := apply.Kill(); err != nil {
		t.Fatal(err)
	}
	b.send(3)
	until(t, "retries", func() bool { return source.Stats().Retried >= 15 })
	if apply.Running() || source.Stats().Delivered != 0 {
		t.Fatalf("it runs: %v, %+v", apply.Running(), source.Stats())
	}
	r.SetRestart("apply", true)
	until(t, "delivery", func() bool { return source.Stats().Delivered == 3 })
}

func TestInstancesTakeTurns(t *testing.T) {
	b := newBroker(t, "deadletter-beijing")
	r := run(t, build(t, b), func(o *knative.Options) { o.Instances = map[string]int{"apply": 2, "capture": 0} })
	b.send(20)
	if n := len(r.Instances("capture")); n != 0 {
		t.Errorf("%d captures run", n)
	}
	until(t, "20 events", func() bool {
		first, second := len(get(r.Instances("apply")[0], "ids")), len(get(r.Instances("apply")[1], "ids"))
		return first == 10 && second == 10
	})
}

func TestStartTellsWhyAProcessIsNotReady(t *testing.T) {
	b := newBroker(t, "deadletter-beijing")
	fails := filepath.Join(t.TempDir(), "fails")
	if err := os.WriteFile(fails, []byte("#!/bin/sh\necho mysql.addr is wrong\nexit 1\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	r, err := knative.New(build(t, b), knative.Options{
		Dir: t.TempDir(), Log: slog.New(slog.DiscardHandler), ReadyTimeout: 500 * time.Millisecond, Grace: time.Second,
		Binary: func(string) (string, error) { return fails, nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Start(t.Context()); err == nil || !strings.Contains(err.Error(), "mysql.addr is wrong") {
		t.Errorf("error %v does not hold the process's last words", err)
	}
}

func TestBuildAndNewNameWhatIsMissing(t *testing.T) {
	_, err := knative.Build(triggers, "overlays/atlantis", knative.Overrides{})
	wants(t, err, "atlantis")
	_, err = knative.Build(triggers, "overlays/beijing", knative.Overrides{ConfigMaps: map[string]map[string]string{"datacentre": {}}})
	wants(t, err, "datacentre")

	o := knative.Options{Dir: t.TempDir(), Log: slog.New(slog.DiscardHandler), Binary: knative.BinDir(t.TempDir())}
	m, err := knative.Build(triggers, "overlays/beijing", knative.Overrides{})
	if err != nil {
		t.Fatal(err)
	}
	_, err = knative.New(m, o)
	wants(t, err, "Secret tandem-mysql has no key apply-password")
	m.Secrets["tandem-mysql"] = map[string]string{"capture-password": "c", "apply-password": "a"}
	_, err = knative.New(m, o)
	wants(t, err, "go build -o")
}

func wants(t *testing.T, err error, part string) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), part) {
		t.Errorf("error %v, want one with %q", err, part)
	}
}
