package tail

import (
	"bufio"
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/segmentio/kafka-go"

	"github.com/tandem-dc/tandem/shared/kafkaconn"
	"github.com/tandem-dc/tandem/shared/tlsconf"
)

// Command is the verb "tail" of the operator's CLI.
//
// Exit codes: 0, the end was reached or it was interrupted; 1, anything else.
type Command struct {
	Brokers    []string          `aliases:"kafka.brokers" env:"TANDEM_KAFKA_BROKERS" default:"127.0.0.1:9092" help:"Brokers to ask first." placeholder:"HOST:PORT"`
	AddressMap map[string]string `env:"TANDEM_KAFKA_ADDRESS_MAP" mapsep:"," help:"Addresses to dial instead of those that brokers advertise." placeholder:"HOST:PORT=HOST:PORT"`
	TLS        Files             `embed:"" prefix:"tls." envprefix:"TANDEM_KAFKA_TLS_"`
	SASL       Login             `embed:"" prefix:"sasl." envprefix:"TANDEM_KAFKA_SASL_"`

	Topic      string `required:"" aliases:"kafka.topic" help:"Topic, such as binlog-beijing or deadletter-beijing."`
	From       string `default:"latest" help:"Where to begin in each partition: earliest, latest, an offset, or -N for the last N (--from=-10)."`
	Follow     bool   `default:"true" negatable:"" help:"Go on at the end (default); --no-follow stops there."`
	Output     string `short:"o" enum:"text,json" default:"text" help:"text, or json: one CloudEvent per line."`
	Heartbeats bool   `help:"Print heartbeats as well."`
	Width      int    `default:"80" help:"Characters of one value at most in text; 0: all."`

	Out, Err io.Writer `kong:"-"` // default to standard output and error
}

// Files hold certificates.
type Files struct {
	Enabled    bool   `env:"ENABLED" help:"Encrypt the connection."`
	CA         string `env:"CA" help:"File of the certificate authority; turns TLS on."`
	Cert       string `env:"CERT" help:"File of our certificate; turns TLS on."`
	Key        string `env:"KEY" help:"File of its key."`
	ServerName string `env:"SERVER_NAME" help:"Name that the certificate must carry."`
}

// Login is an account of the cluster.
type Login struct {
	Mechanism string `env:"MECHANISM" help:"plain, scram-sha-256 or scram-sha-512; default: none."`
	User      string `env:"USER" help:"Account."`
	Password  string `env:"PASSWORD" help:"Its password; better through the environment."`
}

// Run prints until the end or an interrupt.
func (c *Command) Run() error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	return c.Execute(ctx)
}

// Execute is Run under a context of the caller's.
func (c *Command) Execute(ctx context.Context) (err error) {
	out, notices := c.Out, c.Err
	if out == nil {
		out = os.Stdout
	}
	if notices == nil {
		notices = os.Stderr
	}
	var p Printer = Text{Width: c.Width, Heartbeats: c.Heartbeats}
	if c.Output == "json" {
		p = JSON{Heartbeats: c.Heartbeats}
	}
	b := bufio.NewWriter(out)
	defer func() { err = errors.Join(err, b.Flush()) }()
	if c.Follow {
		p = flushing{p, b}
	}
	return Run(ctx, Config{
		Kafka: kafkaconn.Config{
			Brokers: c.Brokers, AddressMap: c.AddressMap, DialTimeout: 5 * time.Second, SASL: kafkaconn.SASL(c.SASL),
			TLS: tlsconf.Config{Enabled: c.TLS.Enabled || c.TLS.CA != "" || c.TLS.Cert != "", CA: c.TLS.CA, Cert: c.TLS.Cert, Key: c.TLS.Key, ServerName: c.TLS.ServerName},
		},
		Topic: c.Topic, From: c.From, Follow: c.Follow,
	}, p, b, slog.New(slog.NewTextHandler(notices, nil)))
}

// flushing shows each record at once, for somebody who waits for it.
type flushing struct {
	Printer
	b *bufio.Writer
}

func (f flushing) Print(w io.Writer, m *kafka.Message) error {
	if err := f.Printer.Print(w, m); err != nil {
		return err
	}
	return f.b.Flush()
}
