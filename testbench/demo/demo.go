// Package demo is make demo: two datacenters on this machine, a shop that sells
// in both at once, what happens between them, and a verdict.
package demo

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/tandem-dc/tandem/shared/sqldb"
	"github.com/tandem-dc/tandem/testbench/cluster"
	"github.com/tandem-dc/tandem/testbench/lag"
	"github.com/tandem-dc/tandem/testbench/link"
	"github.com/tandem-dc/tandem/testbench/servers"
	"github.com/tandem-dc/tandem/testbench/shop"
)

// Command holds the flags of the demo.
type Command struct {
	Duration  time.Duration `default:"20s" help:"How long the shop sells."`
	Warmup    time.Duration `default:"2s" help:"Lags of the first part of it that are not counted."`
	Rate      float64       `default:"100" help:"Transactions per second in each datacenter."`
	Latency   time.Duration `default:"100ms" help:"One-way delay between the datacenters."`
	Jitter    time.Duration `default:"50ms" help:"The delay varies by as much, up and down."`
	DB        string        `name:"db" enum:"mariadb,mysql" default:"mariadb" help:"mariadb or mysql."`
	Broker    string        `enum:"embedded,apache" default:"embedded" help:"Kafka: embedded or apache."`
	Conflicts float64       `default:"0.02" help:"Share of transactions that write a row which the other datacenter writes at the same time."`
	Keep      bool          `help:"After the verdict leave everything running until ctrl-C, and keep the logs."`
	Plain     bool          `help:"Plain lines, even on a terminal."`
	Verbose   bool          `short:"v" help:"Show the log of the bench itself."`

	Bin      string `hidden:"" help:"Directory of the programs; default: where this one is."`
	Triggers string `hidden:"" help:"Directory of the manifests; default: beside Bin."`

	Out io.Writer `kong:"-"` // default: standard output
}

// ErrUnequal means that the verdict is bad: the sides differ, or something was not applied.
var ErrUnequal = errors.New("the datacenters are not equal")

const (
	drainLimit   = 60 * time.Second
	verifyLimit  = 60 * time.Second
	maxMessage   = 8 << 20 // as triggers/README.md has it
	probeRate    = 50
	loadWorkers  = 32
	startupLimit = 3 * time.Minute
)

// Validate reports flags that cannot work.
func (c *Command) Validate() error {
	switch {
	case c.Duration < time.Second:
		return errors.New("--duration must be a second or more")
	case c.Warmup < 0 || c.Warmup >= c.Duration:
		return errors.New("--warmup must be shorter than --duration")
	case c.Rate <= 0:
		return errors.New("--rate must be positive")
	case c.Conflicts < 0 || c.Conflicts > 1:
		return errors.New("--conflicts is a share, 0 to 1")
	}
	if err := (link.Options{Latency: c.Latency, Jitter: c.Jitter}).Validate(); err != nil {
		return fmt.Errorf("--latency and --jitter: %w", err)
	}
	return nil
}

// Run plays the demo. Ctrl-C ends it in order, a second one at once.
func (c *Command) Run() error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	go func() {
		<-ctx.Done()
		stop() // the next signal has its usual effect
	}()
	return errors.Join(c.Execute(ctx), servers.RemoveScratch())
}

// Execute is Run under a context of the caller's.
func (c *Command) Execute(ctx context.Context) error {
	out := c.Out
	if out == nil {
		out = os.Stdout
	}
	d := &demo{Command: c, screen: newScreen(out, c.Plain), began: time.Now()}
	if err := d.play(ctx); err != nil {
		if ctx.Err() != nil {
			return errors.New("interrupted; everything is torn down")
		}
		return err
	}
	return nil
}

type demo struct {
	*Command
	*screen
	began time.Time

	cluster *cluster.Cluster
	sides   [2]*side
}

// side is what the demo does in one datacenter.
type side struct {
	*cluster.Side
	app  *sql.DB // as the shop's application
	load *shop.Load
	lag  *lag.Probe // of rows written here and seen at the peer
}

func (d *demo) progress(text string) { d.line("%5.1fs  %s", time.Since(d.began).Seconds(), text) }

