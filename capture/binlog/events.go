package binlog

import (
	"bytes"
	"errors"
	"fmt"
	"strings"

	"github.com/go-mysql-org/go-mysql/replication"
	"github.com/google/uuid"
	"github.com/klauspost/compress/zstd"

	"github.com/tandem-dc/tandem/shared/event"
	"github.com/tandem-dc/tandem/shared/ledger"
	"github.com/tandem-dc/tandem/shared/sqldb"
)

func (a *assembler) mysqlGTID(h *replication.EventHeader, body []byte) error {
	e := &replication.GTIDEvent{}
	if h.EventType == replication.GTID_TAGGED_LOG_EVENT {
		tagged := &replication.GtidTaggedLogEvent{}
		if err := decode(tagged, body); err != nil {
			return err
		}
		e = &tagged.GTIDEvent
	} else if err := decode(e, body); err != nil {
		return err
	}
	g := &group{commitUS: e.OriginalCommitTimestamp, server: a.server}
	if h.EventType != replication.ANONYMOUS_GTID_EVENT {
		sid, err := uuid.FromBytes(e.SID)
		if err != nil {
			return err
		}
		g.identify(sqldb.MySQL, gtid{sid: sid, number: uint64(e.GNO)}, e.Tag)
	}
	a.start(g)
	return nil
}

func (a *assembler) mariadbGTID(h *replication.EventHeader, body []byte) error {
	e := &replication.MariadbGTIDEvent{}
	if err := decode(e, body); err != nil {
		return err
	}
	g := &group{started: !e.IsStandalone()}
	g.identify(sqldb.MariaDB, gtid{domain: e.GTID.DomainID, server: h.ServerID, number: e.GTID.SequenceNumber}, "")
	a.start(g)
	return nil
}

// rotate learns the file of the events that follow. Only a rotation that stands in the
// binlog moves the position: the server invents others.
func (a *assembler) rotate(h *replication.EventHeader, body []byte) error {
	e := &replication.RotateEvent{}
	if err := decode(e, body); err != nil {
		return err
	}
	a.file = string(e.NextLogName)
	invented := h.Flags&replication.LOG_EVENT_ARTIFICIAL_F != 0 || h.Timestamp == 0 || h.LogPos == 0
	if invented || a.txn != nil || a.pos == (Position{}) {
		return nil
	}
	at := a.pos.GTIDSet
	a.pos = Position{GTIDSet: at, File: a.file, Pos: uint32(e.Position)}
	a.out = append(a.out, Item{Position: a.pos, Time: a.now().UTC(), Applied: a.marks.shared, Skipped: Idle})
	return nil
}

// previousGTIDs begins a file with what the earlier ones hold. It is needed only where
// reading began at a file and position.
func (a *assembler) previousGTIDs(h *replication.EventHeader, body []byte) {
	if a.set != nil || a.txn != nil || len(a.prepared) > 0 || h.Flags&replication.LOG_EVENT_ARTIFICIAL_F != 0 || h.LogPos == 0 {
		return
	}
	text := previousMariaDB(body)
	if h.EventType == replication.PREVIOUS_GTIDS_EVENT {
		text = previousMySQL(body)
	}
	if text == "" {
		return
	}
	set, err := parseGTIDSet(a.flavor(), text)
	if err != nil {
		return // tags: the file and position go on to serve
	}
	a.set = set
	a.advance(h)
}

func (a *assembler) tableMap(body []byte) error {
	c := &cursor{b: body}
	id := c.little(6)
	c.take(2)
	rest := c.b
	name := tableName{db: string(c.take(int(c.byte())))}
	c.take(1)
	name.name = string(c.take(int(c.byte())))
	if c.err != nil {
		return c.err
	}
	p := a.plans[name]
	if p == nil || !bytes.Equal(p.body, rest) {
		var err error
		if p, err = a.plan(name, body); err != nil {
			return err
		}
		a.plans[name] = p
		if p.use == send {
			shape, known := a.shapes[name]
			if known && shape != p.shape && a.txn != nil {
				a.txn.barrier = true
			}
			a.shapes[name] = p.shape
		}
	}
	a.tables[id] = p
	return nil
}

func (a *assembler) plan(name tableName, body []byte) (*plan, error) {
	isLedger := name == tableName{ledger.Database, ledger.Table}
	if !isLedger && !a.filter.table(name.db, name.name) {
		return &plan{use: drop, body: bytes.Clone(body[8:])}, nil
	}
	t, err := parseTableMap(a.flavor(), body)
	if err != nil {
		return nil, err
	}
	info, err := a.catalog.table(name.db, name.name)
	if err != nil {
		return nil, &catalogError{err}
	}
	p, err := a.build.build(t, info)
	if err != nil {
		return nil, err
	}
	if isLedger {
		p.use = isMark
	} else if p.unsure != "" {
		a.log.Warn("binlog: keys of a table cannot be told, its transactions go one after another", "table", name.db+"."+name.name, "reason", p.unsure)
	}
	return p, nil
}

