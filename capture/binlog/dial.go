package binlog

import (
	"context"
	"crypto/tls"
	"log/slog"
	"net"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-mysql-org/go-mysql/mysql"
	"github.com/go-mysql-org/go-mysql/replication"

	"github.com/tandem-dc/tandem/shared/sqldb"
)

// dial registers as a replica and asks for the binlog after a position. The
// returned function ends the connection and waits for what served it.
func (r *Reader) dial(ctx context.Context, f sqldb.Flavor, from Position, set gtidSet) (eventStream, func(), error) {
	cfg := replication.BinlogSyncerConfig{
		ServerID: r.cfg.ServerID, Flavor: string(f), User: r.cfg.MySQL.User, Password: r.cfg.MySQL.Password,
		// The server checks its files; TCP or TLS carry the stream.
		RawModeEnabled: true, DisableRetrySync: true, DiscardGTIDSet: true,
		HeartbeatPeriod: r.cfg.Heartbeat, FillZeroLogPos: f == sqldb.MariaDB, EventCacheCount: readAhead,
		Localhost: "tandem", Logger: slog.New(slog.DiscardHandler), // all that matters comes back as an error
	}
	cfg.Host = r.cfg.MySQL.Addr
	if host, port, err := net.SplitHostPort(r.cfg.MySQL.Addr); err == nil {
		n, err := strconv.ParseUint(port, 10, 16)
		if err != nil {
			return nil, nil, err
		}
		cfg.Host, cfg.Port = host, uint16(n)
	}
	var err error
	if cfg.TLSConfig, err = r.tls(cfg.Host); err != nil {
		return nil, nil, err
	}
	d := &dialer{ctx: ctx, timeout: r.cfg.MySQL.DialTimeout, silence: askSilence}
	cfg.Dialer = d.dial
	syncer := replication.NewBinlogSyncer(cfg)
	stop := context.AfterFunc(ctx, d.close)
	end := func() {
		stop()
		d.close() // first: so that the syncer neither waits for the server nor connects once more
		syncer.Close()
	}
	stream, err := start(syncer, from, set)
	if err != nil {
		end()
		return nil, nil, err
	}
	d.watch(max(silentBeats*r.cfg.Heartbeat, minSilence))
	return stream, end, nil
}

func start(syncer *replication.BinlogSyncer, from Position, set gtidSet) (*replication.BinlogStreamer, error) {
	if set == nil {
		return syncer.StartSync(mysql.Position{Name: from.File, Pos: from.Pos})
	}
	wire, err := set.wire()
	if err != nil {
		return nil, err
	}
	return syncer.StartSyncGTID(wire)
}

func (r *Reader) tls(host string) (*tls.Config, error) {
	c, err := r.cfg.MySQL.TLS.Load()
	if err != nil || c == nil {
		return nil, err
	}
	if c.ServerName == "" && !strings.HasPrefix(host, "/") {
		c = c.Clone()
		c.ServerName = host
	}
	return c, nil
}

// dialer gives the syncer connections that end with ctx and when the server
// says nothing for too long. go-mysql's own deadline bounds the arrival of
// a whole event instead, however large it is.
type dialer struct {
	ctx     context.Context
	timeout time.Duration

	mu      sync.Mutex
	closed  bool
	silence time.Duration
	conns   []*watchedConn
}

const (
	// silentBeats is how many heartbeats may fail to come.
	silentBeats = 5
	// minSilence is granted to a server that is busy for a moment.
	minSilence = 3 * time.Second
	// askSilence is granted before the stream begins, which heartbeats do not cover.
	askSilence = 15 * time.Second
)

func (d *dialer) dial(ctx context.Context, network, address string) (net.Conn, error) {
	d.mu.Lock()
	closed := d.closed
	d.mu.Unlock()
	if closed {
		return nil, net.ErrClosed
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(d.ctx, cancel)()
	nd := net.Dialer{Timeout: d.timeout}
	c, err := nd.DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		c.Close()
		return nil, net.ErrClosed
	}
	w := &watchedConn{Conn: c}
	w.silence.Store(int64(d.silence))
	d.conns = append(d.conns, w)
	return w, nil
}

// watch sets how long the server may say nothing from now on.
func (d *dialer) watch(silence time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.silence = silence
	for _, c := range d.conns {
		c.silence.Store(int64(silence))
	}
}

func (d *dialer) close() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.closed = true
	for _, c := range d.conns {
		c.Close()
	}
	d.conns = nil
}

type watchedConn struct {
	net.Conn
	silence atomic.Int64 // longest wait for the next byte, ns
}

func (c *watchedConn) Read(b []byte) (int, error) {
	if err := c.Conn.SetReadDeadline(time.Now().Add(time.Duration(c.silence.Load()))); err != nil {
		return 0, err
	}
	return c.Conn.Read(b)
}

func (c *watchedConn) Write(b []byte) (int, error) {
	if err := c.Conn.SetWriteDeadline(time.Now().Add(askSilence)); err != nil {
		return 0, err
	}
	return c.Conn.Write(b)
}

// SetReadDeadline and SetDeadline are the syncer's; the deadline is ours.
func (c *watchedConn) SetReadDeadline(time.Time) error { return nil }

func (c *watchedConn) SetDeadline(time.Time) error { return nil }