func (d *demo) play(ctx context.Context) (err error) {
	bin, triggers, err := d.directories()
	if err != nil {
		return err
	}
	log := slog.New(slog.DiscardHandler)
	if d.Verbose {
		log = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelInfo}))
	}
	starting, cancel := context.WithTimeout(ctx, startupLimit)
	defer cancel()
	d.cluster, err = cluster.Start(starting, cluster.Options{
		Flavor: sqldb.Flavor(d.DB), Broker: servers.KafkaKind(d.Broker), Link: link.Options{Latency: d.Latency, Jitter: d.Jitter},
		Bin: bin, Triggers: triggers, Databases: []string{shop.Database}, Prepare: d.prepare,
		SQLFlags: []string{fmt.Sprintf("--max-allowed-packet=%d", maxMessage)}, MaxMessageBytes: maxMessage,
		Log: log, Progress: d.progress,
	})
	if err != nil {
		return err
	}
	keepLogs := true
	defer func() {
		d.progress("end everything")
		err = errors.Join(err, d.cluster.Close(keepLogs))
		if keepLogs {
			d.line("        logs are in %s", d.cluster.Dir())
		}
	}()
	if err := d.open(log); err != nil {
		return err
	}
	defer d.closePools()
	if err := d.sell(ctx); err != nil {
		keepLogs = ctx.Err() == nil
		return err
	}
	verdict, err := d.judge(ctx)
	if err != nil {
		keepLogs = ctx.Err() == nil
		return err
	}
	d.write(verdict.text())
	keepLogs = d.Keep || !verdict.good()
	if d.Keep {
		d.addresses()
		<-ctx.Done()
	}
	if !verdict.good() {
		return ErrUnequal
	}
	return nil
}

func (d *demo) directories() (bin, triggers string, err error) {
	if bin = d.Bin; bin == "" {
		self, err := os.Executable()
		if err != nil {
			return "", "", err
		}
		bin = filepath.Dir(self)
	}
	if triggers = d.Triggers; triggers == "" {
		triggers = filepath.Join(filepath.Dir(bin), "triggers")
	}
	return bin, triggers, nil
}

// open makes the pools, loads and probes.
func (d *demo) open(log *slog.Logger) error {
	for i, s := range d.cluster.Sides {
		app, err := sqldb.Open(s.SQL.Config(servers.App), sqldb.Session{Database: shop.Database, MaxOpen: loadWorkers + 8})
		if err != nil {
			return err
		}
		d.sides[i] = &side{Side: s, app: app}
	}
	start := time.Now().Add(200 * time.Millisecond)
	for i, s := range d.sides {
		ids, err := shop.NewIDs(s.Number, 0)
		if err != nil {
			return err
		}
		s.load, err = shop.New(shop.Config{DC: s.Number, Seed: 1, Rate: d.Rate, Workers: loadWorkers, Conflicts: d.Conflicts, Start: start}, s.app, log)
		if err != nil {
			return err
		}
		s.lag, err = lag.New(lag.Config{Writer: s.app, Reader: d.sides[1-i].app, NewID: ids.Next, Rate: probeRate, Warmup: d.Warmup, Settle: drainLimit})
		if err != nil {
			return err
		}
	}
	return nil
}

func (d *demo) closePools() {
	for _, s := range d.sides {
		if s != nil {
			_ = s.app.Close() // the server ends next
		}
	}
}

// sell drives the load for as long as asked, shows what happens, and returns
// once nobody writes any more.
func (d *demo) sell(ctx context.Context) error {
	d.progress(fmt.Sprintf("sell for %v, %g tx/s in each datacenter, %v ± %v apart", d.Duration, d.Rate, d.Latency, d.Jitter))
	selling, cancel := context.WithTimeout(ctx, d.Duration)
	defer cancel()
	var wg sync.WaitGroup
	lags := make([]error, len(d.sides))
	for i, s := range d.sides {
		wg.Go(func() { _ = s.load.Run(selling) }) // counts its failures, never returns one
		wg.Go(func() { lags[i] = s.lag.Run(selling) })
	}
	d.watch(selling)
	if ctx.Err() == nil {
		d.progress("stop writing, let both sides drain")
	}
	wg.Wait()
	return errors.Join(append(lags, ctx.Err())...)
}

// prepare makes the shop in both datacenters and has doctor look at them.
func (d *demo) prepare(ctx context.Context, c *cluster.Cluster) error {
	group, making := errgroup.WithContext(ctx)
	for _, s := range c.Sides {
		group.Go(func() error {
			db := s.SQL.Admin(shop.Database)
			if err := shop.Create(making, db); err != nil {
				return fmt.Errorf("%s: %w", s.Name, err)
			}
			if err := shop.Seed(making, db, shop.Catalog{}); err != nil {
				return fmt.Errorf("%s: %w", s.Name, err)
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	return d.examine(ctx, c)
}
