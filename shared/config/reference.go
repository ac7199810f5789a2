package config

import (
	"encoding"
	"fmt"
	"log/slog"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// Field describes one setting.
type Field struct {
	Key     string // as mysql.addr; as targets[].name inside lists of structs
	Env     string // name of the environment variable; "" inside lists
	Flag    string // with its dashes; "" inside lists
	Type    string // string, integer, number, bool, duration, list, map or YAML
	Default string // as text; "" when there is none
	Help    string
	Secret  bool
}

// Reference lists the settings of dst, a struct or a pointer to one, in the
// order of its fields. It does not change dst.
func Reference(dst any) []Field {
	s, err := describe(dst)
	if err != nil || s.defaults() != nil {
		return nil
	}
	return s.reference(nil)
}

// describe makes a schema on a copy of dst.
func describe(dst any) (*schema, error) {
	v := reflect.Indirect(reflect.ValueOf(dst))
	if v.Kind() != reflect.Struct {
		return nil, fmt.Errorf("config: %T is not a struct", dst)
	}
	c := reflect.New(v.Type()).Elem()
	c.Set(v)
	return newSchema(c, "")
}

func (s *schema) reference(outer []reflect.Type) []Field {
	var fields []Field
	for _, l := range s.leaves {
		f := l.Field
		f.Key = s.path(f.Key)
		if len(outer) > 0 {
			f.Env, f.Flag = "", ""
		}
		if l.secretOf == nil {
			f.Default = l.show()
		}
		fields = append(fields, f)
		if l.kind != structs && l.kind != named {
			continue
		}
		t := l.value.Type().Elem()
		if slices.Contains(outer, t) {
			continue
		}
		mark := "[]"
		if l.kind == named {
			mark = ".NAME"
		}
		if inner, err := newSchema(reflect.New(t).Elem(), f.Key+mark); err == nil && inner.defaults() == nil {
			fields = append(fields, inner.reference(append(outer, t))...)
		}
	}
	return fields
}

const hidden = "(secret)"

// show gives the value as text, secrets hidden; "" for nothing.
func (l *leaf) show() string {
	v := l.value
	if v.IsZero() && (l.kind != scalar || v.Kind() == reflect.String) {
		return ""
	}
	if l.Secret {
		return hidden
	}
	switch l.kind {
	case scalar:
		return showScalar(v)
	case list:
		var parts []string
		for i := range v.Len() {
			parts = append(parts, showScalar(v.Index(i)))
		}
		return strings.Join(parts, ",")
	case dict:
		var parts []string
		for it := v.MapRange(); it.Next(); {
			parts = append(parts, it.Key().String()+"="+showScalar(it.Value()))
		}
		slices.Sort(parts)
		return strings.Join(parts, ",")
	}
	n := showNode(v)
	text, err := yaml.Marshal(n)
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(text))
}

// userinfo matches a password inside a URL.
var userinfo = regexp.MustCompile(`(\w://[^/@:\s]*):[^/@\s]*@`)

func showScalar(v reflect.Value) string {
	if v.CanAddr() {
		if m, ok := v.Addr().Interface().(encoding.TextMarshaler); ok {
			if b, err := m.MarshalText(); err == nil {
				return string(b)
			}
		}
	}
	if v.Type() == durationType {
		return showDuration(time.Duration(v.Int()))
	}
	return userinfo.ReplaceAllString(fmt.Sprint(v.Interface()), "$1:"+hidden+"@")
}

// showDuration leaves out the zero parts that String writes: 1h, not 1h0m0s.
func showDuration(d time.Duration) string {
	text := d.String()
	if strings.HasSuffix(text, "m0s") {
		text = strings.TrimSuffix(text, "0s")
	}
	if strings.HasSuffix(text, "h0m") {
		text = strings.TrimSuffix(text, "0m")
	}
	return text
}

// showNode builds one-line YAML of structs, lists and maps, secrets hidden.
func showNode(v reflect.Value) *yaml.Node {
	n := &yaml.Node{Style: yaml.FlowStyle}
	switch {
	case tagged(v.Type()):
		n.Kind = yaml.MappingNode
		c := reflect.New(v.Type()).Elem()
		c.Set(v)
		s, err := newSchema(c, "")
		if err != nil {
			return &yaml.Node{Kind: yaml.ScalarNode, Value: "?"}
		}
		for _, l := range s.leaves {
			if l.secretOf != nil || l.value.IsZero() {
				continue
			}
			value := &yaml.Node{Kind: yaml.ScalarNode, Value: l.show()}
			if l.kind > dict && !l.Secret {
				value = showNode(l.value)
			}
			n.Content = append(n.Content, &yaml.Node{Kind: yaml.ScalarNode, Value: l.Key}, value)
		}
	case v.Kind() == reflect.Slice:
		n.Kind = yaml.SequenceNode
		for i := range v.Len() {
			n.Content = append(n.Content, showNode(v.Index(i)))
		}
	case v.Kind() == reflect.Map && v.Type().Key().Kind() == reflect.String:
		n.Kind = yaml.MappingNode
		keys := v.MapKeys()
		slices.SortFunc(keys, func(a, b reflect.Value) int { return strings.Compare(a.String(), b.String()) })
		for _, k := range keys {
			n.Content = append(n.Content, &yaml.Node{Kind: yaml.ScalarNode, Value: k.String()}, showNode(v.MapIndex(k)))
		}
	case v.Kind() == reflect.Interface && !v.IsNil():
		return showNode(v.Elem())
	default:
		if err := n.Encode(v.Interface()); err != nil {
			return &yaml.Node{Kind: yaml.ScalarNode, Value: "?"}
		}
	}
	return n
}

// Effective is a configuration that may be logged or printed: keys and values
// in order, secrets hidden, settings without a value left out.
type Effective []slog.Attr

// Redacted describes what dst, a struct or a pointer to one, holds now.
func Redacted(dst any) Effective {
	s, err := describe(dst)
	if err != nil {
		return nil
	}
	var e Effective
	for _, l := range s.leaves {
		if l.secretOf == nil {
			if text := l.show(); text != "" {
				e = append(e, slog.String(l.Key, text))
			}
		}
	}
	return e
}

// LogValue makes a group of it.
func (e Effective) LogValue() slog.Value { return slog.GroupValue(e...) }

// String gives a line per setting.
func (e Effective) String() string {
	var b strings.Builder
	for _, a := range e {
		fmt.Fprintf(&b, "%s: %s\n", a.Key, a.Value.String())
	}
	return b.String()
}
