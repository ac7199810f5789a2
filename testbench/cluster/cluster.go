// Package cluster answers how two datacenters that replicate to each other come
// to stand on this machine: their servers, the links between them, and capture
// and the functions as the manifests in triggers/ wire them.
package cluster

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/tandem-dc/tandem/shared/event"
	"github.com/tandem-dc/tandem/shared/ledger"
	"github.com/tandem-dc/tandem/shared/sqldb"
	"github.com/tandem-dc/tandem/testbench/datacenter"
	"github.com/tandem-dc/tandem/testbench/knative"
	"github.com/tandem-dc/tandem/testbench/link"
	"github.com/tandem-dc/tandem/testbench/servers"
)

// Names of the datacenters; each has an overlay in triggers/overlays.
var Names = [2]string{"beijing", "guangzhou"}

// Options describe a cluster. Bin and Triggers are required.
type Options struct {
	Flavor sqldb.Flavor      // of both databases; default MySQL
	Second sqldb.Flavor      // of the second's database, if it differs
	Broker servers.KafkaKind // of both; default embedded
	Link   link.Options      // each way between them; zero: no delay

	Bin      string // directory of the programs, see make build
	Triggers string // directory of the manifests

	// Databases are made, with rights for all accounts, before Prepare.
	Databases []string
	// Prepare makes tables and rows, the same in both. Nothing is replicated yet,
	// and what was written up to its end never is.
	Prepare func(ctx context.Context, c *Cluster) error

	// Instances overrides how many processes a workload has, "capture" or "apply"; 0 leaves it out.
	Instances map[string]int
	// Env adds variables to a workload.
	Env map[string]map[string]string

	SQLFlags        []string // more flags of the database servers
	MaxMessageBytes int      // of the brokers; default: Kafka's
	Partitions      int      // of the topics; default 1

	Dir      string       // for data and logs; default: a new temporary directory
	Log      *slog.Logger // default: none
	Progress func(string) // told what is being done; default: nobody
}

// Side is one of the two datacenters with what runs there.
type Side struct {
	*datacenter.Datacenter
	Runtime *knative.Runtime
	Route   *datacenter.Route // to the peer's broker, used by this side's capture
	Peer    *Side
}

// Cluster is two datacenters. Sides and their parts may be killed, paused and
// restarted by their own methods; see also the hooks of Side.
type Cluster struct {
	Sides [2]*Side
	o     Options
	mu    sync.Mutex // of Drain
}

const (
	partitions = 1 // as triggers/README.md has it
	readyLimit = 60 * time.Second
	stopLimit  = 20 * time.Second
)

func (o *Options) check() error {
	o.Flavor = cmp.Or(o.Flavor, sqldb.MySQL)
	o.Second = cmp.Or(o.Second, o.Flavor)
	o.Broker = cmp.Or(o.Broker, servers.Embedded)
	o.Partitions = cmp.Or(o.Partitions, partitions)
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Progress == nil {
		o.Progress = func(string) {}
	}
	for what, dir := range map[string]string{"Bin": o.Bin, "Triggers": o.Triggers} {
		if info, err := os.Stat(dir); dir == "" || err != nil || !info.IsDir() {
			return fmt.Errorf("cluster: %s %q is no directory: run make build in the repository, and start there", what, dir)
		}
	}
	var err error
	if o.Dir == "" {
		o.Dir, err = os.MkdirTemp("", "tandem-")
	} else if o.Dir, err = filepath.Abs(o.Dir); err == nil {
		err = os.MkdirAll(o.Dir, 0o700)
	}
	if err != nil {
		return fmt.Errorf("cluster: %w", err)
	}
	return nil
}

// Start returns when both datacenters stand, are prepared, and every stream
// flows; or with everything ended and the logs kept in the directory that the
// error names, unless ctx has ended.
func Start(ctx context.Context, o Options) (*Cluster, error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	c := &Cluster{o: o}
	if err := c.start(ctx); err != nil {
		if ctx.Err() != nil { // called off, nothing to find out
			return nil, errors.Join(fmt.Errorf("cluster: %w", err), c.Close(false))
		}
		return nil, errors.Join(fmt.Errorf("cluster, logs are in %s: %w", o.Dir, err), c.Close(true))
	}
	return c, nil
}

