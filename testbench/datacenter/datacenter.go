// Package datacenter answers how a whole datacenter comes to stand on this
// machine: database, broker and etcd, the programs that run there, and the wide
// area links between it and others.
package datacenter

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/tandem-dc/tandem/shared/kafkaconn"
	"github.com/tandem-dc/tandem/shared/sqldb"
	"github.com/tandem-dc/tandem/testbench/servers"
)

// Provider starts the servers of a datacenter. Processes is the one that needs
// nothing but the programs themselves.
type Provider interface {
	// Start returns when every server answers, or with all of them ended.
	Start(ctx context.Context, o Options) (*Datacenter, error)
}

// Options describe a datacenter.
type Options struct {
	Name   string // as in events and topics: lower-case letters, digits, '-'
	Number int    // from 1, different in each datacenter: offset of generated keys, GTID domain

	Flavor   sqldb.Flavor // default MySQL
	ServerID uint32       // of the database; default: random
	SQLFlags []string     // more flags of the database server

	Broker          servers.KafkaKind // default embedded
	Topics          map[string]int    // made at start: name to number of partitions
	MaxMessageBytes int               // of the broker; default: Kafka's

	Redis bool // start one as well

	// Dir is for data and logs, made if missing. Default: a new directory under
	// the system's temporary one.
	Dir string
}

// KeyStep is auto_increment_increment: room for as many datacenters, each with
// an offset of its own, without ever renumbering.
const KeyStep = 8

// Validate reports options that cannot work.
func (o Options) Validate() error {
	var errs []error
	if o.Name == "" || strings.Trim(o.Name, "abcdefghijklmnopqrstuvwxyz0123456789-") != "" {
		errs = append(errs, fmt.Errorf("datacenter name %q: lower-case letters, digits and '-' only", o.Name))
	}
	if o.Number < 1 || o.Number > KeyStep {
		errs = append(errs, fmt.Errorf("datacenter %s has number %d, 1 to %d are possible", o.Name, o.Number, KeyStep))
	}
	return errors.Join(errs...)
}

// Server is what the servers of a datacenter have in common.
type Server interface {
	Kill() error                       // as a crash
	Stop() error                       // as an operator
	Restart(ctx context.Context) error // same data, same address; waits until it answers
	Close() error                      // for good
}

// Database is MySQL or MariaDB with the accounts of package servers.
type Database interface {
	Server
	Config(user string) sqldb.Config
	Admin(db string) *sql.DB
	CreateDatabase(ctx context.Context, name string) error
}

// Broker is a Kafka cluster.
type Broker interface {
	Server
	Bootstrap() string // host:port, also what it advertises
	Config() kafkaconn.Config
}

// Coordinator is an etcd cluster.
type Coordinator interface {
	Server
	Endpoint() string // host:port
}

// Cache is Redis.
type Cache interface {
	Server
	Addr() string // host:port
}

// Pauser is a server that can hang: its connections stay open, nothing answers.
type Pauser interface {
	Pause() error
	Resume() error
}

// Datacenter is a running one.
type Datacenter struct {
	Options
	SQL   Database
	Kafka Broker
	Etcd  Coordinator
	Cache Cache // nil without Options.Redis

	mu       sync.Mutex
	programs []*servers.Process
}

// Program is something that runs in a datacenter besides its servers, such as
// capture.
type Program struct {
	Name string // of its log file, and in messages
	Path string // the binary
	Args []string
	// Env are its variables. Of this process's own environment it inherits all
	// but TANDEM_*, which would be taken for its configuration.
	Env map[string]string
	// Ready is asked until it succeeds. Nil: ready at once.
	Ready func(ctx context.Context) error
}

// Run starts a program and waits until it is ready. Close ends it, unless the
// caller has. Kill, Start, Pause and Resume it as a server.
func (d *Datacenter) Run(ctx context.Context, p Program) (*servers.Process, error) {
	process, err := servers.StartProcess(servers.Command{
		Name: d.Name + "/" + p.Name, Path: p.Path, Args: p.Args, Env: environ(p.Env),
		Dir: d.Dir, Log: filepath.Join(d.Dir, p.Name+".log"),
	})
	if err != nil {
		return nil, err
	}
	d.mu.Lock()
	d.programs = append(d.programs, process)
	d.mu.Unlock()
	if p.Ready != nil {
		if err := process.WaitReady(ctx, readyLimit, p.Ready); err != nil {
			return nil, errors.Join(err, process.Kill())
		}
	}
	return process, nil
}

func environ(more map[string]string) []string {
	env := slices.DeleteFunc(os.Environ(), func(s string) bool { return strings.HasPrefix(s, "TANDEM_") })
	for name, value := range more {
		env = append(env, name+"="+value)
	}
	return env
}

// Close ends the programs in order, the last one first, and then the servers
// without mercy. It removes Dir, or all but the logs in it.
func (d *Datacenter) Close(keepLogs bool) error {
	d.mu.Lock()
	programs := d.programs
	d.programs = nil
	d.mu.Unlock()
	var errs []error
	for _, p := range slices.Backward(programs) {
		errs = append(errs, p.Stop())
	}
	if d.SQL != nil {
		errs = append(errs, d.SQL.Close())
	}
	if d.Kafka != nil {
		errs = append(errs, d.Kafka.Close())
	}
	if d.Etcd != nil {
		errs = append(errs, d.Etcd.Close())
	}
	if d.Cache != nil {
		errs = append(errs, d.Cache.Close())
	}
	if keepLogs {
		errs = append(errs, removeAllButLogs(d.Dir))
	} else {
		errs = append(errs, os.RemoveAll(d.Dir))
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("close datacenter %s: %w", d.Name, err)
	}
	return nil
}

// removeAllButLogs keeps *.log outside of the servers' data.
func removeAllButLogs(dir string) error {
	return filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case !entry.IsDir() && filepath.Ext(path) == ".log":
			return nil
		case !entry.IsDir():
			return os.Remove(path)
		case entry.Name() == "data" || entry.Name() == "tmp":
			if err := os.RemoveAll(path); err != nil {
				return err
			}
			return fs.SkipDir
		}
		return nil
	})
}
