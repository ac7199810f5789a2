package binlog

import (
	"bytes"
	"strconv"

	"github.com/go-mysql-org/go-mysql/mysql"

	"github.com/tandem-dc/tandem/shared/event"
)

// maxPaths bounds the bytes of all paths into one document, which share long keys.
const maxPaths = 1 << 20

// jsonReader turns one binary JSON document into text, and keeps what the text
// does not tell.
type jsonReader struct {
	path  []jsonLeg // to the value that is read
	typed event.TypedList
	paths int  // bytes
	full  bool // an event cannot carry all typed values of the document
}

// jsonLeg is one step of a path: a key, or where key is nil an index.
type jsonLeg struct {
	key   []byte
	index int
}

// jsonDocument reads a binary JSON document. One with more typed values than
// an event may have is its text alone.
func jsonDocument(doc []byte) (event.Value, error) {
	r := jsonReader{}
	b, err := r.append(nil, doc)
	v := data(b)
	if len(r.typed) > 0 && !r.full {
		list := r.typed
		v.Typed = &list
	}
	return v, err
}

// note keeps the type of an opaque value, which the document's text shows as text.
func (r *jsonReader) note(field byte, text, raw []byte) {
	kind, content := jsonType(field, text, raw)
	limit, ok := kind.MaxSize()
	if !ok || len(content) > limit || kind == event.Bit && len(content) == 0 {
		return
	}
	if r.full = r.full || len(r.typed) == event.MaxTyped || r.paths > maxPaths; r.full {
		return
	}
	path := []byte{'$'}
	for _, leg := range r.path {
		if leg.key != nil {
			path = appendJSONString(append(path, '.'), leg.key)
		} else {
			path = append(strconv.AppendInt(append(path, '['), int64(leg.index), 10), ']')
		}
	}
	r.paths += len(path)
	r.typed = append(r.typed, event.Typed{Path: string(path), Type: kind, Text: string(content)})
}

// jsonType names the type of an opaque value and returns the value as an event has it;
// "" is one that no SQL expression makes.
func jsonType(field byte, text, raw []byte) (event.Type, []byte) {
	switch field {
	case mysql.MYSQL_TYPE_NEWDECIMAL:
		return event.Decimal, text
	case mysql.MYSQL_TYPE_DATE:
		return event.Date, bytes.Trim(text, `"`)
	case mysql.MYSQL_TYPE_TIME:
		return event.Time, bytes.Trim(text, `"`)
	case mysql.MYSQL_TYPE_DATETIME:
		return event.DateTime, bytes.Trim(text, `"`)
	case mysql.MYSQL_TYPE_TIMESTAMP:
		text = bytes.Trim(text, `"`)
		s := string(text)
		// It stands in the time zone of the session that wrote it, and may be none in UTC.
		if s != "0000-00-00 00:00:00.000000" && (s < "1970-01-01 00:00:01" || s > "2038-01-19 03:14:07.999999") {
			return event.DateTime, text
		}
		return event.Timestamp, text
	case mysql.MYSQL_TYPE_BIT:
		return event.Bit, raw
	case mysql.MYSQL_TYPE_STRING:
		return event.Binary, raw
	case mysql.MYSQL_TYPE_VARCHAR:
		return event.VarBinary, raw
	case mysql.MYSQL_TYPE_TINY_BLOB:
		return event.TinyBlob, raw
	case mysql.MYSQL_TYPE_BLOB:
		return event.Blob, raw
	case mysql.MYSQL_TYPE_MEDIUM_BLOB:
		return event.MediumBlob, raw
	case mysql.MYSQL_TYPE_LONG_BLOB:
		return event.LongBlob, raw
	}
	return "", nil
}