func (c *Cluster) start(ctx context.Context) error {
	c.o.Progress(fmt.Sprintf("start %s, %s Kafka and etcd in %s and %s", c.o.Flavor, c.o.Broker, Names[0], Names[1]))
	if err := c.startServers(ctx); err != nil {
		return err
	}
	if err := c.connect(); err != nil {
		return err
	}
	c.o.Progress("make schemas and first rows")
	if err := c.each(ctx, c.prepare); err != nil {
		return err
	}
	if c.o.Prepare != nil {
		if err := c.o.Prepare(ctx, c); err != nil {
			return err
		}
	}
	c.o.Progress("start capture and functions as triggers/ wires them")
	if err := c.each(ctx, c.startRuntime); err != nil {
		return err
	}
	c.o.Progress("wait until every stream flows")
	return c.awaitStreams(ctx)
}

// each does the same on both sides at once.
func (c *Cluster) each(ctx context.Context, f func(context.Context, *Side) error) error {
	group, ctx := errgroup.WithContext(ctx)
	for _, s := range c.Sides {
		group.Go(func() error { return f(ctx, s) })
	}
	return group.Wait()
}

func (c *Cluster) startServers(ctx context.Context) error {
	topics := map[string]int{}
	for _, name := range Names {
		topics[event.Topic(name)] = c.o.Partitions
		topics[event.DeadLetterTopic(name)] = 1
	}
	flavors := [2]sqldb.Flavor{c.o.Flavor, c.o.Second}
	for i, name := range Names {
		c.Sides[i] = &Side{Datacenter: &datacenter.Datacenter{Options: datacenter.Options{Name: name, Number: i + 1,
			Flavor: flavors[i], ServerID: uint32(i + 1), SQLFlags: c.o.SQLFlags,
			Broker: c.o.Broker, Topics: topics, MaxMessageBytes: c.o.MaxMessageBytes, Dir: filepath.Join(c.o.Dir, name)}}}
	}
	c.Sides[0].Peer, c.Sides[1].Peer = c.Sides[1], c.Sides[0]
	return c.each(ctx, func(ctx context.Context, s *Side) error {
		d, err := datacenter.Processes{}.Start(ctx, s.Options)
		if err != nil {
			return err
		}
		s.Datacenter = d
		return nil
	})
}

func (c *Cluster) connect() (err error) {
	a, b := c.Sides[0], c.Sides[1]
	a.Route, b.Route, err = datacenter.Connect(a.Datacenter, b.Datacenter, c.o.Link)
	return err
}

func (c *Cluster) prepare(ctx context.Context, s *Side) error {
	admin := s.SQL.Admin("")
	if err := ledger.Migrate(ctx, admin); err != nil {
		return fmt.Errorf("%s: %w", s.Name, err)
	}
	for _, name := range append([]string{benchDatabase}, c.o.Databases...) {
		if err := s.SQL.CreateDatabase(ctx, name); err != nil {
			return fmt.Errorf("%s: %w", s.Name, err)
		}
	}
	return createMarker(ctx, admin)
}

// Close ends everything and removes its directory; with keep the logs stay.
func (c *Cluster) Close(keep bool) error {
	ctx, cancel := context.WithTimeout(context.Background(), stopLimit)
	defer cancel()
	// All programs first: a capture drains into the other side's broker.
	err := c.closeEach(func(s *Side) error {
		if s.Runtime == nil {
			return nil
		}
		return s.Runtime.Stop(ctx)
	})
	err = errors.Join(err, c.closeEach(func(s *Side) error {
		if s.SQL == nil {
			return nil
		}
		return s.Datacenter.Close(keep)
	}))
	for _, s := range c.Sides {
		if s != nil && s.Route != nil {
			s.Route.Close()
		}
	}
	if !keep {
		err = errors.Join(err, os.RemoveAll(c.o.Dir))
	}
	return err
}

func (c *Cluster) closeEach(f func(*Side) error) error {
	var errs [len(Names)]error
	var wg sync.WaitGroup
	for i, s := range c.Sides {
		if s != nil {
			wg.Go(func() { errs[i] = f(s) })
		}
	}
	wg.Wait()
	return errors.Join(errs[:]...)
}

// Dir holds data and logs.
func (c *Cluster) Dir() string { return c.o.Dir }
