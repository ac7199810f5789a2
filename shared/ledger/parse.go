package ledger

import (
	"strconv"
	"strings"

	"github.com/tandem-dc/tandem/shared/event"
)

// Row is one claimed slot.
type Row struct {
	Origin      string
	Epoch       uint64
	Seq         uint64
	GTID        string
	CommittedUS uint64 // commit at the origin, µs since 1970
}

// ParseRow reads the after image of a row event on Table. ok is false for rows
// that claim nothing (a ring being laid out, or cleared for a new epoch: seq
// 0) and for images that do not look like the ledger's. Such a transaction is
// tandem's own all the same and is not replicated.
func ParseRow(image []event.Value) (row Row, ok bool) {
	if len(image) < columns {
		return Row{}, false
	}
	number := func(i int) uint64 {
		n, err := strconv.ParseUint(string(image[i].Data), 10, 64)
		if image[i].Kind != event.Data || err != nil {
			return 0
		}
		return n
	}
	row = Row{
		Origin: string(image[colOrigin].Data), Epoch: number(colEpoch), Seq: number(colSeq),
		GTID: string(image[colGTID].Data), CommittedUS: number(colCommitted),
	}
	if event.CheckName(row.Origin) != nil || row.Epoch == 0 || row.Seq == 0 {
		return Row{}, false
	}
	return row, true
}

// Mark is the row as an event's attributes name it.
func (r Row) Mark() event.Mark { return event.Mark{Origin: r.Origin, Epoch: r.Epoch, Sequence: r.Seq} }

// IsOwn reports whether a database is tandem's.
func IsOwn(db string) bool { return strings.EqualFold(db, Database) }

// Slot returns the slot that seq claims.
func Slot(seq uint64) uint32 { return uint32(seq % RingSize) }
