package serve

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"time"
)

// checks are run by probes, all at once. One that runs already is shared by
// the probes that come meanwhile, so that neither a flood of probes nor a stuck
// check piles up work.
type checks struct {
	mu     sync.Mutex
	byName map[string]*check
}

type check struct {
	run     Check
	current *outcome // the run that is under way, if any
}

type outcome struct {
	done chan struct{}
	err  error // once done is closed
}

func (c *checks) add(name string, run Check) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.byName == nil {
		c.byName = map[string]*check{}
	}
	c.byName[name] = &check{run: run}
}

var errNoAnswer = errors.New("no answer in " + CheckTimeout.String())

// results runs every check and waits for each at most CheckTimeout.
func (c *checks) results(ctx context.Context) map[string]error {
	c.mu.Lock()
	all := make(map[string]*outcome, len(c.byName))
	for name, k := range c.byName {
		if k.current == nil {
			k.current = c.start(ctx, k)
		}
		all[name] = k.current
	}
	c.mu.Unlock()

	wait, cancel := context.WithTimeout(ctx, CheckTimeout)
	defer cancel()
	results := make(map[string]error, len(all))
	for name, o := range all {
		select {
		case <-o.done:
			results[name] = o.err
		case <-wait.Done():
			results[name] = errNoAnswer
		}
	}
	return results
}

// start runs one check apart from the probe that asks: the probe's end must not
// fail it for the others.
func (c *checks) start(ctx context.Context, k *check) *outcome {
	o := &outcome{done: make(chan struct{})}
	go func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), CheckTimeout)
		defer cancel()
		o.err = guard(ctx, k.run)
		c.mu.Lock()
		k.current = nil
		c.mu.Unlock()
		close(o.done)
	}()
	return o
}

// current lists the runs that are under way.
func (c *checks) current() []*outcome {
	c.mu.Lock()
	defer c.mu.Unlock()
	var all []*outcome
	for _, k := range c.byName {
		if k.current != nil {
			all = append(all, k.current)
		}
	}
	return all
}

// guard turns a panic of a check into its failure.
func guard(ctx context.Context, run Check) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("check panicked: %v", p)
		}
	}()
	return run(ctx)
}

func (s *Server) serveLive(w http.ResponseWriter, r *http.Request) {
	answer(w, s.live.results(r.Context()))
}

func (s *Server) serveReady(w http.ResponseWriter, r *http.Request) {
	if s.draining.Load() {
		answer(w, map[string]error{"draining": errors.New("shutting down")})
		return
	}
	answer(w, s.ready.results(r.Context()))
}

// answer is 200 if all passed, else 503, with a line for each check.
func answer(w http.ResponseWriter, results map[string]error) {
	code := http.StatusOK
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(results)) {
		text := "ok"
		if err := results[name]; err != nil {
			code, text = http.StatusServiceUnavailable, err.Error()
		}
		fmt.Fprintf(&b, "%s: %s\n", name, text)
	}
	if code == http.StatusOK {
		b.WriteString("ok\n")
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(code)
	_, _ = w.Write([]byte(b.String()))
}

type statuses struct {
	mu     sync.Mutex
	byName map[string]func() any
}

func (s *statuses) add(name string, f func() any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.byName == nil {
		s.byName = map[string]func() any{}
	}
	s.byName[name] = f
}

// read gives every value as JSON; one that panics or does not fit JSON tells so
// in its place.
func (s *statuses) read() map[string]json.RawMessage {
	s.mu.Lock()
	all := maps.Clone(s.byName)
	s.mu.Unlock()
	values := make(map[string]json.RawMessage, len(all)+1)
	for name, f := range all {
		values[name] = one(f)
	}
	return values
}

func one(f func() any) (text json.RawMessage) {
	defer func() {
		if p := recover(); p != nil {
			text, _ = json.Marshal(map[string]string{"error": fmt.Sprint("status panicked: ", p)})
		}
	}()
	text, err := json.Marshal(f())
	if err != nil {
		text, _ = json.Marshal(map[string]string{"error": err.Error()})
	}
	return text
}

type process struct {
	Version  string    `json:"version"`
	Go       string    `json:"go"`
	Started  time.Time `json:"started"`
	Draining bool      `json:"draining"`
}

func (s *Server) serveStatus(w http.ResponseWriter, _ *http.Request) {
	values := s.status.read()
	p := process{Version: "unknown", Started: s.started.UTC(), Draining: s.draining.Load()}
	if info, ok := debug.ReadBuildInfo(); ok {
		p.Version, p.Go = info.Main.Version, info.GoVersion
	}
	values["process"], _ = json.Marshal(p)
	text, err := json.MarshalIndent(values, "", "  ")
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	_, _ = w.Write(append(text, '\n'))
}
