package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"reflect"
	"strings"

	"go.yaml.in/yaml/v3"
)

// maxDepth bounds the nesting of a YAML value.
const maxDepth = 32

// parseYAML reads one mapping; nil for an empty text.
func parseYAML(text []byte) (*yaml.Node, error) {
	n, err := parseAny(text)
	if err != nil || n == nil || isNull(n) {
		return nil, err
	}
	if n.Kind != yaml.MappingNode {
		return nil, errors.New("is not a mapping of keys to values")
	}
	return n, nil
}

// parseAny reads one YAML value; nil for an empty text. Aliases are refused: a
// few lines of them can stand for gigabytes.
func parseAny(text []byte) (*yaml.Node, error) {
	d := yaml.NewDecoder(bytes.NewReader(text))
	var doc yaml.Node
	if err := d.Decode(&doc); err != nil {
		if errors.Is(err, io.EOF) {
			return nil, nil
		}
		if strings.Contains(err.Error(), "unknown anchor") {
			// The package's error repeats the value, which may be a password.
			return nil, errAlias
		}
		return nil, fmt.Errorf("not valid YAML: %s", strings.TrimPrefix(err.Error(), "yaml: "))
	}
	var next yaml.Node
	if err := d.Decode(&next); !errors.Is(err, io.EOF) {
		return nil, errors.New("holds more than one YAML document")
	}
	if len(doc.Content) != 1 {
		return nil, nil
	}
	return doc.Content[0], plain(doc.Content[0], 0)
}

var errAlias = errors.New("holds a YAML alias (a value that begins with *): put the value in quotes, or write it out")

func plain(n *yaml.Node, depth int) error {
	switch {
	case n.Kind == yaml.AliasNode:
		return errAlias
	case depth > maxDepth:
		return fmt.Errorf("is nested deeper than %d levels", maxDepth)
	}
	for _, c := range n.Content {
		if err := plain(c, depth+1); err != nil {
			return err
		}
	}
	return nil
}

func isNull(n *yaml.Node) bool { return n.Kind == yaml.ScalarNode && n.ShortTag() == "!!null" }

// walk finds the settings in a mapping, whose keys may be nested, joined by dots,
// or both. A setting without a value is left out.
func (s *schema) walk(n *yaml.Node, from origin) (map[*leaf]found, []error) {
	values := map[*leaf]found{}
	if n == nil {
		return values, nil
	}
	return values, s.walkGroup(n, "", from, values)
}

func (s *schema) walkGroup(n *yaml.Node, group string, from origin, values map[*leaf]found) []error {
	var errs []error
	for i := 0; i+1 < len(n.Content); i += 2 {
		k, v := n.Content[i], n.Content[i+1]
		key := join(group, k.Value)
		at := from.at(k)
		l := s.byKey[key]
		switch {
		case k.Kind != yaml.ScalarNode || k.Value == "":
			errs = append(errs, &Error{s.path(group), at.problem("a key is not a plain word"), "write key: value"})
		case l != nil && values[l].node != nil:
			errs = append(errs, &Error{s.path(key), at.problem("is given twice"), "keep one of them"})
		case l != nil && !isNull(v):
			values[l] = found{node: v, from: from.at(v)}
		case l != nil || s.groups[key] && isNull(v):
		case s.groups[key] && v.Kind == yaml.MappingNode:
			errs = append(errs, s.walkGroup(v, key, from, values)...)
		case s.groups[key]:
			errs = append(errs, &Error{s.path(key), at.problem("is a group of settings, not a value"), "write its settings below it, indented"})
		default:
			errs = append(errs, &Error{s.path(key), at.problem("there is no such key"), suggest(s.path(key), s.keys())})
		}
	}
	return errs
}

func (o origin) at(n *yaml.Node) origin {
	if o.file != "" {
		o.line = n.Line
	}
	return o
}

// setNode replaces the value of the leaf by what the node holds.
func (l *leaf) setNode(n *yaml.Node, key string, from origin) []error {
	fresh := reflect.New(l.value.Type()).Elem()
	if n == nil {
		l.value.Set(fresh)
		return nil
	}
	var errs []error
	switch {
	case n.Kind == yaml.ScalarNode && (l.kind == scalar || l.kind == list || l.kind == dict):
		return l.set(found{text: n.Value, from: from}, key)
	case l.kind == list && n.Kind == yaml.SequenceNode:
		errs = l.setList(fresh, n, key, from)
	case l.kind == dict && n.Kind == yaml.MappingNode:
		errs = l.setDict(fresh, n, key, from)
	case l.kind == structs && n.Kind == yaml.SequenceNode:
		fresh.Set(reflect.MakeSlice(fresh.Type(), len(n.Content), len(n.Content)))
		for i, c := range n.Content {
			errs = append(errs, fill(fresh.Index(i), c, fmt.Sprintf("%s[%d]", key, i), from)...)
		}
	case l.kind == named && n.Kind == yaml.MappingNode:
		errs = setNamed(fresh, n, key, from)
	case l.kind == other:
		if err := decodeStrict(fresh, n); err != nil {
			errs = []error{&Error{key, from.problem(err.Error()), "correct the value"}}
		}
	default:
		errs = []error{&Error{key, from.problem("is " + nodeName(n) + ", not " + l.wants()), "write " + l.form()}}
	}
	if len(errs) == 0 {
		l.value.Set(fresh)
	}
	return errs
}

