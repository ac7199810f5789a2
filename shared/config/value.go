package config

import (
	"encoding"
	"fmt"
	"math"
	"reflect"
	"strconv"
	"strings"
	"time"
)

// quote shows a value in an error, shortened.
func quote(text string) string {
	const longest = 80
	if len(text) > longest {
		text = strings.ToValidUTF8(text[:longest], "") + "…"
	}
	return strconv.Quote(text)
}

// problem is what is wrong with a text, without the text where that is secret.
type problem struct{ what, remedy string }

// defaults sets every field that holds nothing yet to the default of its tag.
func (s *schema) defaults() error {
	for _, l := range s.leaves {
		if l.tag == "" || l.secretOf != nil || !l.value.IsZero() {
			continue
		}
		for _, err := range l.set(found{text: l.tag}, s.path(l.Key)) {
			return fmt.Errorf("config: default tag: %w", err)
		}
	}
	return nil
}

// set replaces the value of the leaf.
func (l *leaf) set(f found, key string) []error {
	if f.node != nil {
		return l.setNode(f.node, key, f.from)
	}
	fresh := reflect.New(l.value.Type()).Elem()
	var p *problem
	switch l.kind {
	case scalar:
		p = parseScalar(fresh, f.text)
	case list:
		p = parseList(fresh, f.text)
	case dict:
		p = parseDict(fresh, f.text)
	default:
		if strings.TrimSpace(f.text) == "" {
			break
		}
		node, err := parseAny([]byte(f.text))
		if err != nil {
			return []error{&Error{key, f.from.problem(err.Error()), "write it as YAML, in one line as [{a: 1}, {a: 2}]"}}
		}
		return l.setNode(node, key, f.from)
	}
	if p != nil {
		return []error{l.complain(p, f.text, key, f.from)}
	}
	l.value.Set(fresh)
	return nil
}

func (l *leaf) complain(p *problem, text, key string, from origin) error {
	shown := quote(text)
	if l.Secret {
		shown = "the value (not shown)"
	}
	return &Error{key, from.problem(shown + " " + p.what), p.remedy}
}

func parseScalar(v reflect.Value, text string) *problem {
	t := v.Type()
	if isText(t) {
		if err := v.Addr().Interface().(encoding.TextUnmarshaler).UnmarshalText([]byte(text)); err != nil {
			// Such errors often repeat the value, which may be secret: their kind is enough.
			return &problem{"cannot be read as " + strings.ToLower(t.Name()), "correct the value"}
		}
		return nil
	}
	switch {
	case t == durationType:
		d, err := time.ParseDuration(text)
		if err != nil {
			return &problem{"is not a duration", "write numbers with units, as 300ms, 5s or 1h30m"}
		}
		v.SetInt(int64(d))
	case v.CanInt():
		n, err := strconv.ParseInt(text, 10, t.Bits())
		if err != nil {
			return &problem{"is not a whole number", fmt.Sprintf("write digits only, from %d to %d", int64(math.MinInt64)>>(64-t.Bits()), int64(math.MaxInt64)>>(64-t.Bits()))}
		}
		v.SetInt(n)
	case v.CanUint():
		n, err := strconv.ParseUint(text, 10, t.Bits())
		if err != nil {
			return &problem{"is not a whole number of zero or more", fmt.Sprintf("write digits only, from 0 to %d", uint64(math.MaxUint64)>>(64-t.Bits()))}
		}
		v.SetUint(n)
	case v.CanFloat():
		n, err := strconv.ParseFloat(text, t.Bits())
		if err != nil || math.IsInf(n, 0) || math.IsNaN(n) {
			return &problem{"is not a number", "write it as 0.25 or 12"}
		}
		v.SetFloat(n)
	case t.Kind() == reflect.Bool:
		b, err := strconv.ParseBool(text)
		if err != nil {
			return &problem{"is neither true nor false", "write true or false"}
		}
		v.SetBool(b)
	default:
		v.SetString(text)
	}
	return nil
}

func parseList(v reflect.Value, text string) *problem {
	if strings.TrimSpace(text) == "" {
		return nil
	}
	for part := range strings.SplitSeq(text, ",") {
		item := reflect.New(v.Type().Elem()).Elem()
		part = strings.TrimSpace(part)
		if part == "" {
			return &problem{"holds an empty item", "write items joined by single commas, as a,b,c"}
		}
		if p := parseScalar(item, part); p != nil {
			return &problem{"holds an item that " + p.what, p.remedy + ", items joined by commas"}
		}
		v.Set(reflect.Append(v, item))
	}
	return nil
}

func parseDict(v reflect.Value, text string) *problem {
	if strings.TrimSpace(text) == "" {
		return nil
	}
	v.Set(reflect.MakeMap(v.Type()))
	for part := range strings.SplitSeq(text, ",") {
		name, value, ok := strings.Cut(part, "=")
		name, value = strings.TrimSpace(name), strings.TrimSpace(value)
		if !ok || name == "" {
			return &problem{"holds an item that is not name=value", "write pairs joined by commas, as a=b,c=d"}
		}
		k := reflect.ValueOf(name).Convert(v.Type().Key())
		if v.MapIndex(k).IsValid() {
			return &problem{"names " + quote(name) + " twice", "give every name once"}
		}
		item := reflect.New(v.Type().Elem()).Elem()
		if p := parseScalar(item, value); p != nil {
			return &problem{"holds a value that " + p.what, p.remedy}
		}
		v.SetMapIndex(k, item)
	}
	return nil
}
