package binlog

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"time"

	"github.com/go-mysql-org/go-mysql/mysql"
	"github.com/go-mysql-org/go-mysql/replication"

	"github.com/tandem-dc/tandem/shared/sqldb"
	"github.com/tandem-dc/tandem/shared/tableinfo"
)

const (
	defaultHeartbeat   = time.Second
	defaultMaxTxnBytes = 256 << 20
	// readAhead is how many events wait between the connection and the assembler. An
	// event of many rows has some 8 KB, one of a large row as much as the row.
	readAhead = 64
	// askLimit bounds one question to the server about a definition.
	askLimit = 30 * time.Second
)

// Reader reads one binlog. Run may be called again after it returned, not twice
// at a time.
type Reader struct {
	cfg    Config
	filter filter
	log    *slog.Logger
}

// New checks cfg, fills in defaults and returns a Reader that has done no I/O yet.
func New(cfg Config, log *slog.Logger) (*Reader, error) {
	if log == nil {
		return nil, errors.New("binlog: a logger is needed")
	}
	if err := cfg.MySQL.Validate(); err != nil {
		return nil, fmt.Errorf("binlog: %w", err)
	}
	switch cfg.Flavor {
	case "", sqldb.MySQL, sqldb.MariaDB:
	default:
		return nil, fmt.Errorf("binlog: flavor %q is neither %s nor %s", cfg.Flavor, sqldb.MySQL, sqldb.MariaDB)
	}
	if cfg.Heartbeat <= 0 {
		cfg.Heartbeat = defaultHeartbeat
	}
	if cfg.MaxTxnBytes <= 0 {
		cfg.MaxTxnBytes = defaultMaxTxnBytes
	}
	for cfg.ServerID == 0 {
		cfg.ServerID = rand.Uint32()
	}
	f, err := newFilter(cfg.Include, cfg.Exclude)
	if err != nil {
		return nil, fmt.Errorf("binlog: include and exclude: %w", err)
	}
	return &Reader{cfg: cfg, filter: f, log: log}, nil
}

// Run reads from a position and hands over items in binlog order until ctx ends,
// whose error it then returns, or the binlog cannot be read on. A *StopError
// says that reading from the same position again cannot help; after any other
// error it can. Nothing that Run started lives on when it returns.
func (r *Reader) Run(ctx context.Context, from Position, out chan<- Item) error {
	if from == (Position{}) {
		return errors.New("binlog: there is no position to read from: take Current")
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	db, err := sqldb.Open(r.cfg.MySQL, sqldb.Session{MaxOpen: 2})
	if err != nil {
		return fmt.Errorf("binlog: %w", err)
	}
	defer db.Close()
	a, err := r.prepare(ctx, db, from)
	if err != nil {
		return fmt.Errorf("binlog: %w", err)
	}
	stream, closeStream, err := r.dial(ctx, a.flavor(), from, a.set)
	if err != nil {
		return r.explain(from, err)
	}
	defer closeStream()
	seed := newSeed(ctx, db, a.flavor(), r.log)
	for {
		e, err := stream.GetEvent(ctx)
		if err != nil {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			return r.explain(a.pos, err)
		}
		if err := a.event(e.Header, e.RawData); err != nil {
			return err
		}
		for i := range a.out {
			seed.passed(&a.out[i], &a.marks)
			select {
			case out <- a.out[i]:
			case <-ctx.Done():
				return context.Cause(ctx)
			}
			a.out[i] = Item{}
		}
		a.out = a.out[:0]
	}
}

// prepare asks the server what the assembler needs to know.
func (r *Reader) prepare(ctx context.Context, db *sql.DB, from Position) (*assembler, error) {
	ask, cancel := context.WithTimeout(ctx, askLimit)
	defer cancel()
	server, err := sqldb.Inspect(ask, db)
	if err != nil {
		return nil, err
	}
	if r.cfg.Flavor != "" && r.cfg.Flavor != server.Flavor {
		return nil, fmt.Errorf("the server is a %s (%s), but flavor is %s: correct it, or leave it empty", server.Flavor, server.Version, r.cfg.Flavor)
	}
	if server.ID == r.cfg.ServerID {
		return nil, fmt.Errorf("server-id %d is the source's own: choose another", server.ID)
	}
	var set gtidSet
	if from.GTIDSet != "" {
		if set, err = parseGTIDSet(server.Flavor, from.GTIDSet); err != nil {
			return nil, &StopError{At: from.String(), Err: err}
		}
	}
	collations, err := loadCollations(ask, db, server.Flavor)
	if err != nil {
		return nil, err
	}
	a := newAssembler(from, set)
	a.build = builder{flavor: server.Flavor, collations: collations}
	a.catalog = &liveCatalog{ctx: ctx, db: db}
	a.filter, a.maxBytes, a.now, a.log = r.filter, r.cfg.MaxTxnBytes, time.Now, r.log
	a.server = server.UUID
	if a.server == "" {
		a.server = fmt.Sprint(server.ID)
	}
	return a, nil
}

// errPurged is the server's error number for a position that it cannot serve.
const errPurged = 1236

// explain adds what to do to errors of the connection.
func (r *Reader) explain(at Position, err error) error {
	var server *mysql.MyError
	if errors.As(err, &server) && server.Code == errPurged {
		return &StopError{At: at.String(), Err: fmt.Errorf("the server cannot go on from here: %s (error %d). Either another replica uses server-id %d, or the binlog "+
			"after this position is gone: restore it, or compare both datacenters and start from a new position", server.Message, server.Code, r.cfg.ServerID)}
	}
	return fmt.Errorf("binlog: read from %s: %w", r.cfg.MySQL.Addr, err)
}

// liveCatalog asks the source for definitions.
type liveCatalog struct {
	ctx context.Context // of Run, which is the only one to ask
	db  *sql.DB
}

func (c *liveCatalog) table(db, name string) (*tableinfo.Table, error) {
	ctx, cancel := context.WithTimeout(c.ctx, askLimit)
	defer cancel()
	t, err := tableinfo.Load(ctx, c.db, db, name)
	if errors.Is(err, tableinfo.ErrNoTable) {
		return nil, nil
	}
	return t, err
}

// eventStream is what Run reads events from.
type eventStream interface {
	GetEvent(ctx context.Context) (*replication.BinlogEvent, error)
}
