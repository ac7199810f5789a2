// Package sqldb answers how tandem talks to a MySQL or MariaDB server: how a
// pool is opened, how names become SQL, which server it is, and which errors
// pass by themselves.
package sqldb

import (
	"cmp"
	"database/sql"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/go-sql-driver/mysql"

	"github.com/tandem-dc/tandem/shared/config"
	"github.com/tandem-dc/tandem/shared/tlsconf"
)

// Config says where a server is and who we are there. In a Config that was not
// loaded, DialTimeout 0 means 5 s; the other timeouts 0 mean no bound, which
// long statements want: a server that alters a table for minutes is silent.
type Config struct {
	Addr         string         `key:"addr" default:"127.0.0.1:3306" help:"host:port of the server, or the path of its unix socket"`
	User         string         `key:"user" help:"account"`
	Password     string         `key:"password" secret:"true" help:"password of the account"`
	TLS          tlsconf.Config `key:"tls"`
	DialTimeout  time.Duration  `key:"dial-timeout" default:"5s" help:"longest wait for a connection to open"`
	ReadTimeout  time.Duration  `key:"read-timeout" default:"90s" help:"longest silence of the server while it owes an answer; keep it above innodb_lock_wait_timeout"`
	WriteTimeout time.Duration  `key:"write-timeout" default:"30s" help:"longest wait for the server to take what we send"`
}

// Validate reports settings that cannot work, each as a *config.Error. It does no I/O.
func (c Config) Validate() error {
	var errs []error
	if c.Addr == "" {
		errs = append(errs, &config.Error{Key: "addr", Problem: "is empty", Remedy: "set host:port or the path of a unix socket"})
	}
	if c.User == "" {
		errs = append(errs, &config.Error{Key: "user", Problem: "is empty", Remedy: "set the account that tandem connects with"})
	}
	if c.DialTimeout < 0 || c.ReadTimeout < 0 || c.WriteTimeout < 0 {
		errs = append(errs, &config.Error{Key: "dial-timeout", Problem: "is negative, or read-timeout or write-timeout is", Remedy: "set durations such as 5s"})
	}
	if c.unix() && c.TLS.Enabled {
		errs = append(errs, &config.Error{Key: "tls.enabled", Problem: "is true, but a unix socket carries no TLS", Remedy: "set it to false, or addr to host:port"})
	}
	return errors.Join(append(errs, config.Within("tls", c.TLS.Validate()))...)
}

func (c Config) unix() bool { return strings.HasPrefix(c.Addr, "/") }

// Session says how every connection of a pool is set up. Whatever it says, a
// connection reports matched rows (clientFoundRows), has time_zone '+00:00',
// gives temporal values as text, and sends parameters apart from statements.
type Session struct {
	Database string // default database; empty: none
	// Charset is the character set of statements, parameters and results:
	// "utf8mb4" by default. With "binary" parameters and results are the raw
	// bytes of the column, whatever its character set, and the server converts
	// nothing; names in statements are UTF-8 all the same. MySQL then refuses a
	// bare parameter for a JSON column (error 3144): write CONVERT(? USING utf8mb4).
	Charset string
	MaxOpen int // connections at most, open or idle; 0: 8
	// Vars are session variables (sql_mode, foreign_key_checks) and user variables ("@name"), set when
	// a connection opens. A value goes as a number if it reads as one, as the
	// keyword if it is DEFAULT or NULL, else as a string literal.
	Vars map[string]string
	// MultiStatements lets one Exec hold several statements. Only for SQL that is
	// fixed in the code.
	MultiStatements bool
}

const (
	defaultMaxOpen     = 8
	defaultDialTimeout = 5 * time.Second
	// An idle connection is dropped before a firewall forgets it, and any after a
	// while, so that a pool finds the new primary behind an address that moved.
	maxIdle = 5 * time.Minute
	maxLife = 15 * time.Minute
)

// Open returns a pool. It does no I/O: the first use dials. Every connection
// is set up by s before it is used.
func Open(c Config, s Session) (*sql.DB, error) {
	d, err := driverConfig(c, s)
	if err != nil {
		return nil, err
	}
	connector, err := mysql.NewConnector(d)
	if err != nil {
		return nil, fmt.Errorf("mysql %s: %w", c.Addr, err)
	}
	db := sql.OpenDB(connector)
	maxOpen := s.MaxOpen
	if maxOpen <= 0 {
		maxOpen = defaultMaxOpen
	}
	db.SetMaxOpenConns(maxOpen)
	db.SetMaxIdleConns(maxOpen)
	db.SetConnMaxIdleTime(maxIdle)
	db.SetConnMaxLifetime(maxLife)
	return db, nil
}

func driverConfig(c Config, s Session) (*mysql.Config, error) {
	if err := c.Validate(); err != nil {
		return nil, fmt.Errorf("mysql: %w", err)
	}
	tls, err := c.TLS.Load()
	if err != nil {
		return nil, fmt.Errorf("mysql: %w", err)
	}
	params, err := sessionVars(s.Vars)
	if err != nil {
		return nil, fmt.Errorf("mysql: %w", err)
	}
	charset := s.Charset
	switch charset {
	case "":
		charset = "utf8mb4"
	case "utf8mb4", "binary":
	default:
		return nil, fmt.Errorf("mysql: session charset %q is neither utf8mb4 nor binary", charset)
	}
	d := mysql.NewConfig()
	d.User, d.Passwd, d.DBName = c.User, c.Password, s.Database
	d.Net, d.Addr = "tcp", c.Addr
	if c.unix() {
		d.Net = "unix"
	}
	d.TLS = tls
	d.Timeout, d.ReadTimeout, d.WriteTimeout = cmp.Or(c.DialTimeout, defaultDialTimeout), c.ReadTimeout, c.WriteTimeout
	d.Params = params
	d.ClientFoundRows = true
	d.MultiStatements = s.MultiStatements
	d.MaxAllowedPacket = 0 // ask the server, which knows
	d.ConnectionAttributes = "program_name:tandem"
	d.Logger = &mysql.NopLogger{} // what matters comes back as an error
	return d, d.Apply(mysql.Charset(charset, ""))
}

var (
	varName  = regexp.MustCompile(`^(@?[A-Za-z_][A-Za-z0-9_]*)$`)
	varPlain = regexp.MustCompile(`^(?i:-?[0-9]+|default|null)$`)
)

// sessionVars turns Vars into the right-hand sides of the one SET statement
// that the driver sends after the handshake.
func sessionVars(vars map[string]string) (map[string]string, error) {
	params := make(map[string]string, len(vars)+1)
	for name, v := range vars {
		if !varName.MatchString(name) {
			return nil, fmt.Errorf("session variable %q is no plain name", name)
		}
		if strings.EqualFold(name, "time_zone") {
			return nil, errors.New("session variable time_zone is always '+00:00'")
		}
		if strings.ContainsAny(v, "\\\x00") {
			return nil, fmt.Errorf("session variable %s: its value must not hold a backslash or NUL", name)
		}
		if !varPlain.MatchString(v) {
			v = QuoteString(v)
		}
		params[name] = v
	}
	params["time_zone"] = "'+00:00'"
	return params, nil
}
