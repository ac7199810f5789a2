// Package binlog answers what a server commits, as whole transactions in binlog
// order with exact values, and from which position to go on.
//
// go-mysql's syncer reads the stream; tables, rows and values are decoded here,
// because every type must arrive exactly as the server stores it. Reconnecting is
// left to the caller: Run returns an error and is called again with the
// position of the last item that is safe.
package binlog

import (
	"fmt"
	"time"

	"github.com/tandem-dc/tandem/shared/event"
	"github.com/tandem-dc/tandem/shared/sqldb"
	"github.com/tandem-dc/tandem/shared/writeset"
)

// Position is a place between two transactions of a binlog. It is opaque to all
// but this package, comparable, and travels as JSON. The zero value is no position.
type Position struct {
	// GTIDSet is what a server with GTIDs has executed up to here; it is used
	// to resume whenever it is not empty.
	GTIDSet string `json:"gtid_set,omitempty"`
	File    string `json:"file,omitempty"`
	Pos     uint32 `json:"pos,omitempty"` // bytes
}

// String prints the position for people.
func (p Position) String() string {
	switch {
	case p == Position{}:
		return "none"
	case p.GTIDSet == "":
		return fmt.Sprintf("%s:%d", p.File, p.Pos)
	case p.File == "":
		return p.GTIDSet
	}
	return fmt.Sprintf("%s (%s:%d)", p.GTIDSet, p.File, p.Pos)
}

// Txn is one local transaction to replicate.
type Txn struct {
	Payload    event.Transaction
	CommitTime time.Time // µs, UTC
	Keys       []writeset.Key
	// Barrier tells that everything before must be applied first, and all later
	// transactions after: DDL, and rows whose keys cannot be told.
	Barrier bool
	// Applied is what this server had applied from others when it committed. The
	// slice is shared between transactions: do not change it.
	Applied []event.Mark
	End     Position
	Size    int // bytes in the binlog
}

// Item is one step in binlog order: a transaction to replicate, or only an
// advanced position, because what was read is a replicated transaction,
// filtered, or a heartbeat of the server.
type Item struct {
	Txn      *Txn // nil: nothing to send
	Position Position
	// Time is up to when the binlog is known to have been read: the commit time of what
	// was read, or the reader's clock at a heartbeat of the server, which
	// it sends only when there is nothing else.
	Time    time.Time
	Applied []event.Mark // as in Txn
	Skipped Skipped      // why there is no Txn
}

// Skipped is the reason why what was read is not sent.
type Skipped string

// The reasons.
const (
	Sent       Skipped = ""           // it is
	Replicated Skipped = "replicated" // applied from another datacenter, or its DDL
	Filtered   Skipped = "filtered"   // nothing in it is to be replicated
	Idle       Skipped = "idle"       // a heartbeat of the server, a new binlog file
)

// Config says which binlog is read and how. It is used by New, which fills in defaults.
type Config struct {
	MySQL  sqldb.Config `key:"mysql"`
	Flavor sqldb.Flavor `key:"flavor" help:"mysql or mariadb; empty: ask the server"`
	// ServerID is our id as a replica. It must differ from that of every server
	// and of every other replica of this source, or the source drops the older
	// connection.
	ServerID uint32 `key:"server-id" help:"our id as a replica, unique among all servers and replicas of the source; 0: drawn at start"`
	// Heartbeat is how often an idle source says that it lives. After
	// five of them, and 3 s at least, without a byte the connection counts as dead.
	Heartbeat time.Duration `key:"heartbeat" default:"1s" help:"how often an idle source says that it lives; after five times that (and 3s) without a byte the connection counts as dead"`
	// MaxTxnBytes bounds the memory for one transaction, in bytes of binlog.
	MaxTxnBytes int64 `key:"max-txn-bytes" default:"268435456" help:"largest transaction, in bytes of binlog; a larger one stops the stream"`
	// Include and Exclude choose what is replicated: "db", "db.table", with
	// * for any characters. Include empty: everything. Databases of the server
	// and of tandem are never replicated.
	Include []string `key:"include" help:"what to replicate: db or db.table, * for any characters; empty: everything"`
	Exclude []string `key:"exclude" help:"what not to replicate, likewise; stronger than include"`
}
