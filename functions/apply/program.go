package apply

import (
	"context"
	"errors"
	"io"
	"os"
	"time"

	"github.com/tandem-dc/tandem/shared/config"
	"github.com/tandem-dc/tandem/shared/fnhost"
	"github.com/tandem-dc/tandem/shared/serve"
)

// Program is what the command apply loads: the function's settings and those of
// its host.
type Program struct {
	Config
	HTTP  fnhost.Config   `key:"http"`
	Log   serve.LogConfig `key:"log"`
	Pprof bool            `key:"pprof" help:"serve profiles at /debug/pprof/: only where no stranger can reach the port"`
}

// Validate checks all groups.
func (p Program) Validate() error {
	return errors.Join(p.Config.Validate(), config.Within("http", p.HTTP.Validate()), config.Within("log", p.Log.Validate()))
}

// RunProgram is the command apply: it loads the settings from args, environ and
// the file they name, and applies what comes by HTTP until ctx ends. Help goes to out.
func RunProgram(ctx context.Context, args, environ []string, out io.Writer) error {
	var c Program
	err := config.Load(&c, config.Options{
		Program: "apply", Summary: "Applies the transactions of peer datacenters, sent as CloudEvents by HTTP, to this datacenter's MySQL.",
		Examples: []string{"TANDEM_DC=guangzhou TANDEM_MYSQL_USER=apply TANDEM_MYSQL_PASSWORD_FILE=/run/secrets/mysql apply"},
		Args:     args, Environ: environ, Out: out,
	})
	if errors.Is(err, config.ErrHelp) {
		return nil
	}
	if err != nil {
		return err
	}
	log := serve.Logger(os.Stderr, c.Log.Level, c.Log.Format)
	s := serve.New(serve.Config{Pprof: c.Pprof}, log, nil)
	deps := Deps{Log: log, Registry: s.Registry()}
	if c.Dead.Enabled {
		letters, err := NewKafkaLetters(c.Config)
		if err != nil {
			return err
		}
		defer letters.Close()
		deps.Letters = letters
	}
	f, err := New(c.Config, deps)
	if err != nil {
		return err
	}
	defer f.Close()
	s.AddReady("mysql", f.Ready)
	s.Status("apply", func() any { return f.Status() })
	return serveUntil(ctx, func(ctx context.Context) error { return fnhost.Run(ctx, c.HTTP, s, f, log) }, f.Run)
}

// serveUntil stops the workers only after the host has answered what it holds,
// and the host when the workers give up.
func serveUntil(ctx context.Context, host, work func(context.Context) error) error {
	hostCtx, stopHost := context.WithCancel(ctx)
	defer stopHost()
	workCtx, stopWork := context.WithCancel(context.WithoutCancel(ctx))
	defer stopWork()
	worked := make(chan error, 1)
	go func() {
		worked <- work(workCtx)
		stopHost()
	}()
	err := host(hostCtx)
	stopWork()
	select {
	case werr := <-worked:
		return errors.Join(err, werr)
	case <-time.After(stopLimit):
		return errors.Join(err, errors.New("the workers did not stop in time; what they were doing is rolled back by the server and comes again"))
	}
}

const stopLimit = 15 * time.Second
