package knative

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
	sigsjson "sigs.k8s.io/json"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/api/resource"
	"sigs.k8s.io/kustomize/kyaml/filesys"
)

// Overrides are values of ConfigMaps and Secrets, by object name and key.
type Overrides struct {
	// ConfigMaps replaces or adds values in the files before kustomize runs, so
	// that its replacements carry them on. The object must be in a file.
	ConfigMaps map[string]map[string]string
	// Secrets are added to the result: manifests only refer to them.
	Secrets map[string]map[string]string
}

// Build renders root/overlay with kustomize, in memory, and reads the result.
// root is the directory that holds everything the overlay refers to: triggers/.
func Build(root, overlay string, o Overrides) (*Manifests, error) {
	files, err := load(root, o)
	if err != nil {
		return nil, err
	}
	k := krusty.MakeKustomizer(krusty.MakeDefaultOptions())
	objects, err := k.Run(files, path.Join("/", filepath.ToSlash(overlay)))
	if err != nil {
		return nil, fmt.Errorf("kustomize %s in %s: %w", overlay, root, err)
	}
	m := &Manifests{
		ConfigMaps: map[string]map[string]string{}, Secrets: map[string]map[string]string{},
		DataPlane: ShippedDataPlane(), Kinds: map[string]int{},
	}
	for _, r := range objects.Resources() {
		if err := m.add(r); err != nil {
			return nil, fmt.Errorf("%s %s of %s: %w", r.GetKind(), r.GetName(), overlay, err)
		}
	}
	for name, values := range o.Secrets {
		if m.Secrets[name] == nil {
			m.Secrets[name] = map[string]string{}
		}
		maps.Copy(m.Secrets[name], values)
	}
	return m, nil
}

// load copies the YAML files below root into memory, overrides applied.
func load(root string, o Overrides) (filesys.FileSystem, error) {
	files := filesys.MakeFsInMemory()
	used := map[string]bool{}
	err := filepath.WalkDir(root, func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || filepath.Ext(name) != ".yaml" && filepath.Ext(name) != ".properties" {
			return err
		}
		b, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		if b, err = override(b, o, used); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		rel, err := filepath.Rel(root, name)
		if err != nil {
			return err
		}
		return files.WriteFile(path.Join("/", filepath.ToSlash(rel)), b)
	})
	if err != nil {
		return nil, fmt.Errorf("read manifests: %w", err)
	}
	for name := range o.ConfigMaps {
		if !used[name] {
			return nil, fmt.Errorf("override of ConfigMap %s: no file in %s has it", name, root)
		}
	}
	return files, nil
}

func override(b []byte, o Overrides, used map[string]bool) ([]byte, error) {
	var documents []map[string]any
	changed := false
	for dec := yaml.NewDecoder(bytes.NewReader(b)); ; {
		var doc map[string]any
		err := dec.Decode(&doc)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, err
		}
		documents = append(documents, doc)
		meta, _ := doc["metadata"].(map[string]any)
		name := fmt.Sprint(meta["name"])
		values := o.ConfigMaps[name]
		if values == nil || doc["kind"] != "ConfigMap" {
			continue
		}
		used[name], changed = true, true
		data, _ := doc["data"].(map[string]any)
		if data == nil {
			data = map[string]any{}
		}
		for k, v := range values {
			data[k] = v
		}
		doc["data"] = data
	}
	if !changed {
		return b, nil
	}
	var out bytes.Buffer
	enc := yaml.NewEncoder(&out)
	for _, doc := range documents {
		if err := enc.Encode(doc); err != nil {
			return nil, err
		}
	}
	return out.Bytes(), enc.Close()
}

func (m *Manifests) add(r *resource.Resource) error {
	b, err := r.MarshalJSON()
	if err != nil {
		return err
	}
	m.Kinds[r.GetKind()]++
	switch r.GetGvk().ApiVersion() + " " + r.GetKind() {
	case "serving.knative.dev/v1 Service":
		return m.addService(b)
	case "apps/v1 Deployment":
		return m.addDeployment(b)
	case "sources.knative.dev/v1 KafkaSource":
		var s KafkaSource
		if err := strict(b, &s); err != nil {
			return err
		}
		m.Sources = append(m.Sources, s)
		_, err := s.Spec.plan()
		return err
	case "eventing.knative.dev/v1alpha1 KafkaSink":
		var s KafkaSink
		if err := strict(b, &s); err != nil {
			return err
		}
		m.Sinks = append(m.Sinks, s)
	case "v1 ConfigMap":
		return m.addConfigMap(b)
	case "v1 Secret":
		return m.addSecret(b)
	}
	return nil
}

