package binlog

import (
	"encoding/binary"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/go-mysql-org/go-mysql/mysql"
	"github.com/go-mysql-org/go-mysql/replication"

	"github.com/tandem-dc/tandem/shared/event"
	"github.com/tandem-dc/tandem/shared/sqldb"
	"github.com/tandem-dc/tandem/shared/tableinfo"
)

type fixedCatalog map[string]*tableinfo.Table

func (c fixedCatalog) table(_, name string) (*tableinfo.Table, error) { return c[name], nil }

func testAssembler(f sqldb.Flavor) *assembler {
	a := newAssembler(Position{File: "binlog.000001", Pos: 4}, nil)
	a.build = builder{flavor: f, collations: map[uint64]collation{255: {"utf8mb4", "utf8mb4_0900_ai_ci"}, 28: {"gbk", "gbk_chinese_ci"}}}
	a.catalog = fixedCatalog{"t": {DB: "d", Name: "t", Columns: []tableinfo.Column{
		{Name: "id", DataType: "int", ColumnType: "int"}, {Name: "v", DataType: "varchar", Charset: "utf8mb4", Collation: "utf8mb4_0900_ai_ci"}},
		Unique: []tableinfo.Index{{Name: "PRIMARY", Primary: true, Columns: []string{"id"}, Prefix: []int{0}}}}}
	a.maxBytes, a.now, a.log, a.server = 1<<20, time.Now, slog.New(slog.DiscardHandler), "s"
	return a
}

func packedBytes(b []byte) []byte { return append([]byte{byte(len(b))}, b...) }

// tableMapBody builds a TABLE_MAP event of d.<name>.
func tableMapBody(name string, types, meta, optional []byte) []byte {
	b := []byte{9, 0, 0, 0, 0, 0, 0, 0}
	b = append(append(append(b, 1), 'd'), 0)
	b = append(append(b, packedBytes([]byte(name))...), 0)
	b = append(append(b, packedBytes(types)...), packedBytes(meta)...)
	b = append(b, make([]byte, (len(types)+7)/8)...)
	return append(b, optional...)
}

func rowsBody(columns int, update bool, images ...byte) []byte {
	b := []byte{9, 0, 0, 0, 0, 0, 1, 0, 2, 0, byte(columns)}
	present := make([]byte, (columns+7)/8)
	for i := range present {
		present[i] = 0xff
	}
	b = append(b, present...)
	if update {
		b = append(b, present...)
	}
	return append(b, images...)
}

func queryBody(db, sql string) []byte {
	b := make([]byte, 13)
	b[8] = byte(len(db))
	return append(append(append(b, db...), 0), sql...)
}

// script is events one after another: type, flags, length (2 bytes), body.
func script(events ...any) []byte {
	var b []byte
	for i := 0; i < len(events); i += 2 {
		body := events[i+1].([]byte)
		b = append(b, byte(events[i].(replication.EventType)), 0)
		b = append(binary.LittleEndian.AppendUint16(b, uint16(len(body))), body...)
	}
	return b
}

func play(a *assembler, data []byte) error {
	pos := uint32(4)
	for len(data) >= 4 {
		n := min(int(binary.LittleEndian.Uint16(data[2:])), len(data)-4)
		pos += uint32(n)
		h := &replication.EventHeader{Timestamp: 1_700_000_000, EventType: replication.EventType(data[0]), Flags: uint16(data[1]), LogPos: pos, ServerID: 5}
		raw := append(make([]byte, replication.EventHeaderSize), data[4:4+n]...)
		if err := a.event(h, raw); err != nil {
			return err
		}
		data = data[4+n:]
	}
	return nil
}

