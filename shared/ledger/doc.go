// Package ledger answers what of a peer's stream is applied here: the tables of
// the tandem schema, and the ring of slots that is claimed in the transaction
// that holds the data.
//
// A sequence claims slot sequence mod RingSize, and only if the slot holds a
// smaller (epoch, sequence). The caller keeps one rule: it never claims a
// sequence more than RingSize above the low-water mark, so that what a slot held
// before is certainly applied. Then the ring alone tells what is applied.
package ledger

import (
	"fmt"

	"github.com/tandem-dc/tandem/shared/sqldb"
)

const (
	// Database holds tandem's own tables. Nothing in it is ever replicated.
	Database = "tandem"
	// Table is the ledger's name in Database.
	Table = "ledger"
	// RingSize is the number of slots per origin: how far apply may run ahead of
	// the low-water mark, in sequences.
	RingSize = 4096
)

// Columns of Table in order, as they stand in the binlog.
const (
	colOrigin = iota
	colSlot
	colEpoch
	colSeq
	colGTID
	colCommitted
	columns
)

// Grants returns the statements that give user@host what apply needs on the
// tandem schema; its rights on the replicated databases come on top.
func Grants(user, host string) []string {
	account := sqldb.QuoteString(user) + "@" + sqldb.QuoteString(host)
	return []string{fmt.Sprintf("GRANT SELECT, INSERT, UPDATE, DELETE ON %s.* TO %s", sqldb.Quote(Database), account)}
}
