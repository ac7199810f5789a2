package servers

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"time"

	"go.etcd.io/etcd/server/v3/embed"

	"github.com/tandem-dc/tandem/testbench/port"
)

// Etcd is one etcd member in this process, as durable as in production. It
// cannot be paused: put a link before it and let that hang.
type Etcd struct {
	dir          string
	ownDir       bool
	client, peer int

	mu      sync.Mutex
	running *embed.Etcd // nil while it is down
}

// StartEtcd starts a member with its data and log under dir (made if missing,
// kept by Close; empty: a scratch directory) and waits until it leads.
func StartEtcd(ctx context.Context, dir string) (*Etcd, error) {
	e := &Etcd{dir: dir}
	var err error
	if dir == "" {
		e.ownDir = true
		if e.dir, err = ScratchDir("etcd"); err != nil {
			return nil, err
		}
	}
	if err := os.MkdirAll(e.dir, 0o700); err != nil {
		return nil, err
	}
	for attempt := 1; ; attempt++ {
		if e.client, err = port.Reserve(); err != nil {
			break
		}
		if e.peer, err = port.Reserve(); err != nil {
			break
		}
		err = e.Start(ctx)
		if err == nil {
			return e, nil
		}
		if attempt == 5 || !portTaken(err.Error()) {
			break
		}
	}
	return nil, errors.Join(err, e.Close())
}

// Start starts the member again after Kill or Stop, with the same data on the
// same port.
func (e *Etcd) Start(ctx context.Context) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.running != nil {
		return errors.New("etcd runs already")
	}
	running, err := embed.StartEtcd(e.config())
	if err != nil {
		return fmt.Errorf("start etcd: %w; its log %s ends:\n%s", err, e.LogPath(), e.Tail(20))
	}
	limit := time.NewTimer(startLimit)
	defer limit.Stop()
	select {
	case <-running.Server.ReadyNotify():
		e.running = running
		return nil
	case err = <-running.Err():
	case <-ctx.Done():
		err = context.Cause(ctx)
	case <-limit.C:
		err = fmt.Errorf("not ready after %v", startLimit)
	}
	running.Close()
	return fmt.Errorf("start etcd: %w; its log %s ends:\n%s", err, e.LogPath(), e.Tail(20))
}

func (e *Etcd) config() *embed.Config {
	c := embed.NewConfig()
	c.Name = "tandem"
	c.Dir = filepath.Join(e.dir, "data")
	c.LogOutputs = []string{e.LogPath()}
	c.LogLevel = "warn"
	client, peer := httpURL(e.client), httpURL(e.peer)
	c.ListenClientUrls, c.AdvertiseClientUrls = client, client
	c.ListenPeerUrls, c.AdvertisePeerUrls = peer, peer
	c.InitialCluster = c.InitialClusterFromName(c.Name)
	// A single member need not wait long for others before it leads.
	c.TickMs, c.ElectionMs = 20, 200
	return c
}

func httpURL(p int) []url.URL { return []url.URL{{Scheme: "http", Host: port.Addr(p)}} }

// Endpoint is host:port for clients.
func (e *Etcd) Endpoint() string { return port.Addr(e.client) }

// Kill ends the member without handing anything over.
func (e *Etcd) Kill() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.running != nil {
		e.running.Server.HardStop()
		e.running.Close()
		e.running = nil
	}
	return nil
}

// Stop ends the member in order.
func (e *Etcd) Stop() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.running != nil {
		e.running.Close()
		e.running = nil
	}
	return nil
}

// Restart stops the member if it runs and starts it again on the same port.
func (e *Etcd) Restart(ctx context.Context) error {
	if err := e.Stop(); err != nil {
		return err
	}
	return e.Start(ctx)
}

// Close ends the member and removes a scratch directory.
func (e *Etcd) Close() error {
	err := e.Kill()
	if e.ownDir {
		err = errors.Join(err, os.RemoveAll(e.dir))
	}
	return err
}

// LogPath is the file that holds the member's output.
func (e *Etcd) LogPath() string { return filepath.Join(e.dir, "etcd.log") }

// Tail returns the last lines of the member's output.
func (e *Etcd) Tail(lines int) string { return tailFile(e.LogPath(), lines) }