// Whatever bytes a server sends, the assembler neither panics nor makes a
// transaction that the payload's decoder would refuse.
func FuzzAssembler(f *testing.F) {
	gtid := append([]byte{1}, make([]byte, 24)...)
	gtid[17] = 7
	allTypes := []byte{mysql.MYSQL_TYPE_TINY, mysql.MYSQL_TYPE_LONGLONG, mysql.MYSQL_TYPE_NEWDECIMAL, mysql.MYSQL_TYPE_DOUBLE, mysql.MYSQL_TYPE_BIT,
		mysql.MYSQL_TYPE_TIME2, mysql.MYSQL_TYPE_DATETIME2, mysql.MYSQL_TYPE_STRING, mysql.MYSQL_TYPE_STRING, mysql.MYSQL_TYPE_BLOB, mysql.MYSQL_TYPE_JSON}
	meta := []byte{10, 2, 8, 1, 1, 6, 3, mysql.MYSQL_TYPE_ENUM, 1, 254, 9, 2, 4}
	names := []byte{4, 22, 1, 'a', 1, 'b', 1, 'c', 1, 'd', 1, 'e', 1, 'f', 1, 'g', 1, 'h', 1, 'i', 1, 'j', 1, 'k'}
	optional := append([]byte{1, 1, 0xff, 2, 1, 63, 6, 4, 1, 2, 'x', 'y'}, names...)
	optional = append(optional, 10, 1, 255)
	simple := tableMapBody("t", []byte{mysql.MYSQL_TYPE_LONG, mysql.MYSQL_TYPE_VARCHAR}, []byte{40, 0}, []byte{2, 2, 0xfc, 0xff})
	for _, s := range [][]byte{
		script(replication.GTID_EVENT, gtid, replication.QUERY_EVENT, queryBody("d", "BEGIN"), replication.TABLE_MAP_EVENT, simple,
			replication.WRITE_ROWS_EVENTv2, rowsBody(2, false, 0, 1, 0, 0, 0, 1, 'x'), replication.UPDATE_ROWS_EVENTv2, rowsBody(2, true, 0, 1, 0, 0, 0, 1, 'x', 2, 1, 0, 0, 0),
			replication.XID_EVENT, make([]byte, 8)),
		script(replication.GTID_EVENT, gtid, replication.QUERY_EVENT, queryBody("d", "BEGIN"), replication.TABLE_MAP_EVENT, tableMapBody("u", allTypes, meta, optional),
			replication.WRITE_ROWS_EVENTv2, rowsBody(11, false, append([]byte{0, 0}, make([]byte, 60)...)...), replication.XID_EVENT, make([]byte, 8)),
		script(replication.QUERY_EVENT, queryBody("d", "ALTER TABLE t ADD x INT"), replication.QUERY_EVENT, queryBody("", "/*!50000 DROP */ DATABASE `a``b`")),
		script(replication.QUERY_EVENT, queryBody("d", "XA START 'a'"), replication.XA_PREPARE_LOG_EVENT, []byte{0, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 'a'},
			replication.QUERY_EVENT, queryBody("d", "XA COMMIT X'61',X'',1")),
		script(replication.ROTATE_EVENT, append(make([]byte, 8), "binlog.000002"...), replication.HEARTBEAT_EVENT, []byte("binlog.000002"), replication.INCIDENT_EVENT, []byte{1}),
		script(replication.MARIADB_GTID_EVENT, []byte{1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}, replication.MARIADB_QUERY_COMPRESSED_EVENT, queryBody("d", "x")),
		script(replication.GTID_EVENT, gtid, replication.TRANSACTION_PAYLOAD_EVENT, []byte{2, 1, 255, 0, 0, 0, 0, 0}),
	} {
		f.Add(false, s)
		f.Add(true, s)
	}
	f.Fuzz(func(t *testing.T, mariadb bool, data []byte) {
		flavor := sqldb.MySQL
		if mariadb {
			flavor = sqldb.MariaDB
		}
		a := testAssembler(flavor)
		_ = play(a, data)
		for _, i := range a.out {
			if i.Position == (Position{}) {
				t.Fatalf("item without a position: %+v", i)
			}
			if i.Txn == nil {
				continue
			}
			if _, err := event.DecodeTransaction(i.Txn.Payload.AppendJSON(nil)); err != nil && !strings.Contains(err.Error(), "repeated") && !strings.Contains(err.Error(), "missing") {
				t.Fatalf("%v in %+v", err, i.Txn.Payload)
			}
		}
	})
}

func FuzzJSON(f *testing.F) {
	f.Add([]byte{jsonSmallObject, 1, 0, 12, 0, 11, 0, 1, 0, jsonInt16, 5, 0, 'a'})
	f.Add([]byte{jsonSmallArray, 2, 0, 10, 0, jsonLiteral, 1, 0, jsonInt16, 7, 0})
	f.Add([]byte{jsonOpaque, mysql.MYSQL_TYPE_NEWDECIMAL, 4, 3, 2, 0x81, 10})
	f.Fuzz(func(t *testing.T, doc []byte) { _, _ = jsonDocument(doc) })
}

var errBroken = errors.New("broken")

type brokenCatalog struct{}

func (brokenCatalog) table(_, _ string) (*tableinfo.Table, error) { return nil, errBroken }
