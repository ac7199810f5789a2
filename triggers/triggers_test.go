package triggers_test

import (
	"bytes"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/tandem-dc/tandem/capture"
	"github.com/tandem-dc/tandem/functions/apply"
	"github.com/tandem-dc/tandem/shared/config"
	"github.com/tandem-dc/tandem/shared/event"
	"github.com/tandem-dc/tandem/shared/fnhost"
	"github.com/tandem-dc/tandem/shared/serve"
	"github.com/tandem-dc/tandem/testbench/knative"
)

// overlays are the datacenters, each with its peer.
var overlays = map[string]string{"beijing": "guangzhou", "guangzhou": "beijing"}

// each runs a test for every overlay, rendered without overrides.
func each(t *testing.T, test func(t *testing.T, dc, peer string, m *knative.Manifests)) {
	for dc, peer := range overlays {
		t.Run(dc, func(t *testing.T) {
			m, err := knative.Build(".", "overlays/"+dc, knative.Overrides{})
			if err != nil {
				t.Fatal(err)
			}
			test(t, dc, peer, m)
		})
	}
}

func workloads(m *knative.Manifests) []knative.Workload {
	return slices.Concat(m.Services, m.Deployments)
}

func TestEveryOverlayIsKnown(t *testing.T) {
	dirs, err := os.ReadDir("overlays")
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range dirs {
		if _, ok := overlays[d.Name()]; !ok {
			t.Errorf("overlays/%s is not tested", d.Name())
		}
	}
}

// A name in a field that replacements forgot would send one datacenter's
// events to the other.
func TestNamesAndAddressesComeFromTheDatacenter(t *testing.T) {
	each(t, func(t *testing.T, dc, peer string, m *knative.Manifests) {
		if want := (map[string]int{"ConfigMap": 1, "Deployment": 1, "KafkaSink": 1, "KafkaSource": 1, "Service": 1}); !reflect.DeepEqual(m.Kinds, want) {
			t.Errorf("objects %v, want %v", m.Kinds, want)
		}
		values := m.ConfigMaps["datacenter"]
		if values["name"] != dc || values["peer"] != peer || event.CheckName(dc) != nil {
			t.Errorf("datacenter is %q with peer %q", values["name"], values["peer"])
		}
		source := m.Sources[0].Spec
		if !slices.Equal(source.Topics, []string{event.Topic(peer)}) || !slices.Equal(source.BootstrapServers, []string{values["kafka"]}) {
			t.Errorf("KafkaSource reads %v at %v", source.Topics, source.BootstrapServers)
		}
		sink := m.Sinks[0].Spec
		if sink.Topic != event.DeadLetterTopic(dc) || !slices.Equal(sink.BootstrapServers, []string{values["kafka"]}) {
			t.Errorf("KafkaSink writes %s at %v", sink.Topic, sink.BootstrapServers)
		}
	})
}

