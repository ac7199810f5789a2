package servers

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/tandem-dc/tandem/testbench/port"
)

// Redis is a redis-server that logs every write to disk before it answers.
type Redis struct {
	*Process
	dir    string
	ownDir bool
	port   int
}

// StartRedis starts a server with its data and log under dir (made if missing,
// kept by Close; empty: a scratch directory) and waits until it answers.
func StartRedis(ctx context.Context, dir string) (*Redis, error) {
	path, err := lookPath("redis-server")
	if err != nil {
		return nil, fmt.Errorf("no Redis here, install it with `testbench/install.sh redis`: %w", err)
	}
	r := &Redis{dir: dir}
	if dir == "" {
		r.ownDir = true
		if r.dir, err = ScratchDir("redis"); err != nil {
			return nil, err
		}
	}
	if err = os.MkdirAll(r.dir, 0o700); err == nil {
		err = r.launch(ctx, path)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("start redis: %w", err), r.Close())
	}
	return r, nil
}

func (r *Redis) launch(ctx context.Context, path string) error {
	for attempt := 1; ; attempt++ {
		var err error
		if r.port, err = port.Reserve(); err != nil {
			return err
		}
		r.Process, err = StartProcess(Command{
			Name: "redis", Path: path, Dir: r.dir, Log: filepath.Join(r.dir, "redis.log"),
			Args: []string{"--bind", "127.0.0.1", "--port", strconv.Itoa(r.port), "--dir", r.dir,
				"--appendonly", "yes", "--appendfsync", "always", "--save", ""},
		})
		if err != nil {
			return err
		}
		err = r.WaitReady(ctx, startLimit, r.ping)
		if err == nil || attempt == 5 || r.Running() || !portTaken(r.Tail(40)) {
			return err
		}
	}
}

func (r *Redis) ping(ctx context.Context) error {
	d := net.Dialer{Timeout: time.Second}
	c, err := d.DialContext(ctx, "tcp", r.Addr())
	if err != nil {
		return err
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(2 * time.Second)); err != nil {
		return err
	}
	if _, err := c.Write([]byte("PING\r\n")); err != nil {
		return err
	}
	answer, err := bufio.NewReader(c).ReadString('\n')
	if err == nil && !strings.HasPrefix(answer, "+PONG") {
		err = fmt.Errorf("PING is answered by %q", answer)
	}
	return err
}

// Addr is host:port of the server.
func (r *Redis) Addr() string { return port.Addr(r.port) }

// Restart starts the server again with the same data on the same port. One that
// still runs is stopped first.
func (r *Redis) Restart(ctx context.Context) error {
	if err := r.Stop(); err != nil {
		return err
	}
	if err := r.Start(); err != nil {
		return err
	}
	return r.WaitReady(ctx, startLimit, r.ping)
}

// Close ends the server without mercy and removes a scratch directory.
func (r *Redis) Close() error {
	var errs []error
	if r.Process != nil {
		errs = append(errs, r.Kill())
	}
	if r.ownDir {
		errs = append(errs, os.RemoveAll(r.dir))
	}
	return errors.Join(errs...)
}