func (l *leaf) setList(v reflect.Value, n *yaml.Node, key string, from origin) []error {
	var errs []error
	for i, c := range n.Content {
		item := reflect.New(v.Type().Elem()).Elem()
		at := fmt.Sprintf("%s[%d]", key, i)
		if c.Kind != yaml.ScalarNode || isNull(c) {
			errs = append(errs, &Error{at, from.at(c).problem("is " + nodeName(c) + ", not a single value"), "write " + l.form()})
		} else if p := parseScalar(item, c.Value); p != nil {
			errs = append(errs, l.complain(p, c.Value, at, from.at(c)))
		}
		v.Set(reflect.Append(v, item))
	}
	return errs
}

func (l *leaf) setDict(v reflect.Value, n *yaml.Node, key string, from origin) []error {
	var errs []error
	v.Set(reflect.MakeMap(v.Type()))
	for i := 0; i+1 < len(n.Content); i += 2 {
		k, c := n.Content[i], n.Content[i+1]
		name := reflect.ValueOf(k.Value).Convert(v.Type().Key())
		item := reflect.New(v.Type().Elem()).Elem()
		at := join(key, k.Value)
		switch {
		case k.Kind != yaml.ScalarNode || c.Kind != yaml.ScalarNode || isNull(c):
			errs = append(errs, &Error{at, from.at(k).problem("is not a pair of single values"), "write name: value"})
			continue
		case v.MapIndex(name).IsValid():
			errs = append(errs, &Error{at, from.at(k).problem("is given twice"), "keep one of them"})
			continue
		}
		if p := parseScalar(item, c.Value); p != nil {
			errs = append(errs, l.complain(p, c.Value, at, from.at(c)))
		}
		v.SetMapIndex(name, item)
	}
	return errs
}

func setNamed(v reflect.Value, n *yaml.Node, key string, from origin) []error {
	var errs []error
	v.Set(reflect.MakeMap(v.Type()))
	for i := 0; i+1 < len(n.Content); i += 2 {
		k, c := n.Content[i], n.Content[i+1]
		at := join(key, k.Value)
		name := reflect.ValueOf(k.Value).Convert(v.Type().Key())
		if k.Kind != yaml.ScalarNode || v.MapIndex(name).IsValid() {
			errs = append(errs, &Error{at, from.at(k).problem("is given twice, or its name is not a plain word"), "give every name once"})
			continue
		}
		item := reflect.New(v.Type().Elem()).Elem()
		errs = append(errs, fill(item, c, at, from)...)
		v.SetMapIndex(name, item)
	}
	return errs
}

// fill sets one struct of a list or map: its defaults, then what the node says.
func fill(v reflect.Value, n *yaml.Node, key string, from origin) []error {
	s, err := newSchema(v, key)
	if err == nil {
		err = s.defaults()
	}
	if err != nil {
		return []error{err}
	}
	if isNull(n) {
		return nil
	}
	if n.Kind != yaml.MappingNode {
		return []error{&Error{key, from.at(n).problem("is " + nodeName(n) + ", not a mapping"), "write its settings as key: value"}}
	}
	values, errs := s.walk(n, from)
	return append(errs, s.apply(values)...)
}

// decodeStrict leaves the node to the YAML package, unknown fields refused.
func decodeStrict(v reflect.Value, n *yaml.Node) error {
	text, err := yaml.Marshal(n)
	if err != nil {
		return err
	}
	d := yaml.NewDecoder(bytes.NewReader(text))
	d.KnownFields(true)
	if err := d.Decode(v.Addr().Interface()); err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("does not fit %s", v.Type())
	}
	return nil
}

func nodeName(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "a mapping"
	case yaml.SequenceNode:
		return "a list"
	}
	return "a single value"
}

func (l *leaf) wants() string {
	return [...]string{scalar: "a single value", list: "a list", dict: "a mapping of names to values",
		structs: "a list of mappings", named: "a mapping of names to mappings", other: "YAML"}[l.kind]
}

func (l *leaf) form() string {
	return [...]string{scalar: "key: value", list: "[a, b]", dict: "{a: b, c: d}",
		structs: "one \"- key: value\" per item", named: "a name and below it, indented, its settings", other: "YAML"}[l.kind]
}
