package event

import (
	"fmt"
	"slices"
)

// MaxTyped bounds the typed values in one row image, so that a statement can
// hold them as parameters.
const MaxTyped = 4096

// Typed is a value inside a JSON document whose SQL type the document's text
// does not show: a DECIMAL reads as any number there, a DATE as any string.
type Typed struct {
	Path string // as MySQL writes it, with all keys quoted: $."a"[0]
	Type Type   // one of TypedTypes
	Text string // as Value.Data of a column of the type; of Bit the bytes, highest first
}

// TypedList are the typed values of one document, in its order.
type TypedList []Typed

// Blobs by size, which only a JSON document tells apart.
const (
	TinyBlob   Type = "tinyblob"
	MediumBlob Type = "mediumblob"
	LongBlob   Type = "longblob"
)

// MaxSize returns how many bytes a typed value of the type may have, and
// whether there can be one.
func (t Type) MaxSize() (int, bool) {
	switch t {
	case Decimal, Date, Time, DateTime, Timestamp:
		return 80, true
	case Bit:
		return 8, true
	case Binary, TinyBlob:
		return 255, true
	case VarBinary:
		return 65000, true // the server's bound is on the row
	case Blob:
		return 1<<16 - 1, true
	case MediumBlob:
		return 1<<24 - 1, true
	case LongBlob:
		return 1<<32 - 1, true
	}
	return 0, false
}

func (x *Typed) raw() bool {
	switch x.Type {
	case Bit, TinyBlob, MediumBlob, LongBlob:
		return true
	}
	return x.Type.Bytes()
}

func (x *Typed) check() error {
	limit, ok := x.Type.MaxSize()
	switch {
	case !ok:
		return fmt.Errorf("no value inside JSON has the type %.40q", x.Type)
	case len(x.Text) > limit || len(x.Text) == 0 && !x.raw() || x.Text == "" && x.Type == Bit:
		return fmt.Errorf("%d bytes are no %s inside JSON", len(x.Text), x.Type)
	case x.Path == "" || x.Path[0] != '$':
		return fmt.Errorf("%.40q is no path into JSON", x.Path)
	}
	return nil
}

// checkTyped holds the typed values of an image against its columns.
func checkTyped(image []Value, columns []Column) error {
	n := 0
	for i := range image {
		if image[i].Typed == nil {
			continue
		}
		if columns[i].Type != JSON || image[i].Kind != Data {
			return fmt.Errorf("%s has typed values but is no json", columns[i].Name)
		}
		list := *image[i].Typed
		if n += len(list); len(list) == 0 || n > MaxTyped {
			return fmt.Errorf("%s has %d typed values, an image may have %d", columns[i].Name, len(list), MaxTyped)
		}
		for k := range list {
			if err := list[k].check(); err != nil {
				return fmt.Errorf("%s: %w", columns[i].Name, err)
			}
		}
	}
	return nil
}

// sameTyped reports whether two documents have the same typed values.
func sameTyped(a, b *TypedList) bool {
	if a == nil || b == nil {
		return a == b
	}
	return slices.Equal(*a, *b)
}

// appendDocument appends {"json": text, "typed": [[path, type, text], ...]}.
func appendDocument(b []byte, v *Value) []byte {
	b = append(b, `{"json":`...)
	b = appendRaw(b, v.Data, true)
	b = append(b, `,"typed":[`...)
	for i := range *v.Typed {
		x := &(*v.Typed)[i]
		if i > 0 {
			b = append(b, ',')
		}
		b = appendRaw(append(b, '['), []byte(x.Path), true)
		b = appendRaw(append(b, ','), []byte(x.Type), true)
		b = append(appendRaw(append(b, ','), []byte(x.Text), !x.raw()), ']')
	}
	return append(b, `]}`...)
}

// objectValue reads {"base64": "..."} or what appendDocument writes.
func (d *decoder) objectValue() (v Value, err error) {
	at := d.i
	v.Kind = Data
	var raw, document bool
	err = d.object(func(name string) (err error) {
		switch name {
		case "base64":
			raw = true
			v.Data, err = d.base64()
		case "json":
			document = true
			v.Data, err = d.bytes()
		case "typed":
			v.Typed, err = d.typed()
		default:
			return fmt.Errorf("object at byte %d is no value: it has %.40q", at, name)
		}
		return err
	})
	if err == nil && (raw == document || document != (v.Typed != nil)) {
		err = fmt.Errorf("object at byte %d is no value", at)
	}
	return v, err
}

func (d *decoder) typed() (*TypedList, error) {
	list := TypedList{}
	err := d.array(func() error {
		if len(list) == MaxTyped {
			return fmt.Errorf("more than %d typed values", MaxTyped)
		}
		var parts [3]string
		n := 0
		err := d.array(func() (err error) {
			if n == len(parts) {
				return fmt.Errorf("typed value %d has more than %d parts", len(list), len(parts))
			}
			parts[n], err = d.text()
			n++
			return err
		})
		if err == nil && n < len(parts) {
			err = fmt.Errorf("typed value %d has %d parts, not %d", len(list), n, len(parts))
		}
		list = append(list, Typed{Path: parts[0], Type: Type(parts[1]), Text: parts[2]})
		return err
	})
	return &list, err
}
