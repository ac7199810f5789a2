package datacenter

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/tandem-dc/tandem/shared/sqldb"
	"github.com/tandem-dc/tandem/testbench/servers"
)

// Processes starts servers as child processes or inside this one. It needs no
// container runtime and no network.
type Processes struct{}

// readyLimit bounds the start of a program up to its first good answer.
const readyLimit = time.Minute

// Start starts the servers of a datacenter at the same time.
func (Processes) Start(ctx context.Context, o Options) (*Datacenter, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	if o.Flavor == "" {
		o.Flavor = sqldb.MySQL
	}
	if o.Broker == "" {
		o.Broker = servers.Embedded
	}
	var err error
	if o.Dir == "" {
		o.Dir, err = os.MkdirTemp("", "tandem-"+o.Name+"-")
	} else if o.Dir, err = filepath.Abs(o.Dir); err == nil {
		err = os.MkdirAll(o.Dir, 0o700)
	}
	if err != nil {
		return nil, fmt.Errorf("datacenter %s: %w", o.Name, err)
	}
	d := &Datacenter{Options: o}
	if err := d.startServers(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("datacenter %s, logs are in %s: %w", o.Name, o.Dir, err), d.Close(true))
	}
	return d, nil
}

func (d *Datacenter) startServers(ctx context.Context) error {
	// One that fails makes the others give up: their errors then say no more.
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error {
		m, err := servers.StartMySQL(ctx, servers.MySQLOptions{
			Flavor: d.Flavor, Dir: filepath.Join(d.Dir, string(d.Flavor)), ServerID: d.ServerID, Domain: uint32(d.Number),
			Increment: KeyStep, Offset: d.Number, Flags: d.SQLFlags,
		})
		if err == nil {
			d.SQL = m
		}
		return err
	})
	group.Go(func() error {
		k, err := servers.StartKafka(ctx, servers.KafkaOptions{
			Kind: d.Broker, Dir: filepath.Join(d.Dir, "kafka"), Topics: d.Topics, MaxMessageBytes: d.MaxMessageBytes,
		})
		if err == nil {
			d.Kafka = k
		}
		return err
	})
	group.Go(func() error {
		e, err := servers.StartEtcd(ctx, filepath.Join(d.Dir, "etcd"))
		if err == nil {
			d.Etcd = e
		}
		return err
	})
	if d.Redis {
		group.Go(func() error {
			r, err := servers.StartRedis(ctx, filepath.Join(d.Dir, "redis"))
			if err == nil {
				d.Cache = r
			}
			return err
		})
	}
	return group.Wait()
}

// StartForTest starts a datacenter of processes that ends with the test. If the
// test fails, the logs are kept and their place is printed.
func StartForTest(t testing.TB, o Options) *Datacenter {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	d, err := Processes{}.Start(ctx, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(t.Failed()); err != nil {
			t.Error(err)
		}
		if t.Failed() {
			t.Logf("logs of datacenter %s: %s", d.Name, d.Dir)
		}
	})
	return d
}
