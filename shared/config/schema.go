package config

import (
	"encoding"
	"fmt"
	"reflect"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// leaf is one setting.
type leaf struct {
	Field
	value    reflect.Value // settable
	kind     kind
	tag      string // the default tag
	secretOf *leaf  // this one names a file that holds that one's value
}

// schema is the settings of one struct, in the order of its fields.
type schema struct {
	prefix string // of every key: "" for the program, else as targets[0]
	leaves []*leaf
	byKey  map[string]*leaf
	byEnv  map[string]*leaf
	groups map[string]bool
}

type kind int

const (
	scalar  kind = iota // one text
	list                // scalars, joined by commas
	dict                // string to scalar, as a=b,c=d
	structs             // list of tagged structs
	named               // map from string to tagged struct
	other               // whatever the YAML package makes of it
)

func newSchema(v reflect.Value, prefix string) (*schema, error) {
	s := &schema{prefix: prefix, byKey: map[string]*leaf{}, byEnv: map[string]*leaf{}, groups: map[string]bool{}}
	if err := s.add(v, ""); err != nil {
		return nil, err
	}
	for _, l := range s.leaves {
		if s.groups[l.Key] {
			return nil, fmt.Errorf("config: %s is a setting and a group of settings", l.Key)
		}
	}
	return s, nil
}

// add collects the fields of one struct.
func (s *schema) add(v reflect.Value, group string) error {
	for i := range v.NumField() {
		f := v.Type().Field(i)
		if key, ok := groupKey(f); ok {
			if key != "" && !validKey(key) {
				return fmt.Errorf("config: field %s of %s has key %q: %s", f.Name, v.Type(), key, keyForm)
			}
			if err := s.add(v.Field(i), join(group, key)); err != nil {
				return err
			}
			continue
		}
		key, tagged := f.Tag.Lookup("key")
		if !tagged || key == "-" {
			continue
		}
		if !f.IsExported() || !validKey(key) {
			return fmt.Errorf("config: field %s of %s has key %q: the field must be exported, %s", f.Name, v.Type(), key, keyForm)
		}
		l := &leaf{value: v.Field(i), kind: kindOf(f.Type), tag: f.Tag.Get("default")}
		l.Field = Field{Key: join(group, key), Type: typeName(f.Type), Help: f.Tag.Get("help"), Secret: f.Tag.Get("secret") == "true"}
		if err := s.put(l); err != nil {
			return err
		}
		if l.Secret && f.Type.Kind() == reflect.String {
			file := &leaf{secretOf: l, Field: Field{Key: l.Key + "-file", Type: "string", Help: "file that holds " + l.Key}}
			if err := s.put(file); err != nil {
				return err
			}
		}
	}
	return nil
}

func (s *schema) put(l *leaf) error {
	l.Env, l.Flag = envName(l.Key), "--"+l.Key
	if l.Key == fileKey || l.Key == helpKey || l.Env == "TANDEM_CACHE" || strings.HasPrefix(l.Env, testPrefix) {
		return fmt.Errorf("config: the key %s is taken", l.Key)
	}
	if o := s.byEnv[l.Env]; o != nil {
		return fmt.Errorf("config: keys %s and %s are both %s in the environment", o.Key, l.Key, l.Env)
	}
	for i, c := range l.Key {
		if c == '.' {
			s.groups[l.Key[:i]] = true
		}
	}
	s.leaves = append(s.leaves, l)
	s.byKey[l.Key], s.byEnv[l.Env] = l, l
	return nil
}

// path is the key as errors name it.
func (s *schema) path(key string) string { return join(s.prefix, key) }

// keys lists the keys, with the prefix.
func (s *schema) keys() []string {
	var keys []string
	for _, l := range s.leaves {
		keys = append(keys, s.path(l.Key))
	}
	return keys
}

func join(group, key string) string {
	if group == "" || key == "" {
		return group + key
	}
	return group + "." + key
}

func envName(key string) string {
	return envPrefix + strings.ToUpper(strings.NewReplacer(".", "_", "-", "_").Replace(key))
}

const keyForm = "the key words of lower case letters, digits and dashes, joined by dots"

func validKey(key string) bool {
	for word := range strings.SplitSeq(key, ".") {
		if word == "" || word[0] == '-' || strings.Trim(word, "abcdefghijklmnopqrstuvwxyz0123456789-") != "" {
			return false
		}
	}
	return true
}

// groupKey reports whether f is a struct whose tagged fields are settings, and
// the key that stands before theirs: none for an embedded struct without one.
func groupKey(f reflect.StructField) (string, bool) {
	key, ok := f.Tag.Lookup("key")
	if key == "-" || !f.IsExported() || !(ok || f.Anonymous) || !tagged(f.Type) {
		return "", false
	}
	return key, ok || f.Anonymous
}

// tagged reports whether t is a struct with a key tag somewhere, which does not
// read itself from text.
func tagged(t reflect.Type) bool {
	if t.Kind() != reflect.Struct || isText(t) {
		return false
	}
	for i := range t.NumField() {
		f := t.Field(i)
		if key, ok := f.Tag.Lookup("key"); ok && key != "-" || f.Anonymous && tagged(f.Type) {
			return true
		}
	}
	return false
}

var (
	textType     = reflect.TypeFor[encoding.TextUnmarshaler]()
	durationType = reflect.TypeFor[time.Duration]()
	yamlType     = reflect.TypeFor[yaml.Unmarshaler]()
)

func isText(t reflect.Type) bool { return reflect.PointerTo(t).Implements(textType) }

func isScalar(t reflect.Type) bool {
	if isText(t) {
		return true
	}
	switch t.Kind() {
	case reflect.String, reflect.Bool, reflect.Float32, reflect.Float64,
		reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64,
		reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return true
	}
	return false
}

func kindOf(t reflect.Type) kind {
	switch {
	case reflect.PointerTo(t).Implements(yamlType):
		return other
	case isScalar(t):
		return scalar
	case t.Kind() == reflect.Slice && isScalar(t.Elem()):
		return list
	case t.Kind() == reflect.Slice && tagged(t.Elem()):
		return structs
	case t.Kind() == reflect.Map && t.Key().Kind() == reflect.String && isScalar(t.Elem()):
		return dict
	case t.Kind() == reflect.Map && t.Key().Kind() == reflect.String && tagged(t.Elem()):
		return named
	}
	return other
}

func typeName(t reflect.Type) string {
	switch kindOf(t) {
	case list:
		return "list"
	case dict:
		return "map"
	case scalar:
		switch {
		case t == durationType:
			return "duration"
		case isText(t), t.Kind() == reflect.String:
			return "string"
		case t.Kind() == reflect.Bool:
			return "bool"
		case t.Kind() == reflect.Float32, t.Kind() == reflect.Float64:
			return "number"
		}
		return "integer"
	}
	return "YAML"
}
