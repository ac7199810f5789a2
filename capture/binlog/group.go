package binlog

import (
	"strconv"
	"time"

	"github.com/tandem-dc/tandem/shared/event"
	"github.com/tandem-dc/tandem/shared/sqldb"
	"github.com/tandem-dc/tandem/shared/writeset"
)

// group is a transaction while its events come in.
type group struct {
	id       gtid
	hasID    bool   // false: the server has no GTIDs, or this one has a tag
	idText   string // as the payload carries it
	server   string
	commitUS uint64 // commit time in µs; 0: the server logs none
	started  bool   // BEGIN was seen: statements do not stand for themselves

	rowsSeen   bool
	replicated bool // its first row is the ledger's: applied from another datacenter
	marks      []event.Mark
	statements []event.Statement
	ours       bool // a DDL that tandem applied

	tables     []event.Table
	tableAt    map[*plan]int
	rows       []event.Row
	keys       []writeset.Key
	barrier    bool
	savepoints map[string]int // rows at that moment
	size       int64
}

// place returns the index of p's table in the payload.
func (g *group) place(p *plan) int {
	at, ok := g.tableAt[p]
	if !ok {
		if g.tableAt == nil {
			g.tableAt = map[*plan]int{}
		}
		at = len(g.tables)
		g.tableAt[p] = at
		g.tables = append(g.tables, p.table)
	}
	return at
}

// cut forgets the rows after the first n.
func (g *group) cut(n int) { g.rows = g.rows[:n] }

// agree is how far a reader's clock may lie from the logged second and still
// stand in for the commit time.
const agree = 2 * time.Second

// commitTime is when the transaction was committed. second is that of its last
// event; the reader's clock refines it where the server logs no fraction.
func (g *group) commitTime(second uint32, now time.Time) time.Time {
	if g.commitUS != 0 {
		return time.UnixMicro(int64(g.commitUS)).UTC()
	}
	logged := time.Unix(int64(second), 0).UTC()
	if d := now.Sub(logged); d >= -agree && d <= agree {
		return now.UTC().Truncate(time.Microsecond)
	}
	return logged
}

// txn makes the transaction to send.
func (g *group) txn(end Position, at time.Time, applied []event.Mark) *Txn {
	t := &Txn{
		Payload: event.Transaction{
			Server: g.server, GTID: g.idText, File: end.File, Pos: end.Pos, Tables: g.tables, Rows: g.rows,
		},
		CommitTime: at, Keys: g.keys, Barrier: g.barrier, Applied: applied, End: end, Size: int(g.size),
	}
	if len(g.statements) > 0 {
		s := g.statements[0]
		for _, more := range g.statements[1:] {
			s.SQL += ";\n" + more.SQL
			s.DDL = false // no server logs two in one transaction
		}
		if len(g.rows) > 0 {
			s.DDL = false // a table made and filled in one transaction is no plain DDL
		}
		t.Payload.Statement, t.Barrier = &s, true
	}
	return t
}

func (g *group) identify(f sqldb.Flavor, id gtid, tag string) {
	g.id, g.hasID = id, tag == ""
	if f == sqldb.MariaDB {
		g.idText, g.server = id.mariadb(), strconv.FormatUint(uint64(id.server), 10)
		return
	}
	g.server = id.sid.String()
	g.idText = id.mysql()
	if tag != "" {
		g.idText = g.server + ":" + tag + ":" + strconv.FormatUint(id.number, 10)
	}
}
