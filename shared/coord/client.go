// Package coord answers who may do what exists once: an etcd client, and a
// lease that one process at a time holds.
package coord

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/tandem-dc/tandem/shared/config"
	"github.com/tandem-dc/tandem/shared/tlsconf"
)

// Config says where etcd is and who we are there.
type Config struct {
	Endpoints   []string       `key:"endpoints" default:"127.0.0.1:2379" help:"host:port of etcd members"`
	User        string         `key:"user" help:"account; empty: no authentication"`
	Password    string         `key:"password" secret:"true" help:"password of the account"`
	TLS         tlsconf.Config `key:"tls"`
	DialTimeout time.Duration  `key:"dial-timeout" default:"5s" help:"longest wait for a connection to open"`
}

const (
	defaultDialTimeout = 5 * time.Second
	// A connection whose peer is silent is given up after the sum. gRPC sends no
	// ping sooner than 10 s, but unacknowledged data alone takes the second figure.
	keepAliveTime    = 10 * time.Second
	keepAliveTimeout = 3 * time.Second
)

// Validate reports settings that cannot work, each as a *config.Error. It does no I/O.
func (c Config) Validate() error {
	var errs []error
	if len(c.Endpoints) == 0 {
		errs = append(errs, &config.Error{Key: "endpoints", Problem: "is empty", Remedy: "name at least one host:port"})
	}
	for _, e := range c.Endpoints {
		addr := strings.TrimPrefix(strings.TrimPrefix(e, "http://"), "https://")
		if host, port, err := net.SplitHostPort(addr); err != nil || host == "" || port == "" {
			errs = append(errs, &config.Error{Key: "endpoints", Problem: fmt.Sprintf("%q is not host:port", e), Remedy: "write it as etcd-0.example.com:2379"})
		}
	}
	if (c.User == "") != (c.Password == "") {
		errs = append(errs, &config.Error{Key: "user", Problem: "goes together with password", Remedy: "set both or neither"})
	}
	if c.DialTimeout < 0 {
		errs = append(errs, &config.Error{Key: "dial-timeout", Problem: "is negative", Remedy: "set a duration such as 5s"})
	}
	return errors.Join(append(errs, config.Within("tls", c.TLS.Validate()))...)
}

// Open returns a client; close it when it is no longer used. It connects in
// the background, but with a user it first logs in, within DialTimeout. What
// the client logs goes to log: its errors as warnings, the rest at debug level.
func Open(c Config, log *slog.Logger) (*clientv3.Client, error) {
	if err := c.Validate(); err != nil {
		return nil, fmt.Errorf("etcd: %w", err)
	}
	tls, err := c.TLS.Load()
	if err != nil {
		return nil, fmt.Errorf("etcd: %w", err)
	}
	timeout := c.DialTimeout
	if timeout == 0 {
		timeout = defaultDialTimeout
	}
	cli, err := clientv3.New(clientv3.Config{
		Endpoints: c.Endpoints, Username: c.User, Password: c.Password, TLS: tls, DialTimeout: timeout,
		DialKeepAliveTime: keepAliveTime, DialKeepAliveTimeout: keepAliveTimeout,
		Logger: zap.New(&bridge{log: log}),
	})
	if err != nil {
		return nil, fmt.Errorf("etcd %v: %w", c.Endpoints, err)
	}
	return cli, nil
}

// bridge is a zap core that hands entries to slog. An unreachable etcd makes
// the client warn at every attempt; its caller reports that once, so warnings
// are only for who debugs.
type bridge struct {
	log    *slog.Logger
	fields []zapcore.Field
}

func level(l zapcore.Level) slog.Level {
	if l >= zapcore.ErrorLevel {
		return slog.LevelWarn
	}
	return slog.LevelDebug
}

func (b *bridge) Enabled(l zapcore.Level) bool {
	return b.log.Enabled(context.Background(), level(l))
}

func (b *bridge) With(fields []zapcore.Field) zapcore.Core {
	return &bridge{log: b.log, fields: append(b.fields[:len(b.fields):len(b.fields)], fields...)}
}

func (b *bridge) Check(e zapcore.Entry, ce *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if b.Enabled(e.Level) {
		return ce.AddCore(e, b)
	}
	return ce
}

func (b *bridge) Write(e zapcore.Entry, fields []zapcore.Field) error {
	m := zapcore.NewMapObjectEncoder()
	for _, f := range b.fields {
		f.AddTo(m)
	}
	for _, f := range fields {
		f.AddTo(m)
	}
	attrs := make([]slog.Attr, 0, len(m.Fields))
	for k, v := range m.Fields {
		attrs = append(attrs, slog.Any(k, v))
	}
	b.log.LogAttrs(context.Background(), level(e.Level), "etcd client: "+e.Message, attrs...)
	return nil
}

func (b *bridge) Sync() error { return nil }
