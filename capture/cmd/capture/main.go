// Command capture sends what this datacenter's MySQL commits to Kafka, here and
// in every other datacenter.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/tandem-dc/tandem/capture"
	"github.com/tandem-dc/tandem/shared/config"
	"github.com/tandem-dc/tandem/shared/serve"
)

func main() {
	err := run()
	if err != nil && !errors.Is(err, config.ErrHelp) {
		fmt.Fprintln(os.Stderr, "capture:", err)
		os.Exit(1)
	}
}

func run() error {
	var cfg capture.Config
	if err := config.Load(&cfg, config.Main("capture",
		"Sends what this datacenter's MySQL or MariaDB commits to Kafka, here and in every other datacenter.",
		"capture --config capture.yaml",
		"TANDEM_MYSQL_PASSWORD_FILE=/run/secrets/mysql capture --dc beijing --mysql.addr 10.0.0.5:3306 --mysql.user capture \\\n"+
			"    --targets '[{dc: beijing, kafka: {brokers: [10.0.0.9:9092]}}, {dc: guangzhou, kafka: {brokers: [10.1.0.9:9092]}}]'",
	)); err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	log := serve.Logger(os.Stderr, cfg.Log.Level, cfg.Log.Format).With("dc", cfg.DC)
	s, err := capture.New(cfg, log)
	if err != nil {
		return err
	}
	return s.Run(ctx)
}