func TestOverridesReachEveryField(t *testing.T) {
	m, err := knative.Build(".", "overlays/beijing", knative.Overrides{
		ConfigMaps: map[string]map[string]string{"datacenter": {"name": "aa", "peer": "b-b", "kafka": "127.0.0.1:1"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	source, sink := m.Sources[0].Spec, m.Sinks[0].Spec
	if source.Topics[0] != "binlog-b-b" || source.BootstrapServers[0] != "127.0.0.1:1" || sink.Topic != "deadletter-aa" || sink.BootstrapServers[0] != "127.0.0.1:1" {
		t.Errorf("source %v, sink %v", source, sink)
	}
}

func TestBaseNamesNoDatacenter(t *testing.T) {
	for _, dir := range []string{"base", "wiring", "platform"} {
		err := filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			b, err := os.ReadFile(name)
			for dc := range overlays {
				if bytes.Contains(bytes.ToLower(b), []byte(dc)) {
					t.Errorf("%s names %s", name, dc)
				}
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

func TestImagesAreMainPackages(t *testing.T) {
	each(t, func(t *testing.T, _, _ string, m *knative.Manifests) {
		for _, w := range workloads(m) {
			out, err := exec.CommandContext(t.Context(), "go", "list", "-f", "{{.Name}} {{.Module.Main}}", w.ImportPath()).CombinedOutput()
			if err != nil || string(bytes.TrimSpace(out)) != "main true" {
				t.Errorf("%s runs %s: %s %v, want a main package of this module", w.Name, w.ImportPath(), out, err)
			}
		}
	})
}

// settings are the configuration structs of each workload, by the prefix of their keys.
var settings = map[string]map[string]any{
	"capture": {"": &capture.Config{}},
	"apply":   {"": &apply.Config{}, "HTTP_": &fnhost.Config{}, "LOG_": &serve.LogConfig{}},
}

func TestEnvironmentNamesSettings(t *testing.T) {
	each(t, func(t *testing.T, _, _ string, m *knative.Manifests) {
		for _, w := range workloads(m) {
			known := map[string]config.Field{}
			for prefix, s := range settings[w.Name] {
				fields := config.Reference(s)
				if len(fields) == 0 {
					t.Fatalf("%s: no settings in %T", w.Name, s)
				}
				for _, f := range fields {
					known["TANDEM_"+prefix+strings.TrimPrefix(f.Env, "TANDEM_")] = f
				}
			}
			for _, e := range w.Pod.Containers[0].Env {
				f, ok := known[e.Name]
				if !ok && strings.HasPrefix(e.Name, "TANDEM_") {
					t.Errorf("%s: %s is no setting", w.Name, e.Name)
				}
				if secret := e.ValueFrom != nil && e.ValueFrom.SecretKeyRef != nil; secret != f.Secret {
					t.Errorf("%s: %s is a secret: %v; it is taken from a Secret: %v", w.Name, e.Name, f.Secret, secret)
				}
				if e.ValueFrom != nil && e.ValueFrom.ConfigMapKeyRef != nil {
					ref := e.ValueFrom.ConfigMapKeyRef
					if _, ok := m.ConfigMaps[ref.Name][ref.Key]; !ok {
						t.Errorf("%s: %s refers to %s of ConfigMap %s, which is not there", w.Name, e.Name, ref.Key, ref.Name)
					}
				}
			}
		}
	})
}

// The environment of the manifests, secrets filled in, is a configuration that loads.
func TestCaptureTakesTheTargets(t *testing.T) {
	each(t, func(t *testing.T, dc, peer string, m *knative.Manifests) {
		values := m.ConfigMaps["datacenter"]
		var c capture.Config
		err := config.Load(&c, config.Options{Program: "capture", Environ: []string{
			"TANDEM_DC=" + values["name"], "TANDEM_MYSQL_ADDR=" + values["mysql"], "TANDEM_MYSQL_USER=capture", "TANDEM_MYSQL_PASSWORD=x",
			"TANDEM_ETCD_ENDPOINTS=" + values["etcd"], "TANDEM_TARGETS=" + values["targets"], "TANDEM_LISTEN=:8080",
		}})
		if err != nil {
			t.Fatal(err)
		}
		if len(c.Targets) != 2 || c.Targets[0].DC != dc || c.Targets[1].DC != peer || !slices.Equal(c.Targets[0].Kafka.Brokers, []string{values["kafka"]}) {
			t.Errorf("targets %+v: want this datacenter's own broker, then the peer's", c.Targets)
		}
		if n := *m.Sources[0].Spec.Consumers; n > c.Targets[0].Partitions {
			t.Errorf("%d consumers for %d partitions", n, c.Targets[0].Partitions)
		}
	})
}

func TestDeliveryLeavesNothingToDefaults(t *testing.T) {
	each(t, func(t *testing.T, _, _ string, m *knative.Manifests) {
		s := m.Sources[0].Spec
		d := s.Delivery
		if d == nil || d.Retry == nil || d.BackoffPolicy == "" || d.BackoffDelay == "" || d.Timeout == "" || d.DeadLetterSink == nil {
			t.Fatalf("delivery %+v: a field that is left out is zero, not the default", d)
		}
		if s.Ordering != "unordered" || s.InitialOffset != "earliest" || s.ConsumerGroup == "" || s.Consumers == nil {
			t.Errorf("%+v", s)
		}
		if d.BackoffPolicy != "linear" || d.BackoffDelay != "PT0.05S" {
			t.Fatalf("the arithmetic below is for linear waits of 50 ms, not %s %s", d.BackoffPolicy, d.BackoffDelay)
		}
		n := time.Duration(*d.Retry)
		if total := 50 * time.Millisecond * n * (n + 1) / 2; total < 24*time.Hour || total > 25*time.Hour {
			t.Errorf("%d retries last %v: the comment promises a day", n, total)
		}
		if d.DeadLetterSink.Ref == nil || d.DeadLetterSink.Ref.Name != m.Sinks[0].Metadata.Name || d.DeadLetterSink.Ref.Kind != "KafkaSink" {
			t.Errorf("dead letters go to %+v", d.DeadLetterSink.Ref)
		}
		if s.Sink.Ref == nil || s.Sink.Ref.Name != m.Services[0].Name {
			t.Errorf("events go to %+v", s.Sink.Ref)
		}
		if n := m.Services[0].Pod.TimeoutSeconds; n <= 30 {
			t.Errorf("the Service ends requests after %d s, before the dispatcher's timeout %s", n, d.Timeout)
		}
	})
}

func TestUnknownFieldsOfAKafkaSourceAreRefused(t *testing.T) {
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(".")); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "base", "apply.yaml")
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for from, to := range map[string]string{"    backoffDelay:": "    backOffDelay:", "  ordering:": "  order:", "PT0.05S": "50ms"} {
		bad := bytes.Replace(b, []byte(from), []byte(to), 1)
		if err := os.WriteFile(file, bad, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := knative.Build(dir, "overlays/beijing", knative.Overrides{}); err == nil || bytes.Equal(b, bad) {
			t.Errorf("%s: error %v", to, err)
		}
	}
}

func TestPodsAreConfined(t *testing.T) {
	each(t, func(t *testing.T, _, _ string, m *knative.Manifests) {
		for _, w := range workloads(m) {
			c := w.Pod.Containers[0]
			s := c.SecurityContext
			if s == nil || s.RunAsNonRoot == nil || !*s.RunAsNonRoot || s.ReadOnlyRootFilesystem == nil || !*s.ReadOnlyRootFilesystem ||
				s.AllowPrivilegeEscalation == nil || *s.AllowPrivilegeEscalation || s.SeccompProfile == nil || s.SeccompProfile.Type != "RuntimeDefault" ||
				s.Capabilities == nil || !slices.Equal(s.Capabilities.Drop, []string{"ALL"}) {
				t.Errorf("%s: security context %+v", w.Name, s)
			}
			if c.Resources.Requests["cpu"] == nil || c.Resources.Requests["memory"] == nil || c.Resources.Limits["memory"] == nil {
				t.Errorf("%s: resources %+v", w.Name, c.Resources)
			}
			for path, p := range map[string]*knative.Probe{"/health/readiness": c.ReadinessProbe, "/health/liveness": c.LivenessProbe} {
				if p == nil || p.HTTPGet == nil || p.HTTPGet.Path != path {
					t.Errorf("%s: probe %+v, want %s", w.Name, p, path)
				}
			}
		}
		if c := m.Services[0].Pod.ContainerConcurrency; c == nil || *c != 0 {
			t.Errorf("containerConcurrency is %v: a limit lets waiting events lock their predecessor out", c)
		}
		if n := m.Deployments[0].Replicas; n != 2 {
			t.Errorf("%d captures, want one and a standby", n)
		}
	})
}

func TestPlatformTunesTheDispatcher(t *testing.T) {
	m, err := knative.Build(".", "platform", knative.Overrides{})
	if err != nil {
		t.Fatal(err)
	}
	got, shipped := m.DataPlane, knative.ShippedDataPlane()
	if got.MaxPollRecords <= shipped.MaxPollRecords || got.MaxPartitionFetchBytes <= shipped.MaxPartitionFetchBytes {
		t.Errorf("%+v is not above what is shipped, %+v", got, shipped)
	}
	if most := 2*got.MaxPollRecords - 1; got.MaxPoolSize < most {
		t.Errorf("%d connections for up to %d requests in flight", got.MaxPoolSize, most)
	}
}

// A file that no kustomization lists is deployed by nobody.
func TestFilesAreListed(t *testing.T) {
	for _, dir := range []string{"base", "platform", "overlays/beijing", "overlays/guangzhou"} {
		b, err := os.ReadFile(filepath.Join(dir, "kustomization.yaml"))
		if err != nil {
			t.Fatal(err)
		}
		var k struct {
			Resources []string `yaml:"resources"`
		}
		if err := yaml.Unmarshal(b, &k); err != nil {
			t.Fatal(err)
		}
		files, err := filepath.Glob(filepath.Join(dir, "*.yaml"))
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range files {
			if name := filepath.Base(f); name != "kustomization.yaml" && !slices.Contains(k.Resources, name) {
				t.Errorf("%s is not among the resources of its kustomization", f)
			}
		}
	}
}
