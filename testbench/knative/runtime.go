package knative

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tandem-dc/tandem/shared/kafkaconn"
)

// Options are what a cluster decides and manifests do not say.
type Options struct {
	Dir string // for logs and working directories; required
	Log *slog.Logger
	// Binary finds the program of a main package. See BinDir.
	Binary func(importPath string) (string, error)
	// Instances overrides how many processes a workload has; 0 leaves it out.
	Instances map[string]int
	// Env adds variables to a workload, over those of its manifest.
	Env map[string]map[string]string
	// Kafka says how the dispatchers reach the brokers that the manifests name.
	Kafka kafkaconn.Config
	// DataPlane overrides the dispatcher's settings; zero: those of the manifests.
	DataPlane DataPlane
	// Pods is how many dispatcher pods share a KafkaSource. Default 1.
	Pods int
	// ReadyTimeout is how long Start waits for a workload, and for a topic. Default 60s.
	ReadyTimeout time.Duration
	// Grace is how long a process may take to end after SIGTERM. Default 30s.
	Grace time.Duration
}

// BinDir finds programs in dir by the last element of their import path.
func BinDir(dir string) func(string) (string, error) {
	return func(importPath string) (string, error) {
		name := filepath.Join(dir, path.Base(importPath))
		if _, err := os.Stat(name); err != nil {
			return "", fmt.Errorf("program of %s: %w: build it with go build -o %s %s", importPath, err, dir, importPath)
		}
		return name, nil
	}
}

// Runtime runs the manifests of one overlay.
type Runtime struct {
	manifests *Manifests
	o         Options
	instances map[string][]*Instance
	sources   map[string]*Dispatcher
	order     []string // workloads in the order of starting

	stop context.CancelFunc
	run  context.Context
	wg   sync.WaitGroup // supervisors
}

// New prepares everything and starts nothing.
func New(m *Manifests, o Options) (*Runtime, error) {
	if o.Dir == "" || o.Log == nil || o.Binary == nil {
		return nil, errors.New("knative: Options.Dir, Log and Binary are required")
	}
	if o.ReadyTimeout <= 0 {
		o.ReadyTimeout = time.Minute
	}
	if o.DataPlane == (DataPlane{}) {
		o.DataPlane = m.DataPlane
	}
	r := &Runtime{manifests: m, o: o, instances: map[string][]*Instance{}, sources: map[string]*Dispatcher{}}
	for _, list := range [][]Workload{m.Services, m.Deployments} {
		for i := range list {
			if err := r.addWorkload(&list[i]); err != nil {
				return nil, fmt.Errorf("%s: %w", list[i].Name, err)
			}
		}
	}
	for i := range m.Sources {
		if err := r.addSource(&m.Sources[i]); err != nil {
			return nil, err
		}
	}
	return r, nil
}

func (r *Runtime) addWorkload(w *Workload) error {
	n, ok := r.o.Instances[w.Name]
	if !ok {
		n = w.Replicas
	}
	r.order = append(r.order, w.Name)
	for i := range n {
		instance, err := r.newInstance(w, i)
		if err != nil {
			return err
		}
		r.instances[w.Name] = append(r.instances[w.Name], instance)
	}
	return nil
}

func (r *Runtime) addSource(s *KafkaSource) error {
	o := DispatcherOptions{Kafka: r.o.Kafka, DataPlane: r.o.DataPlane, Pods: r.o.Pods, Log: r.o.Log}
	var err error
	if o.Sink, _, err = r.resolve(&s.Spec.Sink); err != nil || o.Sink == nil {
		return fmt.Errorf("KafkaSource %s: sink: %w", s.Metadata.Name, errors.Join(err, errors.New("it must be a Service of these manifests or a URI")))
	}
	if d := s.Spec.Delivery; d != nil && d.DeadLetterSink != nil {
		if o.DeadLetterURL, o.DeadLetterSink, err = r.resolve(d.DeadLetterSink); err != nil {
			return fmt.Errorf("KafkaSource %s: deadLetterSink: %w", s.Metadata.Name, err)
		}
	}
	if n := s.Spec.Net; n != nil && n.SASL.Enable {
		if o.Kafka.SASL, err = r.sasl(&n.SASL); err != nil {
			return fmt.Errorf("KafkaSource %s: net.sasl: %w", s.Metadata.Name, err)
		}
	}
	d, err := NewDispatcher(s, o)
	if err != nil {
		return err
	}
	r.sources[s.Metadata.Name] = d
	return nil
}

func (r *Runtime) sasl(s *SASL) (c kafkaconn.SASL, err error) {
	for _, f := range []struct {
		ref SecretRef
		dst *string
	}{{s.Type, &c.Mechanism}, {s.User, &c.User}, {s.Password, &c.Password}} {
		if f.ref.SecretKeyRef == nil {
			return c, errors.New("type, user and password must name a key of a Secret")
		}
		v, ok := r.manifests.Secrets[f.ref.SecretKeyRef.Name][f.ref.SecretKeyRef.Key]
		if !ok {
			return c, fmt.Errorf("secret %s has no key %s", f.ref.SecretKeyRef.Name, f.ref.SecretKeyRef.Key)
		}
		*f.dst = v
	}
	c.Mechanism = strings.ToLower(c.Mechanism) // Knative writes SCRAM-SHA-512
	return c, nil
}