// strict refuses unknown fields, and known ones in other letters, as the API
// server does.
func strict(b []byte, dst any) error {
	unknown, err := sigsjson.UnmarshalStrict(b, dst)
	return errors.Join(append(unknown, err)...)
}

func (m *Manifests) addService(b []byte) error {
	var s struct {
		Metadata ObjectMeta `json:"metadata"`
		Spec     struct {
			Template struct {
				Metadata ObjectMeta `json:"metadata"`
				Spec     Pod        `json:"spec"`
			} `json:"template"`
		} `json:"spec"`
	}
	if err := json.Unmarshal(b, &s); err != nil {
		return err
	}
	w := Workload{Name: s.Metadata.Name, Service: true, Replicas: 1, Pod: s.Spec.Template.Spec}
	const minScale = "autoscaling.knative.dev/min-scale"
	if v, ok := s.Spec.Template.Metadata.Annotations[minScale]; ok {
		n, err := strconv.Atoi(v)
		if err != nil || n < 0 {
			return fmt.Errorf("%s %q is no number of instances", minScale, v)
		}
		w.Replicas = max(n, 1) // nothing here starts an instance on demand
	}
	m.Services = append(m.Services, w)
	return w.check()
}

func (m *Manifests) addDeployment(b []byte) error {
	var d struct {
		Metadata ObjectMeta `json:"metadata"`
		Spec     struct {
			Replicas *int `json:"replicas"`
			Template struct {
				Spec Pod `json:"spec"`
			} `json:"template"`
		} `json:"spec"`
	}
	if err := json.Unmarshal(b, &d); err != nil {
		return err
	}
	w := Workload{Name: d.Metadata.Name, Replicas: 1, Pod: d.Spec.Template.Spec}
	if d.Spec.Replicas != nil {
		w.Replicas = *d.Spec.Replicas
	}
	m.Deployments = append(m.Deployments, w)
	return w.check()
}

func (m *Manifests) addConfigMap(b []byte) error {
	var c struct {
		Metadata ObjectMeta        `json:"metadata"`
		Data     map[string]string `json:"data"`
	}
	if err := json.Unmarshal(b, &c); err != nil {
		return err
	}
	m.ConfigMaps[c.Metadata.Name] = c.Data
	if c.Metadata.Name == "config-kafka-source-data-plane" {
		return m.DataPlane.read(c.Data)
	}
	return nil
}

func (m *Manifests) addSecret(b []byte) error {
	var s struct {
		Metadata   ObjectMeta        `json:"metadata"`
		Data       map[string][]byte `json:"data"`
		StringData map[string]string `json:"stringData"`
	}
	if err := json.Unmarshal(b, &s); err != nil {
		return err
	}
	values := map[string]string{}
	for k, v := range s.Data {
		values[k] = string(v)
	}
	maps.Copy(values, s.StringData)
	m.Secrets[s.Metadata.Name] = values
	return nil
}

// read takes the properties that have a meaning here.
func (d *DataPlane) read(data map[string]string) error {
	set := func(properties, key string, dst *int) error {
		for line := range strings.Lines(data[properties]) {
			k, v, ok := strings.Cut(strings.TrimSpace(line), "=")
			if !ok || strings.TrimSpace(k) != key {
				continue
			}
			n, err := strconv.Atoi(strings.TrimSpace(v))
			if err != nil || n <= 0 {
				return fmt.Errorf("%s: %s %q is no positive number", properties, key, v)
			}
			*dst = n
		}
		return nil
	}
	const consumer, web = "config-kafka-source-consumer.properties", "config-kafka-source-webclient.properties"
	commit := int(d.CommitInterval / time.Millisecond)
	err := errors.Join(
		set(consumer, "max.poll.records", &d.MaxPollRecords),
		set(consumer, "max.partition.fetch.bytes", &d.MaxPartitionFetchBytes),
		set(consumer, "auto.commit.interval.ms", &commit),
		set(web, "maxPoolSize", &d.MaxPoolSize),
	)
	d.CommitInterval = time.Duration(commit) * time.Millisecond
	return err
}
