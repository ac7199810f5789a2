package binlog

import (
	"encoding/binary"
	"strconv"
	"strings"
	"testing"

	"github.com/go-mysql-org/go-mysql/mysql"

	"github.com/tandem-dc/tandem/shared/event"
)

// decimals is a binary JSON array of n times the DECIMAL 1.10.
func decimals(n int) []byte {
	b := binary.LittleEndian.AppendUint16([]byte{jsonSmallArray}, uint16(n))
	size := 4 + 3*n
	b = binary.LittleEndian.AppendUint16(b, uint16(size+6))
	for range n {
		b = binary.LittleEndian.AppendUint16(append(b, jsonOpaque), uint16(size))
	}
	return append(b, mysql.MYSQL_TYPE_NEWDECIMAL, 4, 3, 2, 0x81, 10)
}

// A document with more typed values than an event may have is its whole text.
func TestJSONWithTooManyTypedValues(t *testing.T) {
	for n, want := range map[int]int{1: 1, event.MaxTyped: event.MaxTyped, event.MaxTyped + 1: 0} {
		v, err := jsonDocument(decimals(n))
		if err != nil {
			t.Fatal(err)
		}
		got := 0
		if v.Typed != nil {
			got = len(*v.Typed)
			last := event.Typed{Path: "$[" + strconv.Itoa(n-1) + "]", Type: event.Decimal, Text: "1.10"}
			if (*v.Typed)[got-1] != last {
				t.Errorf("of %d the last is %+v, want %+v", n, (*v.Typed)[got-1], last)
			}
		}
		if got != want || strings.Count(string(v.Data), "1.10") != n {
			t.Errorf("%d decimals: %d are typed, want %d", n, got, want)
		}
	}
}

// The bound is on the row, whose documents are served in the order of columns.
func TestRowWithTooManyTypedValues(t *testing.T) {
	column := decoder{mapColumn: mapColumn{typ: mysql.MYSQL_TYPE_JSON, meta: 4}, kind: event.JSON}
	p := &plan{table: event.Table{DB: "d", Name: "t"}}
	row := []byte{0}
	for _, n := range []int{event.MaxTyped - 1, 1, 1} {
		p.table.Columns = append(p.table.Columns, event.Column{Name: string(rune('a' + len(p.table.Columns))), Type: event.JSON})
		p.decoders = append(p.decoders, column)
		doc := decimals(n)
		row = append(binary.LittleEndian.AppendUint32(row, uint32(len(doc))), doc...)
	}
	values, err := p.image(&cursor{b: row}, bitmap{0xff}, 3)
	if err != nil {
		t.Fatal(err)
	}
	if values[0].Typed == nil || values[1].Typed == nil || values[2].Typed != nil || string(values[2].Data) != "[1.10]" {
		t.Errorf("typed are %v, %v, %v; the last is %s", values[0].Typed != nil, values[1].Typed != nil, values[2].Typed != nil, values[2].Data)
	}
	x := event.Transaction{Tables: []event.Table{p.table}, Rows: []event.Row{{Op: event.Insert, After: values}}}
	if _, err := event.DecodeTransaction(x.AppendJSON(nil)); err != nil {
		t.Error(err)
	}
}