// resolve finds what a destination stands for.
func (r *Runtime) resolve(d *Destination) (func() (string, error), *KafkaSink, error) {
	if d.Ref == nil {
		return func() (string, error) { return d.URI, nil }, nil, nil
	}
	switch d.Ref.Kind {
	case "Service":
		instances, ok := r.instances[d.Ref.Name]
		if !ok {
			return nil, nil, fmt.Errorf("there is no Service %s with an instance", d.Ref.Name)
		}
		return roundRobin(instances, d.URI), nil, nil
	case "KafkaSink":
		for i := range r.manifests.Sinks {
			if s := &r.manifests.Sinks[i]; s.Metadata.Name == d.Ref.Name {
				return nil, s, nil
			}
		}
	}
	return nil, nil, fmt.Errorf("%s %s is not among the manifests, or cannot be a sink here", d.Ref.Kind, d.Ref.Name)
}

// roundRobin takes the instances in turn, those that run before those that do not.
func roundRobin(instances []*Instance, uri string) func() (string, error) {
	var next atomic.Uint64
	return func() (string, error) {
		n := int(next.Add(1))
		chosen := instances[n%len(instances)]
		for i := range instances {
			if c := instances[(n+i)%len(instances)]; c.Running() {
				chosen = c
				break
			}
		}
		if uri == "" || uri == "/" {
			return chosen.url, nil
		}
		return chosen.url + uri[1:], nil
	}
}

// Start starts the workloads, waits until they are ready, then the sources. On
// an error everything that was started is stopped again.
func (r *Runtime) Start(ctx context.Context) error {
	r.run, r.stop = context.WithCancel(context.WithoutCancel(ctx))
	ctx, cancel := context.WithTimeout(ctx, r.o.ReadyTimeout)
	defer cancel()
	if err := r.start(ctx); err != nil {
		return errors.Join(err, r.Stop(context.WithoutCancel(ctx)))
	}
	return nil
}

func (r *Runtime) start(ctx context.Context) error {
	for _, name := range r.order {
		for _, i := range r.instances[name] {
			if err := i.start(); err != nil {
				return err
			}
			r.wg.Go(func() { r.supervise(i) })
		}
	}
	for _, name := range r.order {
		for _, i := range r.instances[name] {
			if err := i.Ready(ctx); err != nil {
				return err
			}
		}
	}
	for _, d := range r.sources {
		if err := d.Start(ctx); err != nil {
			return err
		}
	}
	return nil
}

// Restarts wait longer each time, until a process has lived for a while.
const (
	firstBackoff = 100 * time.Millisecond
	lastBackoff  = 5 * time.Second
	lived        = 10 * time.Second
)

// supervise starts a dead process again, as a kubelet does.
func (r *Runtime) supervise(i *Instance) {
	backoff := firstBackoff
	for {
		began := time.Now()
		select {
		case <-i.current().Done():
		case <-r.run.Done():
			return
		}
		if time.Since(began) > lived {
			backoff = firstBackoff
		}
		r.o.Log.Warn("process ended", "instance", i.Name, "error", i.current().Err())
		for {
			if !sleep(r.run, backoff) {
				return
			}
			if i.restart.Load() {
				break
			}
		}
		if err := i.start(); err != nil {
			r.o.Log.Error("process not restarted", "instance", i.Name, "error", err)
		}
		backoff = min(2*backoff, lastBackoff)
	}
}

// Stop stops the sources, lets requests under way end until ctx ends, then stops
// the workloads. It may be called more than once.
func (r *Runtime) Stop(ctx context.Context) error {
	if r.stop == nil {
		return nil
	}
	var errs []error
	for _, d := range r.sources {
		errs = append(errs, d.Stop(ctx))
	}
	r.stop()
	r.wg.Wait()
	var wg sync.WaitGroup
	var mu sync.Mutex
	for _, list := range r.instances {
		for _, i := range list {
			p := i.current()
			if p == nil {
				continue
			}
			wg.Go(func() {
				err := p.Stop()
				mu.Lock()
				defer mu.Unlock()
				errs = append(errs, err)
			})
		}
	}
	wg.Wait()
	return errors.Join(errs...)
}

// Instances are the processes of a workload.
func (r *Runtime) Instances(workload string) []*Instance { return r.instances[workload] }

// Workloads are the names of all workloads.
func (r *Runtime) Workloads() []string { return r.order }

// Source is the dispatcher of a KafkaSource, nil if there is none of that name.
func (r *Runtime) Source(name string) *Dispatcher { return r.sources[name] }

// SetRestart says whether dead processes of a workload are started again.
func (r *Runtime) SetRestart(workload string, on bool) {
	for _, i := range r.instances[workload] {
		i.restart.Store(on)
	}
}