func (a *assembler) rows(t replication.EventType, body []byte) error {
	e, err := parseRows(t, body, a.maxBytes)
	if err != nil {
		return err
	}
	if e.table == noTable {
		return nil
	}
	p, g := a.tables[e.table], a.txn
	if p == nil || g == nil {
		return fmt.Errorf("rows of table id %d without a table map in a transaction", e.table)
	}
	first := !g.rowsSeen
	g.rowsSeen = true
	if p.use == isMark && (first || g.replicated) {
		g.replicated = true
		return a.ledgerRows(e, p, g)
	}
	if p.use != send || g.replicated {
		return nil
	}
	done := len(g.rows)
	if g.rows, err = e.decode(p, g.place(p), g.rows); err != nil {
		return fmt.Errorf("%s.%s: %w", p.table.DB, p.table.Name, err)
	}
	for i := done; i < len(g.rows); i++ {
		g.keys = p.keys.Append(g.keys, &g.rows[i])
	}
	return nil
}

// ledgerRows reads which transactions of others this one applied.
func (a *assembler) ledgerRows(e *rowsEvent, p *plan, g *group) error {
	rows, err := e.decode(p, 0, nil)
	if err != nil {
		return fmt.Errorf("%s.%s: %w", ledger.Database, ledger.Table, err)
	}
	for i := range rows {
		if row, ok := ledger.ParseRow(rows[i].After); ok {
			g.marks = append(g.marks, row.Mark())
		}
	}
	return nil
}

// payload unpacks a compressed transaction (binlog_transaction_compression).
func (a *assembler) payload(h *replication.EventHeader, body []byte) error {
	const (
		fieldEnd, fieldSize, fieldCompression = 0, 1, 2
		zstandard, none                       = 0, 255
	)
	c := &cursor{b: body}
	compression := uint64(zstandard)
	for c.err == nil {
		field := c.packed()
		if field == fieldEnd {
			break
		}
		value := &cursor{b: c.lenBytes()}
		if field == fieldCompression {
			compression = value.packed()
		}
	}
	if c.err != nil {
		return c.err
	}
	events := c.b
	switch compression {
	case none:
	case zstandard:
		d, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(uint64(a.maxBytes)))
		if err != nil {
			return err
		}
		defer d.Close()
		if events, err = d.DecodeAll(events, nil); err != nil {
			if errors.Is(err, zstd.ErrDecoderSizeExceeded) {
				err = fmt.Errorf("larger than max-txn-bytes, %d bytes: raise it to what memory allows", a.maxBytes)
			}
			return fmt.Errorf("compressed transaction: %w", err)
		}
	default:
		return fmt.Errorf("compression %d of a transaction is unknown: SET PERSIST binlog_transaction_compression=OFF at the source", compression)
	}
	for len(events) > 0 {
		inner := &replication.EventHeader{}
		if err := inner.Decode(events); err != nil {
			return fmt.Errorf("compressed transaction: %w", err)
		}
		if uint64(inner.EventSize) > uint64(len(events)) || inner.EventType == replication.TRANSACTION_PAYLOAD_EVENT {
			return fmt.Errorf("compressed transaction: %w", errShort)
		}
		whole := events[:inner.EventSize]
		events = events[inner.EventSize:]
		inner.LogPos = h.LogPos // inner events stand nowhere
		if err := a.dispatch(inner, whole[replication.EventHeaderSize:]); err != nil {
			return err
		}
	}
	return nil
}

// query takes a statement.
func (a *assembler) query(h *replication.EventHeader, body []byte) error {
	e := &replication.QueryEvent{}
	if err := decode(e, body); err != nil {
		return err
	}
	sql := e.Query
	if h.EventType == replication.MARIADB_QUERY_COMPRESSED_EVENT {
		var err error
		if sql, err = decompress(sql, a.maxBytes); err != nil {
			return err
		}
	}
	if a.txn == nil { // a server without GTID events
		a.start(&group{server: a.server})
	}
	g, s := a.txn, parseStatement(sql)
	switch s.verb {
	case begin:
		g.started = true
	case commit:
		return a.commit(h)
	case rollback:
		g.rows, g.keys, g.statements = nil, nil, nil
		return a.commit(h)
	case savepoint:
		if g.savepoints == nil {
			g.savepoints = map[string]int{}
		}
		g.savepoints[strings.ToLower(s.name)] = len(g.rows)
	case rollbackTo:
		g.cut(min(len(g.rows), g.savepoints[strings.ToLower(s.name)]))
	case xaStart, xaEnd, xaCommit, xaRollback:
		return a.xa(h, s)
	default:
		return a.standalone(h, s, string(e.Schema), string(sql))
	}
	return nil
}

// standalone takes a statement that is no bracket of transactions. Unless a
// transaction was begun it ends with it.
func (a *assembler) standalone(h *replication.EventHeader, s statement, db, sql string) error {
	g := a.txn
	if s.verb == ddl || s.verb == createSelect {
		clear(a.plans)
		clear(a.tables)
	}
	switch {
	case s.verb == ignore:
	case s.ours:
		g.ours = true
	case s.verb == dml:
		if a.filter.database(db) {
			g.statements = append(g.statements, event.Statement{DB: db, SQL: sql})
		}
	case a.wanted(s, db):
		g.statements = append(g.statements, event.Statement{DB: db, SQL: sql, DDL: s.verb == ddl})
	}
	if g.started {
		return nil
	}
	return a.commit(h)
}

func (a *assembler) wanted(s statement, db string) bool {
	if s.db != "" {
		db = s.db
	}
	if s.whole || s.name == "" {
		return db == "" || a.filter.database(db)
	}
	return a.filter.table(db, s.name)
}
