package doctor

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/tandem-dc/tandem/shared/kafkaconn"
	"github.com/tandem-dc/tandem/shared/sqldb"
	"github.com/tandem-dc/tandem/shared/tlsconf"
)

// Command is the verb "doctor" of the operator's CLI.
//
// Exit codes: 0, all is well or there are warnings only; 1, the server could not
// be examined or the flags are wrong; 2, something must be repaired before
// tandem may start; with Strict, 2 for warnings too.
type Command struct {
	MySQL   Account `embed:"" prefix:"mysql." envprefix:"TANDEM_MYSQL_"`
	Capture Login   `embed:"" prefix:"capture." envprefix:"TANDEM_CAPTURE_"`
	Apply   Login   `embed:"" prefix:"apply." envprefix:"TANDEM_APPLY_"`

	Databases []string `help:"What is replicated; default: every database but the server's own." placeholder:"NAME"`
	Peer      []string `help:"Servers of the other datacenters, asked with the same account." placeholder:"HOST:PORT"`
	DC        int      `name:"dc" help:"Number of this datacenter, from 1; checks auto_increment."`
	DCs       int      `name:"dcs" default:"2" help:"How many datacenters there are."`

	Brokers []string `name:"kafka.brokers" help:"Brokers that the events go to; checks the size of a message." placeholder:"HOST:PORT"`
	Topic   string   `name:"kafka.topic" help:"Their topic, such as binlog-beijing."`

	Output string `short:"o" enum:"text,json" default:"text" help:"text or json."`
	All    bool   `help:"Show what is well, too."`
	Strict bool   `help:"Exit with 2 on warnings as well."`

	Out io.Writer `kong:"-"` // defaults to standard output
}

// Account is where the server is and who examines it: an administrator sees most.
type Account struct {
	Addr     string `default:"127.0.0.1:3306" env:"ADDR" help:"host:port of the server, or the path of its unix socket."`
	User     string `default:"root" env:"USER" help:"Account that examines it."`
	Password string `env:"PASSWORD" help:"Its password; better through the environment."`
	CA       string `name:"tls.ca" env:"TLS_CA" help:"File of the certificate authority; turns TLS on."`
	Cert     string `name:"tls.cert" env:"TLS_CERT" help:"File of our certificate."`
	Key      string `name:"tls.key" env:"TLS_KEY" help:"File of its key."`
}

// Login is another account of the same server, whose rights are checked.
type Login struct {
	User     string `env:"USER" help:"Account whose rights are checked; default: not checked."`
	Password string `env:"PASSWORD" help:"Its password; better through the environment."`
}

// Refused is the error of a Command that found what must be repaired first.
type Refused struct{ Worst Severity }

func (e *Refused) Error() string {
	if e.Worst == Warn {
		return "doctor: there are warnings, and --strict"
	}
	return "doctor: repair what is refused before tandem starts"
}

// ExitCode is 2. kong's FatalIfErrorf uses it.
func (e *Refused) ExitCode() int { return 2 }

// Run examines the server and prints the findings. An interrupt ends it.
func (c *Command) Run() error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	return c.Execute(ctx)
}

// Execute is Run under a context of the caller's.
func (c *Command) Execute(ctx context.Context) (err error) {
	t, closeAll, err := c.target()
	defer func() { err = errors.Join(err, closeAll()) }()
	if err != nil {
		return err
	}
	findings, err := Run(ctx, t)
	if err != nil {
		return err
	}
	out := c.Out
	if out == nil {
		out = os.Stdout
	}
	if c.Output == "json" {
		err = WriteJSON(out, findings)
	} else {
		err = WriteText(out, findings, !c.All)
	}
	if err != nil {
		return err
	}
	if worst := Worst(findings); worst == Refuse || worst == Warn && c.Strict {
		return &Refused{worst}
	}
	return nil
}

func (c *Command) target() (t Target, closeAll func() error, err error) {
	var pools []*sql.DB
	closeAll = func() error {
		var errs []error
		for _, p := range pools {
			errs = append(errs, p.Close())
		}
		return errors.Join(errs...)
	}
	open := func(addr, user, password, charset string) (*sql.DB, error) {
		db, err := sqldb.Open(sqldb.Config{Addr: addr, User: user, Password: password,
			TLS:         tlsconf.Config{Enabled: c.MySQL.CA != "" || c.MySQL.Cert != "", CA: c.MySQL.CA, Cert: c.MySQL.Cert, Key: c.MySQL.Key},
			DialTimeout: dialTimeout, ReadTimeout: checkTimeout, WriteTimeout: checkTimeout}, sqldb.Session{Charset: charset, MaxOpen: 2})
		if err != nil {
			return nil, fmt.Errorf("mysql %s: %w", addr, err)
		}
		pools = append(pools, db)
		return db, nil
	}
	t = Target{Databases: c.Databases, DC: c.DC, DCs: c.DCs, Topic: c.Topic}
	if t.DB, err = open(c.MySQL.Addr, c.MySQL.User, c.MySQL.Password, ""); err != nil {
		return t, closeAll, err
	}
	if c.Capture.User != "" {
		if t.Capture, err = open(c.MySQL.Addr, c.Capture.User, c.Capture.Password, ""); err != nil {
			return t, closeAll, err
		}
	}
	if c.Apply.User != "" {
		if t.Apply, err = open(c.MySQL.Addr, c.Apply.User, c.Apply.Password, "binary"); err != nil {
			return t, closeAll, err
		}
	}
	for _, addr := range c.Peer {
		db, err := open(addr, c.MySQL.User, c.MySQL.Password, "")
		if err != nil {
			return t, closeAll, err
		}
		t.Peers = append(t.Peers, Peer{Name: addr, DB: db})
	}
	if len(c.Brokers) > 0 {
		if c.Topic == "" {
			return t, closeAll, errors.New("--kafka.brokers needs --kafka.topic, such as binlog-beijing")
		}
		t.Kafka = kafkaconn.Config{Brokers: c.Brokers, DialTimeout: dialTimeout}
	}
	return t, closeAll, nil
}
