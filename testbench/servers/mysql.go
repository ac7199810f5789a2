package servers

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/tandem-dc/tandem/shared/sqldb"
	"github.com/tandem-dc/tandem/testbench/port"
)

// MySQLOptions says what StartMySQL starts. The zero value is a MySQL with a
// random server id in a scratch directory.
type MySQLOptions struct {
	Flavor   sqldb.Flavor // default MySQL
	Dir      string       // for data and log, made if missing, kept by Close; default: a scratch directory
	ServerID uint32       // default: random
	Domain   uint32       // MariaDB's gtid_domain_id
	// Increment and Offset are auto_increment_increment and _offset. Default 1, 1.
	Increment, Offset int
	Flags             []string // more flags of the server, they win over ours
}

// MySQL is a running MySQL or MariaDB server, set up as tandem asks for and as
// durable as in production.
type MySQL struct {
	Flavor   sqldb.Flavor
	Version  string // as in 9.7.4
	ServerID uint32

	program   *program
	options   MySQLOptions
	dir       string
	ownDir    bool
	socket    string
	port      int
	passwords map[string]string
	*Process

	mu     sync.Mutex
	admins map[string]*sql.DB // by database
}

// maxSocketPath is what the kernel allows, less what MariaDB adds in passing.
const maxSocketPath = 100

// startLimit bounds one start of a server up to its first answer.
const startLimit = 90 * time.Second

// StartMySQL starts a server and waits until its accounts can log in. Errors
// hold the end of the server's log, or the command that installs it.
func StartMySQL(ctx context.Context, o MySQLOptions) (*MySQL, error) {
	if o.Flavor == "" {
		o.Flavor = sqldb.MySQL
	}
	if o.ServerID == 0 {
		o.ServerID = 1 + rand.Uint32N(1<<31-1)
	}
	o.Increment, o.Offset = max(o.Increment, 1), max(o.Offset, 1)
	program, err := findProgram(ctx, o.Flavor)
	if err != nil {
		return nil, err
	}
	m := &MySQL{Flavor: o.Flavor, Version: program.version, ServerID: o.ServerID,
		program: program, options: o, dir: o.Dir, admins: map[string]*sql.DB{}}
	if err := m.start(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("start %s: %w", o.Flavor, err), m.Close())
	}
	return m, nil
}

func (m *MySQL) start(ctx context.Context) error {
	var err error
	if m.dir == "" {
		m.ownDir = true
		if m.dir, err = ScratchDir(string(m.Flavor)); err != nil {
			return err
		}
	}
	if err := os.MkdirAll(filepath.Join(m.dir, "tmp"), 0o700); err != nil {
		return err
	}
	m.socket = filepath.Join(m.dir, "s")
	if len(m.socket) > maxSocketPath {
		short, err := ScratchDir("socket")
		if err != nil {
			return err
		}
		m.socket = filepath.Join(short, "s")
	}
	if err := m.program.newDataDir(ctx, filepath.Join(m.dir, "data")); err != nil {
		return err
	}
	if err := m.launch(ctx); err != nil {
		return err
	}
	return m.createAccounts(ctx)
}

// launch starts the process on a free port; a port that somebody took in
// between is given up for another.
func (m *MySQL) launch(ctx context.Context) error {
	for attempt := 1; ; attempt++ {
		var err error
		if m.port, err = port.Reserve(); err != nil {
			return err
		}
		m.Process, err = StartProcess(Command{
			Name: string(m.Flavor),
			Path: m.program.path,
			Args: m.program.args(m.flags()...),
			Dir:  m.dir,
			Log:  filepath.Join(m.dir, string(m.Flavor)+".log"),
		})
		if err != nil {
			return err
		}
		err = m.waitReady(ctx, sqldb.Config{Addr: m.Socket(), User: "root"})
		if err == nil || attempt == 5 || m.Running() || !portTaken(m.Tail(40)) {
			return err
		}
	}
}

func portTaken(log string) bool {
	log = strings.ToLower(log)
	return strings.Contains(log, "address already in use") || strings.Contains(log, "bind on tcp/ip port")
}

func (m *MySQL) flags() []string {
	flags := []string{
		"--datadir=" + filepath.Join(m.dir, "data"),
		"--tmpdir=" + filepath.Join(m.dir, "tmp"),
		"--socket=" + m.Socket(),
		"--pid-file=" + filepath.Join(m.dir, "server.pid"),
		"--bind-address=127.0.0.1",
		"--port=" + strconv.Itoa(m.port),
		"--skip-name-resolve",
		"--server-id=" + strconv.FormatUint(uint64(m.ServerID), 10),
		"--log-bin=" + filepath.Join(m.dir, "data", "binlog"),
		"--binlog-format=ROW",
		"--binlog-row-image=FULL",
		"--binlog-row-metadata=FULL",
		"--sync-binlog=1",
		"--innodb-flush-log-at-trx-commit=1",
		"--innodb-buffer-pool-size=128M",
		"--innodb-buffer-pool-load-at-startup=OFF",
		"--innodb-buffer-pool-dump-at-shutdown=OFF",
		"--performance-schema=OFF",
		"--secure-file-priv=",
		"--character-set-server=utf8mb4",
		"--max-connections=500",
		"--auto-increment-increment=" + strconv.Itoa(m.options.Increment),
		"--auto-increment-offset=" + strconv.Itoa(m.options.Offset),
	}
	if m.Flavor == sqldb.MariaDB {
		flags = append(flags, mariadbRedo, "--log-slave-updates",
			"--gtid-domain-id="+strconv.FormatUint(uint64(m.options.Domain), 10))
	} else {
		flags = append(flags, mysqlRedo, "--log-replica-updates", "--mysqlx=OFF",
			"--gtid-mode=ON", "--enforce-gtid-consistency=ON")
	}
	return append(append(flags, asRoot()...), m.options.Flags...)
}

// waitReady waits until a login works. It ends early when the process does.
func (m *MySQL) waitReady(ctx context.Context, c sqldb.Config) error {
	c.DialTimeout, c.ReadTimeout = time.Second, 5*time.Second
	db, err := sqldb.Open(c, sqldb.Session{MaxOpen: 1})
	if err != nil {
		return err
	}
	defer db.Close()
	return m.Process.WaitReady(ctx, startLimit, db.PingContext)
}

// Addr is host:port of the server.
func (m *MySQL) Addr() string { return port.Addr(m.port) }

// Socket is the path of its unix socket.
func (m *MySQL) Socket() string { return m.socket }

// Dir holds the server's data and log.
func (m *MySQL) Dir() string { return m.dir }

// Restart starts the server again with the same data on the same port, and
// waits until it answers. One that still runs is stopped first.
func (m *MySQL) Restart(ctx context.Context) error {
	if err := m.Stop(); err != nil {
		return err
	}
	if err := m.Start(); err != nil {
		return err
	}
	return m.waitReady(ctx, m.Config("root"))
}

// Close ends the server without mercy and removes a scratch directory.
func (m *MySQL) Close() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	var errs []error
	for _, db := range m.admins {
		_ = db.Close() // complains of connections whose server died in between
	}
	clear(m.admins)
	if m.Process != nil {
		errs = append(errs, m.Kill())
	}
	if m.ownDir {
		errs = append(errs, os.RemoveAll(m.dir))
	}
	return errors.Join(errs...)
}
