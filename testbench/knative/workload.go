package knative

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tandem-dc/tandem/testbench/port"
	"github.com/tandem-dc/tandem/testbench/servers"
)

const (
	koPrefix    = "ko://"
	defaultPort = 8080 // of a Knative container that declares none
)

func (w *Workload) check() error {
	if len(w.Pod.Containers) != 1 {
		return fmt.Errorf("%d containers: one can run here", len(w.Pod.Containers))
	}
	c := &w.Pod.Containers[0]
	if !strings.HasPrefix(c.Image, koPrefix) {
		return fmt.Errorf("image %q is no %s reference", c.Image, koPrefix)
	}
	for _, v := range w.Pod.Volumes {
		if v.EmptyDir == nil {
			return fmt.Errorf("volume %s: only emptyDir can be had here", v.Name)
		}
	}
	return nil
}

// ImportPath is the main package that the workload runs.
func (w *Workload) ImportPath() string {
	return strings.TrimPrefix(w.Pod.Containers[0].Image, koPrefix)
}

// Instance is one process of a workload. It keeps its port over restarts.
type Instance struct {
	Name string // <workload>-<n>

	url     string
	ready   string // URL of the readiness probe
	command servers.Command

	mu      sync.Mutex
	process *servers.Process
	restart atomic.Bool // a dead process is started again
	starts  atomic.Int64
}

// environment is what a process of this workload finds.
func (m *Manifests) environment(w *Workload, instance string, ports map[int]int) (map[string]string, error) {
	env := map[string]string{}
	c := &w.Pod.Containers[0]
	pick := func(objects map[string]map[string]string, kind string, ref *KeyRef) (string, bool, error) {
		v, ok := objects[ref.Name][ref.Key]
		if !ok && !ref.Optional {
			return "", false, fmt.Errorf("%s %s has no key %s", kind, ref.Name, ref.Key)
		}
		return v, ok, nil
	}
	for _, from := range c.EnvFrom {
		var values map[string]string
		switch {
		case from.ConfigMapRef != nil:
			values = m.ConfigMaps[from.ConfigMapRef.Name]
			if values == nil && !from.ConfigMapRef.Optional {
				return nil, fmt.Errorf("there is no ConfigMap %s", from.ConfigMapRef.Name)
			}
		case from.SecretRef != nil:
			values = m.Secrets[from.SecretRef.Name]
			if values == nil && !from.SecretRef.Optional {
				return nil, fmt.Errorf("there is no Secret %s", from.SecretRef.Name)
			}
		}
		for k, v := range values {
			env[from.Prefix+k] = v
		}
	}
	for _, e := range c.Env {
		v, ok, err := e.Value, true, error(nil)
		switch from := e.ValueFrom; {
		case from == nil:
		case from.ConfigMapKeyRef != nil:
			v, ok, err = pick(m.ConfigMaps, "ConfigMap", from.ConfigMapKeyRef)
		case from.SecretKeyRef != nil:
			v, ok, err = pick(m.Secrets, "Secret", from.SecretKeyRef)
		case from.FieldRef != nil && from.FieldRef.FieldPath == "metadata.name":
			v = instance
		default:
			err = errors.New("this kind of reference cannot be had here")
		}
		if err != nil {
			return nil, fmt.Errorf("env %s: %w", e.Name, err)
		}
		if ok {
			env[e.Name] = v
		}
	}
	localize(env, ports)
	if w.Service {
		env["K_SERVICE"], env["K_CONFIGURATION"], env["K_REVISION"] = w.Name, w.Name, w.Name+"-00001"
		env["PORT"] = fmt.Sprint(ports[w.containerPort()])
	}
	return env, nil
}

// localize moves listeners from the ports of a pod, which has a network of its
// own, to those that this machine has free.
func localize(env map[string]string, ports map[int]int) {
	for name, v := range env {
		for from, to := range ports {
			if v == fmt.Sprintf(":%d", from) || v == fmt.Sprintf("0.0.0.0:%d", from) {
				env[name] = port.Addr(to)
			}
		}
	}
}

// containerPort is the port for requests and probes.
func (w *Workload) containerPort() int {
	for _, p := range w.Pod.Containers[0].Ports {
		return p.ContainerPort
	}
	return defaultPort
}

