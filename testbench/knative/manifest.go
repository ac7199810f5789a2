package knative

import (
	"fmt"
	"strings"
	"time"
)

// Manifests are the objects of one overlay, as far as they can run here.
type Manifests struct {
	Services    []Workload // serving.knative.dev/v1
	Deployments []Workload // apps/v1
	Sources     []KafkaSource
	Sinks       []KafkaSink
	ConfigMaps  map[string]map[string]string // by name
	Secrets     map[string]map[string]string // by name, decoded
	DataPlane   DataPlane                    // of the platform patch, if the overlay has it; else as shipped
	Kinds       map[string]int               // how many objects there are of each kind, ignored ones included
}

// ObjectMeta is what is read of an object's metadata.
type ObjectMeta struct {
	Name        string            `json:"name"`
	Namespace   string            `json:"namespace,omitempty"`
	Labels      map[string]string `json:"labels,omitempty"`
	Annotations map[string]string `json:"annotations,omitempty"`
}

// KafkaSource is sources.knative.dev/v1. Fields that are not here are unknown
// to the custom resource as well, and Build refuses them.
type KafkaSource struct {
	APIVersion string          `json:"apiVersion"`
	Kind       string          `json:"kind"`
	Metadata   ObjectMeta      `json:"metadata"`
	Spec       KafkaSourceSpec `json:"spec"`
}

// KafkaSourceSpec is the specification of a KafkaSource.
type KafkaSourceSpec struct {
	BootstrapServers []string     `json:"bootstrapServers"`
	Topics           []string     `json:"topics"`
	ConsumerGroup    string       `json:"consumerGroup"`
	Consumers        *int         `json:"consumers"`     // default 1
	InitialOffset    string       `json:"initialOffset"` // earliest or latest (the default)
	Ordering         string       `json:"ordering"`      // ordered (the default) or unordered
	Delivery         *Delivery    `json:"delivery"`
	Sink             Destination  `json:"sink"`
	Net              *Net         `json:"net"`
	CEOverrides      *CEOverrides `json:"ceOverrides"`
}

// Delivery says how an event is sent again. It is all or nothing: without it
// a KafkaSource retries 10 times, with it and without Retry never.
type Delivery struct {
	Retry          *int         `json:"retry"`
	BackoffPolicy  string       `json:"backoffPolicy"` // linear or exponential
	BackoffDelay   string       `json:"backoffDelay"`  // ISO 8601
	Timeout        string       `json:"timeout"`       // ISO 8601; of one request
	RetryAfterMax  *string      `json:"retryAfterMax"` // alpha; ignored here as by a default installation
	DeadLetterSink *Destination `json:"deadLetterSink"`
}

// Destination is an object of the same manifests, or a URI.
type Destination struct {
	Ref *Reference `json:"ref"`
	URI string     `json:"uri"`
}

// Reference names an object.
type Reference struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	Name       string `json:"name"`
	Namespace  string `json:"namespace"`
}

func (d *Destination) name() string {
	switch {
	case d == nil:
		return ""
	case d.Ref != nil:
		return strings.ToLower(d.Ref.Kind) + "/" + d.Ref.Name
	}
	return d.URI
}

// Net says how to authenticate to Kafka.
type Net struct {
	SASL SASL `json:"sasl"`
	TLS  TLS  `json:"tls"`
}

// SASL holds references to Secrets.
type SASL struct {
	Enable   bool      `json:"enable"`
	User     SecretRef `json:"user"`
	Password SecretRef `json:"password"`
	Type     SecretRef `json:"type"`
}

// TLS holds references to Secrets.
type TLS struct {
	Enable bool      `json:"enable"`
	Cert   SecretRef `json:"cert"`
	Key    SecretRef `json:"key"`
	CACert SecretRef `json:"caCert"`
}

// SecretRef selects one key of a Secret.
type SecretRef struct {
	SecretKeyRef *KeyRef `json:"secretKeyRef"`
}

// KeyRef selects one key of a ConfigMap or a Secret.
type KeyRef struct {
	Name     string `json:"name"`
	Key      string `json:"key"`
	Optional bool   `json:"optional"`
}

// CEOverrides are extensions set on every event.
type CEOverrides struct {
	Extensions map[string]string `json:"extensions"`
}

// KafkaSink is eventing.knative.dev/v1alpha1: what is posted to it goes to a topic.
type KafkaSink struct {
	APIVersion string        `json:"apiVersion"`
	Kind       string        `json:"kind"`
	Metadata   ObjectMeta    `json:"metadata"`
	Spec       KafkaSinkSpec `json:"spec"`
}

// KafkaSinkSpec is the specification of a KafkaSink.
type KafkaSinkSpec struct {
	Topic             string   `json:"topic"`
	BootstrapServers  []string `json:"bootstrapServers"`
	ContentMode       string   `json:"contentMode"` // binary or structured (the default); both arrive as binary here
	NumPartitions     *int     `json:"numPartitions"`
	ReplicationFactor *int     `json:"replicationFactor"`
	Auth              *struct {
		Secret struct {
			Ref struct {
				Name string `json:"name"`
			} `json:"ref"`
		} `json:"secret"`
	} `json:"auth"`
}

