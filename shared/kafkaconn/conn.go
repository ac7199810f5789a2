// Package kafkaconn answers how tandem reaches a Kafka cluster: dialing with
// TLS and SASL through an address map, creating topics, and asking for limits.
package kafkaconn

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/sasl"
	"github.com/segmentio/kafka-go/sasl/plain"
	"github.com/segmentio/kafka-go/sasl/scram"

	"github.com/tandem-dc/tandem/shared/config"
	"github.com/tandem-dc/tandem/shared/tlsconf"
)

// Config says where a cluster is and who we are there.
type Config struct {
	Brokers     []string          `key:"brokers" default:"127.0.0.1:9092" help:"host:port of brokers to ask first"`
	AddressMap  map[string]string `key:"address-map" help:"advertised host:port = host:port to dial instead, for clusters behind a proxy or tunnel"`
	TLS         tlsconf.Config    `key:"tls"`
	SASL        SASL              `key:"sasl"`
	DialTimeout time.Duration     `key:"dial-timeout" default:"5s" help:"longest wait for a connection to open, TLS and SASL included"`
}

// SASL says how to authenticate. The zero value does not.
type SASL struct {
	Mechanism string `key:"mechanism" help:"plain, scram-sha-256 or scram-sha-512; empty: no authentication"`
	User      string `key:"user" help:"account"`
	Password  string `key:"password" secret:"true" help:"password of the account"`
}

const (
	defaultDialTimeout = 5 * time.Second
	// Brokers close a connection that was idle for 10 minutes; we close it first,
	// so that no request meets a connection that is being closed.
	idleTimeout = 9 * time.Minute
	// kafka-go also uses it as the deadline of its metadata requests, so it must
	// be well above a slow round trip.
	metadataTTL = 5 * time.Second
	// Bounds a request whose caller gave no deadline.
	requestTimeout = 30 * time.Second
	// A dead peer is noticed after about 9 probes.
	keepAlive = 5 * time.Second
	clientID  = "tandem"
)

// Validate reports settings that cannot work, each as a *config.Error. It does no I/O.
func (c Config) Validate() error {
	var errs []error
	if len(c.Brokers) == 0 {
		errs = append(errs, &config.Error{Key: "brokers", Problem: "is empty", Remedy: "name at least one host:port"})
	}
	for _, b := range c.Brokers {
		errs = append(errs, checkAddr("brokers", b))
	}
	for from, to := range c.AddressMap {
		errs = append(errs, checkAddr("address-map", from), checkAddr("address-map", to))
	}
	if c.DialTimeout < 0 {
		errs = append(errs, &config.Error{Key: "dial-timeout", Problem: "is negative", Remedy: "set a duration such as 5s"})
	}
	errs = append(errs, config.Within("tls", c.TLS.Validate()), c.SASL.validate())
	return errors.Join(errs...)
}

func checkAddr(key, addr string) error {
	if host, port, err := net.SplitHostPort(addr); err != nil || host == "" || port == "" {
		return &config.Error{Key: key, Problem: fmt.Sprintf("%q is not host:port", addr), Remedy: "write it as kafka-1.example.com:9092"}
	}
	return nil
}

func (s SASL) validate() error {
	_, err := s.mechanism()
	return err
}

func (s SASL) mechanism() (sasl.Mechanism, error) {
	switch s.Mechanism {
	case "":
		if s.User != "" || s.Password != "" {
			return nil, &config.Error{Key: "sasl.mechanism", Problem: "is empty, but sasl.user or sasl.password is given", Remedy: "set it to plain, scram-sha-256 or scram-sha-512"}
		}
		return nil, nil
	case "plain", "scram-sha-256", "scram-sha-512":
	default:
		return nil, &config.Error{Key: "sasl.mechanism", Problem: fmt.Sprintf("%q is unknown", s.Mechanism), Remedy: "set it to plain, scram-sha-256 or scram-sha-512"}
	}
	if s.User == "" || s.Password == "" {
		return nil, &config.Error{Key: "sasl.user", Problem: "is empty, or sasl.password is", Remedy: "set both, or leave sasl.mechanism empty"}
	}
	if s.Mechanism == "plain" {
		return plain.Mechanism{Username: s.User, Password: s.Password}, nil
	}
	algorithm := scram.SHA256
	if s.Mechanism == "scram-sha-512" {
		algorithm = scram.SHA512
	}
	m, err := scram.Mechanism(algorithm, s.User, s.Password)
	if err != nil {
		return nil, fmt.Errorf("sasl.user or sasl.password cannot be used with %s: %w", s.Mechanism, err)
	}
	return m, nil
}

func (c Config) dialTimeout() time.Duration {
	if c.DialTimeout > 0 {
		return c.DialTimeout
	}
	return defaultDialTimeout
}

// dial opens the TCP connection for an advertised address. TLS stays with the
// caller, which checks the certificate against the advertised name.
func (c Config) dial(ctx context.Context, network, address string) (net.Conn, error) {
	if to, ok := c.AddressMap[address]; ok {
		address = to
	}
	d := net.Dialer{Timeout: c.dialTimeout(), KeepAlive: keepAlive}
	return d.DialContext(ctx, network, address)
}

// Dialer returns a dialer for kafka.Conn and kafka.Reader.
func (c Config) Dialer() (*kafka.Dialer, error) {
	if err := c.Validate(); err != nil {
		return nil, fmt.Errorf("kafka: %w", err)
	}
	tls, err := c.TLS.Load()
	if err != nil {
		return nil, fmt.Errorf("kafka: %w", err)
	}
	mechanism, err := c.SASL.mechanism()
	if err != nil {
		return nil, fmt.Errorf("kafka: %w", err)
	}
	return &kafka.Dialer{ClientID: clientID, DialFunc: c.dial, Timeout: c.dialTimeout(), TLS: tls, SASLMechanism: mechanism}, nil
}

// Client returns a client whose connections stay open while idle, and a
// function that closes them; call it when the client is no longer used. A
// request without a deadline gets 30 s.
func (c Config) Client() (*kafka.Client, func(), error) {
	d, err := c.Dialer()
	if err != nil {
		return nil, nil, err
	}
	t := &kafka.Transport{
		Dial: c.dial, DialTimeout: c.dialTimeout(), IdleTimeout: idleTimeout, MetadataTTL: metadataTTL,
		ClientID: clientID, TLS: d.TLS, SASL: d.SASLMechanism,
	}
	return &kafka.Client{Addr: kafka.TCP(c.Brokers...), Timeout: requestTimeout, Transport: t}, t.CloseIdleConnections, nil
}