func (r *Runtime) newInstance(w *Workload, n int) (*Instance, error) {
	name := fmt.Sprintf("%s-%d", w.Name, n)
	ports := map[int]int{}
	wanted := []int{w.containerPort()}
	for _, p := range w.Pod.Containers[0].Ports {
		wanted = append(wanted, p.ContainerPort)
	}
	for _, p := range wanted {
		if _, ok := ports[p]; ok {
			continue
		}
		free, err := port.Reserve()
		if err != nil {
			return nil, err
		}
		ports[p] = free
	}
	env, err := r.manifests.environment(w, name, ports)
	if err != nil {
		return nil, err
	}
	maps.Copy(env, r.o.Env[w.Name])
	program, err := r.o.Binary(w.ImportPath())
	if err != nil {
		return nil, err
	}
	dir := filepath.Join(r.o.Dir, name)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	c := &w.Pod.Containers[0]
	i := &Instance{Name: name, url: "http://" + port.Addr(ports[w.containerPort()]) + "/"}
	if p := c.ReadinessProbe; p != nil && p.HTTPGet != nil {
		i.ready = "http://" + port.Addr(ports[w.containerPort()]) + p.HTTPGet.Path
	}
	i.restart.Store(true)
	i.command = servers.Command{
		Name: name, Path: program, Args: slices.Concat(c.Command, c.Args), Dir: dir,
		Env: environ(env, dir), Log: filepath.Join(r.o.Dir, name+".log"), Grace: r.o.Grace,
	}
	return i, nil
}

// environ adds what a process needs besides its manifest, and nothing else of
// this process's environment: what is missing in a manifest shall be missed here.
func environ(env map[string]string, dir string) []string {
	out := []string{"HOME=" + dir, "TMPDIR=" + dir, "PATH=" + os.Getenv("PATH")}
	for _, name := range []string{"GOCOVERDIR", "GORACE", "GODEBUG", "GOMAXPROCS", "GOMEMLIMIT"} {
		if v, ok := os.LookupEnv(name); ok {
			out = append(out, name+"="+v)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(env)) {
		out = append(out, name+"="+env[name])
	}
	return out
}

// URL is where the instance takes events, and serves its metrics and status.
func (i *Instance) URL() string { return i.url }

// LogPath is the file with the output of all its lives.
func (i *Instance) LogPath() string { return i.command.Log }

// PID is the process id of its present or last life.
func (i *Instance) PID() int { return i.current().PID() }

// Starts counts its lives.
func (i *Instance) Starts() int { return int(i.starts.Load()) }

// Running reports whether its process lives.
func (i *Instance) Running() bool { return i.current().Running() }

// Kill ends the process as a crash does. Unless restarts are off it comes back.
func (i *Instance) Kill() error { return i.current().Kill() }

// Terminate ends the process as a rollout does, by SIGTERM, and waits for its
// end. Unless restarts are off it comes back.
func (i *Instance) Terminate() error { return i.current().Stop() }

// Pause hangs the process; Resume lets it go on.
func (i *Instance) Pause() error { return i.current().Pause() }

// Resume lets a paused process go on.
func (i *Instance) Resume() error { return i.current().Resume() }

// Tail returns the last lines of its log.
func (i *Instance) Tail(lines int) string { return i.current().Tail(lines) }

func (i *Instance) current() *servers.Process {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.process
}

func (i *Instance) start() error {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.starts.Add(1)
	if i.process != nil {
		return i.process.Start()
	}
	p, err := servers.StartProcess(i.command)
	if err == nil {
		i.process = p
	}
	return err
}

// Ready waits until the readiness probe of the manifest succeeds.
func (i *Instance) Ready(ctx context.Context) error {
	if i.ready == "" {
		return nil
	}
	client := &http.Client{Timeout: time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	var last error
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, i.ready, nil)
		if err != nil {
			return err
		}
		res, err := client.Do(req)
		if err == nil {
			body, _ := io.ReadAll(io.LimitReader(res.Body, maxErrorData))
			res.Body.Close()
			if res.StatusCode >= 200 && res.StatusCode < 400 {
				return nil
			}
			err = fmt.Errorf("%s answered %d: %s", i.ready, res.StatusCode, body)
		}
		if ctx.Err() == nil || last == nil {
			last = err
		}
		if !sleep(ctx, 20*time.Millisecond) {
			return fmt.Errorf("%s is not ready: %w; its log %s ends:\n%s", i.Name, cmp.Or(last, context.Cause(ctx)), i.LogPath(), i.Tail(20))
		}
	}
}
