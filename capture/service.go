package capture

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/tandem-dc/tandem/capture/pipeline"
	"github.com/tandem-dc/tandem/shared/coord"
	"github.com/tandem-dc/tandem/shared/serve"
	"github.com/tandem-dc/tandem/shared/sqldb"
)

// Service is one capture process.
type Service struct {
	log       *slog.Logger
	db        *sql.DB
	etcd      *clientv3.Client
	server    *serve.Server
	pipelines []*pipeline.Pipeline
}

// New wires the service and listens; with an etcd account it also logs in there. Run it once.
func New(cfg Config, log *slog.Logger) (_ *Service, err error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	s := &Service{log: log}
	defer func() {
		if err != nil {
			s.close()
		}
	}()
	// A pipeline asks few questions; the binlog has connections of its own.
	if s.db, err = sqldb.Open(cfg.Source.MySQL, sqldb.Session{MaxOpen: 1 + len(cfg.Targets)}); err != nil {
		return nil, err
	}
	if s.etcd, err = coord.Open(cfg.Etcd, log); err != nil {
		return nil, err
	}
	reg := prometheus.NewRegistry()
	metrics, err := pipeline.NewMetrics(reg)
	if err != nil {
		return nil, err
	}
	s.server = serve.New(cfg.Serve, log, reg)
	for i := range cfg.Targets {
		p, err := s.newPipeline(cfg, i, metrics)
		if err != nil {
			return nil, err
		}
		s.pipelines = append(s.pipelines, p)
		s.server.AddReady("stream-"+cfg.Targets[i].DC, p.Ready)
	}
	s.server.AddReady("etcd", s.etcdAnswers)
	s.server.Status("streams", s.status)
	if err := s.server.Listen(); err != nil {
		return nil, err
	}
	return s, nil
}

func (s *Service) newPipeline(cfg Config, i int, metrics *pipeline.Metrics) (*pipeline.Pipeline, error) {
	t := cfg.Targets[i]
	source := cfg.Source
	if source.ServerID != 0 {
		source.ServerID += uint32(i) // each pipeline is a replica of its own
	}
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	log := s.log.With("target", t.DC)
	return pipeline.New(pipeline.Config{
		DC: cfg.DC, Target: t.DC, Holder: fmt.Sprintf("%s:%d", host, os.Getpid()),
		Kafka: t.Kafka, Topic: t.Topic, Partitions: t.Partitions, Replicas: t.Replicas, Publish: t.Publish,
		Rules: cfg.Source.Rules(), Start: cfg.Start, Heartbeat: cfg.Source.Heartbeat, LeaseTTL: cfg.LeaseTTL, SaveEvery: cfg.SaveEvery,
		Drain: cfg.Drain, Pause: cfg.Pause, HistoryKeys: cfg.HistoryKeys,
	}, pipeline.Deps{Etcd: s.etcd, Database: pipeline.NewMySQL(source, s.db, log), Metrics: metrics, Log: s.log})
}

// Addr is where the endpoints are.
func (s *Service) Addr() string { return s.server.Addr() }

// Run carries all streams until ctx ends, then stops them in order: reading,
// sending, checkpoint, lease, and the endpoints last.
func (s *Service) Run(ctx context.Context) error {
	defer s.close()
	s.log.Info("capture runs", "listen", s.Addr(), "targets", len(s.pipelines))
	streams, stop := context.WithCancel(ctx)
	defer stop()
	serving, endServing := context.WithCancel(context.WithoutCancel(ctx))
	served := make(chan error, 1)
	go func() {
		err := s.server.Run(serving)
		stop() // without endpoints nobody would know
		served <- err
	}()
	defer context.AfterFunc(streams, s.server.Drain)()

	var running sync.WaitGroup
	for _, p := range s.pipelines {
		running.Go(func() {
			if err := p.Run(streams); err != nil {
				s.log.Error("a stream ended", "stream", p.Name(), "error", err)
			}
		})
	}
	running.Wait()
	endServing()
	err := <-served
	s.server.WaitChecks()
	s.log.Info("capture has stopped")
	return err
}

func (s *Service) close() {
	var errs []error
	if s.db != nil {
		errs = append(errs, s.db.Close())
	}
	if s.etcd != nil {
		errs = append(errs, s.etcd.Close())
	}
	if err := errors.Join(errs...); err != nil {
		s.log.Debug("closing", "error", err)
	}
}

func (s *Service) status() any {
	out := make([]pipeline.Status, len(s.pipelines))
	for i, p := range s.pipelines {
		out[i] = p.Status()
	}
	return out
}

// etcdTimeout is below the time that a check has, so that the answer says more than that there was none.
const etcdTimeout = serve.CheckTimeout * 3 / 4

func (s *Service) etcdAnswers(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, etcdTimeout)
	defer cancel()
	if _, err := s.etcd.Get(ctx, "/tandem/", clientv3.WithCountOnly()); err != nil {
		return fmt.Errorf("etcd at %v does not answer: without it no stream can lead: %w", s.etcd.Endpoints(), err)
	}
	return nil
}
