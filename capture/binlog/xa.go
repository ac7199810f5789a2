package binlog

import (
	"errors"
	"fmt"
	"strings"

	"github.com/go-mysql-org/go-mysql/replication"
)

// A transaction of two phases stands in the binlog where it was prepared, and
// whether it counts is told later by XA COMMIT or XA ROLLBACK, which may come
// after a restart of ours. Until then the position leaves its GTID out, so that the
// server sends it again. MariaDB's positions cannot leave one out: there a
// restart in between ends with an error rather than with lost rows.

func (a *assembler) xa(h *replication.EventHeader, s statement) error {
	switch s.verb {
	case xaStart:
		a.txn.started = true
		return nil
	case xaEnd:
		return nil
	}
	xid := strings.ToLower(s.name)
	g := a.prepared[xid]
	end := a.txn
	a.txn = nil
	delete(a.prepared, xid)
	if g != nil {
		a.parked -= g.size
		a.executed(g)
	}
	a.executed(end)
	a.advance(h)
	switch {
	case s.verb == xaRollback:
		g = end
	case g == nil:
		return fmt.Errorf("XA COMMIT %.200s: the prepared transaction lies before the position where reading began. Start from a position before its XA PREPARE", s.name)
	default:
		g.id, g.hasID, g.idText, g.server, g.commitUS = end.id, end.hasID, end.idText, end.server, end.commitUS
	}
	a.emit(h, g)
	return nil
}

// xaPrepare ends the first phase, or the whole transaction if it has one only.
func (a *assembler) xaPrepare(h *replication.EventHeader, body []byte) error {
	c := &cursor{b: body}
	onePhase, format := c.byte() != 0, int32(c.little(4))
	gtrid, bqual := int(c.little(4)), int(c.little(4))
	// Written as the servers write it in XA COMMIT.
	xid := fmt.Sprintf("x'%x',x'%x',%d", c.take(gtrid), c.take(bqual), format)
	if c.err != nil {
		return c.err
	}
	if onePhase {
		return a.commit(h)
	}
	g := a.txn
	if g == nil {
		return errors.New("XA PREPARE outside of a transaction")
	}
	a.txn = nil
	a.prepared[xid] = g
	a.parked += g.size
	if _, holes := a.set.(*mysqlSet); !holes || !g.hasID {
		a.log.Warn("binlog: an XA transaction is prepared; if capture restarts before it is committed, reading stops", "xid", xid)
	}
	return nil
}
