package binlog

import (
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/go-mysql-org/go-mysql/replication"

	"github.com/tandem-dc/tandem/shared/event"
	"github.com/tandem-dc/tandem/shared/sqldb"
	"github.com/tandem-dc/tandem/shared/tableinfo"
)

// StopError is what only people can end: the binlog holds, or has lost, something
// that cannot be replicated. Reading again from the same position fails again.
type StopError struct {
	At  string // file:position
	Err error
}

func (e *StopError) Error() string { return "binlog " + e.At + ": " + e.Err.Error() }

func (e *StopError) Unwrap() error { return e.Err }

// catalog tells the live definition of a table; nil without an error: it does
// not exist.
type catalog interface {
	table(db, name string) (*tableinfo.Table, error)
}

// assembler makes whole transactions of binlog events. It does no I/O but
// through its catalog.
type assembler struct {
	build    builder
	catalog  catalog
	filter   filter
	server   string // for transactions without a GTID
	maxBytes int64
	now      func() time.Time
	log      *slog.Logger

	checksum bool    // events end with one
	file     string  // that the events are in
	set      gtidSet // executed; nil: not known, or there are no GTIDs
	pos      Position
	marks    marks

	plans    map[tableName]*plan
	shapes   map[tableName]string
	tables   map[uint64]*plan // by table id, within a transaction
	txn      *group           // that is coming in; nil: none
	prepared map[string]*group
	parked   int64 // bytes in prepared

	out []Item // done, to be handed over
}

type tableName struct{ db, name string }

// newAssembler goes on from a position. Where GTIDs tell the place, its file may
// be another server's and is forgotten.
func newAssembler(from Position, set gtidSet) *assembler {
	if set != nil {
		from.File, from.Pos = "", 0
	}
	return &assembler{
		file: from.File, pos: from, set: set, plans: map[tableName]*plan{}, shapes: map[tableName]string{},
		tables: map[uint64]*plan{}, prepared: map[string]*group{},
	}
}

// event takes one event: its header and all its bytes. Whole transactions are
// appended to out. After an error the assembler cannot go on.
func (a *assembler) event(h *replication.EventHeader, raw []byte) error {
	if len(raw) < replication.EventHeaderSize {
		return a.stop(h, errShort)
	}
	body := raw[replication.EventHeaderSize:]
	if h.EventType == replication.FORMAT_DESCRIPTION_EVENT {
		f := &replication.FormatDescriptionEvent{}
		if err := decode(f, body); err != nil {
			return a.stop(h, err)
		}
		a.checksum = f.ChecksumAlgorithm == replication.BINLOG_CHECKSUM_ALG_CRC32
		return nil
	}
	if a.checksum {
		if len(body) < replication.BinlogChecksumLength {
			return a.stop(h, errShort)
		}
		body = body[:len(body)-replication.BinlogChecksumLength]
	}
	return a.dispatch(h, body)
}

// decode lets go-mysql decode an event; its decoders index without looking.
func decode(e replication.Event, body []byte) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("%T cannot be decoded: %v", e, r)
		}
	}()
	return e.Decode(body)
}

// stop makes an error that names the place. Errors of the catalog pass by themselves.
func (a *assembler) stop(h *replication.EventHeader, err error) error {
	var stop *StopError
	var passing *catalogError
	if err == nil || errors.As(err, &stop) || errors.As(err, &passing) {
		return err
	}
	return &StopError{At: fmt.Sprintf("%s:%d", a.file, h.LogPos), Err: err}
}

// catalogError wraps what went wrong while the server was asked.
type catalogError struct{ error }

func (e *catalogError) Unwrap() error { return e.error }

func (a *assembler) dispatch(h *replication.EventHeader, body []byte) error {
	if err := a.grow(len(body)); err != nil {
		return a.stop(h, err)
	}
	if rowsOp(h.EventType) != 0 {
		return a.stop(h, a.rows(h.EventType, body))
	}
	var err error
	switch h.EventType {
	case replication.TABLE_MAP_EVENT:
		err = a.tableMap(body)
	case replication.GTID_EVENT, replication.ANONYMOUS_GTID_EVENT, replication.GTID_TAGGED_LOG_EVENT:
		err = a.mysqlGTID(h, body)
	case replication.MARIADB_GTID_EVENT:
		err = a.mariadbGTID(h, body)
	case replication.QUERY_EVENT, replication.MARIADB_QUERY_COMPRESSED_EVENT:
		err = a.query(h, body)
	case replication.XID_EVENT:
		err = a.commit(h)
	case replication.XA_PREPARE_LOG_EVENT:
		err = a.xaPrepare(h, body)
	case replication.TRANSACTION_PAYLOAD_EVENT:
		err = a.payload(h, body)
	case replication.ROTATE_EVENT:
		err = a.rotate(h, body)
	case replication.HEARTBEAT_EVENT, replication.HEARTBEAT_LOG_EVENT_V2:
		a.idle()
	case replication.PREVIOUS_GTIDS_EVENT, replication.MARIADB_GTID_LIST_EVENT:
		a.previousGTIDs(h, body)
	case replication.EXECUTE_LOAD_QUERY_EVENT:
		err = a.text("", "LOAD DATA, logged as text")
	case replication.INCIDENT_EVENT:
		err = errors.New("the server tells of an incident: it may have lost events here. Compare both datacenters, then start behind this position")
	default:
		if !harmless[h.EventType] && h.Flags&replication.LOG_EVENT_IGNORABLE_F == 0 {
			err = fmt.Errorf("event type %d is unknown: this version of tandem cannot read it", h.EventType)
		}
	}
	return a.stop(h, err)
}

