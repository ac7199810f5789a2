package servers

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tandem-dc/tandem/testbench/port"
)

// embedded is kfake: the real protocol over TCP with segments on disk. It
// flushes to the operating system only, which is enough here: this process may
// be killed, the machine is not.
type embedded struct {
	options []kfake.Opt
	port    int
	log     string
	gate    *gate

	mu      sync.Mutex
	cluster *kfake.Cluster // nil while it is down
	logFile *os.File
	full    *kfake.FaultHandle // nil while there is room
}

func startEmbedded(dir string, maxMessageBytes int) (broker, error) {
	e := &embedded{log: kafkaLog(dir), gate: newGate()}
	e.options = []kfake.Opt{
		kfake.NumBrokers(1),
		kfake.ListenFn(e.gate.listen),
		kfake.DataDir(filepath.Join(dir, "data")),
	}
	if maxMessageBytes > 0 {
		e.options = append(e.options, kfake.BrokerConfigs(map[string]string{"message.max.bytes": strconv.Itoa(maxMessageBytes)}))
	}
	for attempt := 1; ; attempt++ {
		var err error
		if e.port, err = port.Reserve(); err != nil {
			return nil, err
		}
		err = e.restart(context.Background())
		if err == nil {
			return e, nil
		}
		if attempt == 5 || !errors.Is(err, syscall.EADDRINUSE) {
			return nil, err
		}
	}
}

func (e *embedded) restart(context.Context) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.cluster != nil {
		return errors.New("the embedded broker runs already")
	}
	f, err := os.OpenFile(e.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	// A listener inherits nothing of the one before: connections of the last life are gone.
	options := append([]kfake.Opt{kfake.Ports(e.port), kfake.WithLogger(kfake.BasicLogger(f, kfake.LogLevelWarn))}, e.options...)
	c, err := kfake.NewCluster(options...)
	if err != nil {
		f.Close()
		return fmt.Errorf("embedded broker on port %d: %w", e.port, err)
	}
	e.cluster, e.logFile, e.full = c, f, nil
	return nil
}

func (e *embedded) Bootstrap() string { return port.Addr(e.port) }

// Kill drops the connections first: nobody gets an answer to what is in the air.
func (e *embedded) Kill() error {
	e.gate.drop()
	return e.Stop()
}

func (e *embedded) Stop() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.cluster == nil {
		return nil
	}
	e.gate.resume() // a hung broker could not end
	e.cluster.Close()
	e.gate.drop()
	e.cluster = nil
	return e.logFile.Close()
}

func (e *embedded) Pause() error  { e.gate.pause(); return nil }
func (e *embedded) Resume() error { e.gate.resume(); return nil }

// setFull makes every produce fail as a broker does whose disk is full.
func (e *embedded) setFull(full bool) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.cluster == nil {
		return errors.New("the embedded broker is down")
	}
	if e.full != nil {
		e.full.Remove()
		e.full = nil
	}
	if full {
		e.full = e.cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Err: kerr.KafkaStorageError, Count: -1})
	}
	return nil
}

func (e *embedded) LogPath() string       { return e.log }
func (e *embedded) Tail(lines int) string { return tailFile(e.log, lines) }

// gate stands between a server in this process and its clients: it can hold
// everything that clients send, as a stopped process would, and drop connections.
type gate struct {
	mu     sync.Mutex
	open   chan struct{} // closed while data may pass
	conns  map[*gatedConn]struct{}
	paused bool
}

func newGate() *gate {
	g := &gate{open: make(chan struct{}), conns: map[*gatedConn]struct{}{}}
	close(g.open)
	return g
}

func (g *gate) listen(network, address string) (net.Listener, error) {
	l, err := net.Listen(network, address)
	if err != nil {
		return nil, err
	}
	return &gatedListener{Listener: l, gate: g}, nil
}

func (g *gate) pause() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.paused {
		g.paused, g.open = true, make(chan struct{})
	}
}

func (g *gate) resume() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.paused {
		g.paused = false
		close(g.open)
	}
}

// drop closes all connections, and lets a paused server go on so that it can end.
func (g *gate) drop() {
	g.mu.Lock()
	conns := g.conns
	g.conns = map[*gatedConn]struct{}{}
	g.mu.Unlock()
	for c := range conns {
		c.Close()
	}
	g.resume()
}

type gatedListener struct {
	net.Listener
	gate *gate
}

func (l *gatedListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	g := &gatedConn{Conn: c, gate: l.gate, closed: make(chan struct{})}
	l.gate.mu.Lock()
	l.gate.conns[g] = struct{}{}
	l.gate.mu.Unlock()
	return g, nil
}

type gatedConn struct {
	net.Conn
	gate   *gate
	once   sync.Once
	closed chan struct{}
}

func (c *gatedConn) Close() error {
	c.once.Do(func() { close(c.closed) })
	c.gate.mu.Lock()
	delete(c.gate.conns, c)
	c.gate.mu.Unlock()
	return c.Conn.Close()
}

func (c *gatedConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if wait := c.wait(); wait != nil {
		return 0, wait
	}
	return n, err
}

func (c *gatedConn) Write(b []byte) (int, error) {
	if err := c.wait(); err != nil {
		return 0, err
	}
	return c.Conn.Write(b)
}

func (c *gatedConn) wait() error {
	c.gate.mu.Lock()
	open := c.gate.open
	c.gate.mu.Unlock()
	select {
	case <-c.closed:
		return net.ErrClosed
	default:
	}
	select {
	case <-open:
		return nil
	case <-c.closed:
		return net.ErrClosed
	}
}