func (s *KafkaSink) brokers() []string { return splitList(s.Spec.BootstrapServers) }

// splitList takes apart items that are comma lists themselves, so that one
// value in a ConfigMap can name several brokers.
func splitList(items []string) []string {
	var out []string
	for _, item := range items {
		for part := range strings.SplitSeq(item, ",") {
			out = append(out, strings.TrimSpace(part))
		}
	}
	return out
}

// Workload is what runs as processes.
type Workload struct {
	Name     string
	Service  bool // a Knative Service: gets PORT and a URL
	Replicas int  // of a Deployment; of a Service, its min-scale
	Pod      Pod
}

// Pod is the part of a pod's specification that matters to a process.
type Pod struct {
	Containers           []Container      `json:"containers"`
	SecurityContext      *SecurityContext `json:"securityContext"`
	ContainerConcurrency *int             `json:"containerConcurrency"`
	TimeoutSeconds       int              `json:"timeoutSeconds"`
	Volumes              []Volume         `json:"volumes"`
}

// Volume is read to refuse what cannot be had here.
type Volume struct {
	Name     string `json:"name"`
	EmptyDir *struct {
		SizeLimit string `json:"sizeLimit"`
		Medium    string `json:"medium"`
	} `json:"emptyDir"`
}

// SecurityContext is read by tests only: processes here run as this user does.
type SecurityContext struct {
	RunAsNonRoot             *bool `json:"runAsNonRoot"`
	ReadOnlyRootFilesystem   *bool `json:"readOnlyRootFilesystem"`
	AllowPrivilegeEscalation *bool `json:"allowPrivilegeEscalation"`
	SeccompProfile           *struct {
		Type string `json:"type"`
	} `json:"seccompProfile"`
	Capabilities *struct {
		Drop []string `json:"drop"`
	} `json:"capabilities"`
}

// Container is one process.
type Container struct {
	Name            string           `json:"name"`
	Image           string           `json:"image"` // ko://<import path>
	Command         []string         `json:"command"`
	Args            []string         `json:"args"`
	Env             []EnvVar         `json:"env"`
	EnvFrom         []EnvFrom        `json:"envFrom"`
	Ports           []ContainerPort  `json:"ports"`
	ReadinessProbe  *Probe           `json:"readinessProbe"`
	LivenessProbe   *Probe           `json:"livenessProbe"`
	SecurityContext *SecurityContext `json:"securityContext"`
	Resources       struct {
		Requests map[string]any `json:"requests"`
		Limits   map[string]any `json:"limits"`
	} `json:"resources"`
}

// EnvVar is one variable, by value or by reference.
type EnvVar struct {
	Name      string `json:"name"`
	Value     string `json:"value"`
	ValueFrom *struct {
		ConfigMapKeyRef *KeyRef `json:"configMapKeyRef"`
		SecretKeyRef    *KeyRef `json:"secretKeyRef"`
		FieldRef        *struct {
			FieldPath string `json:"fieldPath"`
		} `json:"fieldRef"`
	} `json:"valueFrom"`
}

// EnvFrom takes all keys of an object as variables.
type EnvFrom struct {
	Prefix       string `json:"prefix"`
	ConfigMapRef *struct {
		Name     string `json:"name"`
		Optional bool   `json:"optional"`
	} `json:"configMapRef"`
	SecretRef *struct {
		Name     string `json:"name"`
		Optional bool   `json:"optional"`
	} `json:"secretRef"`
}

// ContainerPort is a port that the process listens on.
type ContainerPort struct {
	Name          string `json:"name"`
	ContainerPort int    `json:"containerPort"`
}

// Probe is an HTTP probe. Its port is that of the container.
type Probe struct {
	HTTPGet *struct {
		Path string `json:"path"`
		Port any    `json:"port"` // number or name of a container port
	} `json:"httpGet"`
	PeriodSeconds       int `json:"periodSeconds"`
	TimeoutSeconds      int `json:"timeoutSeconds"`
	FailureThreshold    int `json:"failureThreshold"`
	InitialDelaySeconds int `json:"initialDelaySeconds"`
}

// DataPlane holds the cluster-wide settings of the dispatcher, from the
// ConfigMap config-kafka-source-data-plane.
type DataPlane struct {
	MaxPollRecords         int           // max.poll.records
	MaxPartitionFetchBytes int           // max.partition.fetch.bytes
	CommitInterval         time.Duration // auto.commit.interval.ms
	MaxPoolSize            int           // maxPoolSize of the web client: connections to one host
}

// ShippedDataPlane is what an installation has that nobody has tuned.
func ShippedDataPlane() DataPlane {
	return DataPlane{MaxPollRecords: 50, MaxPartitionFetchBytes: 65536, CommitInterval: 5 * time.Second, MaxPoolSize: 100}
}

// Source returns the KafkaSource of that name.
func (m *Manifests) Source(name string) (*KafkaSource, error) {
	for i := range m.Sources {
		if m.Sources[i].Metadata.Name == name {
			return &m.Sources[i], nil
		}
	}
	return nil, fmt.Errorf("there is no KafkaSource %s", name)
}