// harmless are events that carry nothing to replicate.
var harmless = map[replication.EventType]bool{
	replication.STOP_EVENT: true, replication.SLAVE_EVENT: true, replication.INTVAR_EVENT: true, replication.RAND_EVENT: true,
	replication.USER_VAR_EVENT: true, replication.IGNORABLE_EVENT: true, replication.ROWS_QUERY_EVENT: true,
	replication.APPEND_BLOCK_EVENT: true, replication.BEGIN_LOAD_QUERY_EVENT: true, replication.DELETE_FILE_EVENT: true,
	replication.TRANSACTION_CONTEXT_EVENT: true, replication.VIEW_CHANGE_EVENT: true,
	replication.MARIADB_ANNOTATE_ROWS_EVENT: true, replication.MARIADB_BINLOG_CHECKPOINT_EVENT: true, replication.MARIADB_START_ENCRYPTION_EVENT: true,
}

// grow counts the bytes of the transaction that is coming in.
func (a *assembler) grow(n int) error {
	if a.txn == nil {
		return nil
	}
	a.txn.size += int64(n)
	if a.txn.size+a.parked > a.maxBytes {
		return fmt.Errorf("a transaction is larger than max-txn-bytes, %d bytes: raise it to what memory allows", a.maxBytes)
	}
	return nil
}

// start begins a transaction. One that never ended is forgotten: the server
// sends it again from its start.
func (a *assembler) start(g *group) {
	if a.txn != nil {
		a.log.Warn("binlog: a transaction without an end is read again", "gtid", a.txn.idText, "rows", len(a.txn.rows))
	}
	a.txn = g
	clear(a.tables)
}

// commit ends the transaction that is coming in.
func (a *assembler) commit(h *replication.EventHeader) error {
	g := a.txn
	if g == nil {
		return errors.New("a commit without a transaction")
	}
	a.txn = nil
	a.executed(g)
	a.advance(h)
	a.emit(h, g)
	return nil
}

// executed books the transaction in the GTID set. One without a GTID ends the
// use of the set, which could not tell whether it was read.
func (a *assembler) executed(g *group) {
	if a.set != nil && !g.hasID {
		a.set = nil
	}
	if a.set != nil {
		a.set.add(g.id)
	}
}

// advance moves the position behind the event.
func (a *assembler) advance(h *replication.EventHeader) {
	a.pos = Position{File: a.file, Pos: h.LogPos}
	if a.set != nil {
		a.pos.GTIDSet = a.set.String()
	}
}

// emit hands over a transaction, or what became of it.
func (a *assembler) emit(h *replication.EventHeader, g *group) {
	at := g.commitTime(h.Timestamp, a.now())
	for _, m := range g.marks {
		a.marks.add(m.Origin, m.Epoch, m.Sequence)
	}
	item := Item{Position: a.pos, Time: at, Applied: a.marks.shared}
	switch {
	case g.replicated || g.ours:
		item.Skipped = Replicated
	case len(g.rows) == 0 && len(g.statements) == 0:
		item.Skipped = Filtered
	default:
		item.Txn = g.txn(a.pos, at, a.marks.shared)
	}
	a.out = append(a.out, item)
}

// idle tells that there is nothing more to read for now.
func (a *assembler) idle() {
	if a.txn == nil && a.pos != (Position{}) {
		a.out = append(a.out, Item{Position: a.pos, Time: a.now().UTC(), Applied: a.marks.shared, Skipped: Idle})
	}
}

// text books a statement that was logged instead of rows.
func (a *assembler) text(db, sql string) error {
	if a.txn == nil {
		return errors.New("a statement outside of a transaction")
	}
	a.txn.statements = append(a.txn.statements, event.Statement{DB: db, SQL: sql})
	return nil
}

func (a *assembler) flavor() sqldb.Flavor { return a.build.flavor }
