package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"path/filepath"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/tandem-dc/tandem/shared/kafkaconn"
	"github.com/tandem-dc/tandem/testbench/knative"
	"github.com/tandem-dc/tandem/testbench/servers"
)

// target is an entry of capture's setting "targets".
type target struct {
	DC    string `yaml:"dc"`
	Kafka struct {
		Brokers    []string          `yaml:"brokers"`
		AddressMap map[string]string `yaml:"address-map,omitempty"`
	} `yaml:"kafka"`
	Partitions int `yaml:"partitions"`
}

func (o *Options) target(dc string, c kafkaconn.Config) (t target) {
	t.DC, t.Kafka.Brokers, t.Kafka.AddressMap, t.Partitions = dc, c.Brokers, c.AddressMap, o.Partitions
	return t
}

// startRuntime runs the overlay of a side under the settings of platform/. What differs from the deployed
// overlay is the ConfigMap "datacenter", as it does between any two clusters,
// the accounts' names, and where logs go.
func (c *Cluster) startRuntime(ctx context.Context, s *Side) error {
	targets, err := yaml.Marshal([]target{c.o.target(s.Name, s.Kafka.Config()), c.o.target(s.Peer.Name, s.Route.Kafka())})
	if err != nil {
		return err
	}
	sql := s.SQL.Config(servers.Capture)
	manifests, err := knative.Build(c.o.Triggers, "overlays/"+s.Name, knative.Overrides{
		ConfigMaps: map[string]map[string]string{"datacenter": {
			"name": s.Name, "peer": s.Peer.Name, "mysql": sql.Addr, "etcd": s.Etcd.Endpoint(), "kafka": s.Kafka.Bootstrap(), "targets": string(targets),
		}},
		Secrets: map[string]map[string]string{"tandem-mysql": {
			"capture-password": sql.Password, "apply-password": s.SQL.Config(servers.Apply).Password,
		}},
	})
	if err != nil {
		return fmt.Errorf("%s: %w", s.Name, err)
	}
	platform, err := knative.Build(c.o.Triggers, "platform", knative.Overrides{})
	if err != nil {
		return err
	}
	env := map[string]map[string]string{
		"capture": {"TANDEM_MYSQL_USER": servers.Capture},
		// The dispatcher has stopped before apply is told to: no sender to wait for.
		"apply": {"TANDEM_MYSQL_USER": servers.Apply, "TANDEM_HTTP_DRAIN": "1ms"},
	}
	for workload, more := range c.o.Env {
		if env[workload] == nil {
			env[workload] = map[string]string{}
		}
		maps.Copy(env[workload], more)
	}
	s.Runtime, err = knative.New(manifests, knative.Options{
		Dir: filepath.Join(s.Dir, "run"), Log: c.o.Log.With("dc", s.Name), Binary: knative.BinDir(c.o.Bin),
		Instances: c.o.Instances, Env: env, Kafka: s.Kafka.Config(), DataPlane: platform.DataPlane,
		ReadyTimeout: readyLimit, Grace: stopLimit / 2,
	})
	if err != nil {
		return fmt.Errorf("%s: %w", s.Name, err)
	}
	if err := s.Runtime.Start(ctx); err != nil {
		return fmt.Errorf("%s: %w", s.Name, err)
	}
	return nil
}

// statusLimit bounds one look at a process's status.
const statusLimit = 2 * time.Second

var statusClient = &http.Client{Timeout: statusLimit, Transport: &http.Transport{DisableKeepAlives: true}}

// status reads /statusz of an instance.
func status(ctx context.Context, i *knative.Instance, into any) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, i.URL()+"statusz", nil)
	if err != nil {
		return err
	}
	res, err := statusClient.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	b, err := io.ReadAll(io.LimitReader(res.Body, 1<<20))
	if err != nil {
		return err
	}
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: statusz answers %d: %.200s", i.Name, res.StatusCode, b)
	}
	if err := json.Unmarshal(b, into); err != nil {
		return fmt.Errorf("%s: statusz: %w", i.Name, err)
	}
	return nil
}

// ErrNoStream means that no capture of the side carries the stream now.
var ErrNoStream = errors.New("no capture carries it")

// Stream is where a stream stands at its source.
type Stream struct {
	Target   string `json:"target"`
	State    string `json:"state"`
	Reason   string `json:"reason"`
	Epoch    uint64 `json:"epoch"`
	Sequence uint64 `json:"sequence"` // newest number given out
	Acked    uint64 `json:"acked"`    // everything up to here is in the target's log
}

// Stream asks the side's captures for the stream to a datacenter. The error
// is ErrNoStream when none of them carries it.
func (s *Side) Stream(ctx context.Context, to string) (Stream, error) {
	err := fmt.Errorf("stream from %s to %s: %w", s.Name, to, ErrNoStream)
	for _, i := range s.Runtime.Instances("capture") {
		streams, e := captureStatus(ctx, i)
		if e != nil {
			err = errors.Join(err, e)
			continue
		}
		for _, x := range streams {
			switch {
			case x.Target != to:
			case x.State == "running":
				return x, nil
			case x.Reason != "":
				err = errors.Join(err, fmt.Errorf("%s: %s: %s", i.Name, x.State, x.Reason))
			}
		}
	}
	return Stream{}, err
}

// captureStatus lists the streams in a capture's status, whatever they are filed under.
func captureStatus(ctx context.Context, i *knative.Instance) ([]Stream, error) {
	var page map[string]json.RawMessage
	if err := status(ctx, i, &page); err != nil {
		return nil, err
	}
	var streams []Stream
	for _, raw := range page {
		var one Stream
		var many []Stream
		if json.Unmarshal(raw, &many) != nil && json.Unmarshal(raw, &one) == nil {
			many = []Stream{one}
		}
		for _, s := range many {
			if s.Target != "" {
				streams = append(streams, s)
			}
		}
	}
	return streams, nil
}
