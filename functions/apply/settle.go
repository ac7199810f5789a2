package apply

import (
	"github.com/tandem-dc/tandem/shared/event"
	"github.com/tandem-dc/tandem/shared/tableinfo"
)

// Kind is how an event and the row here disagree.
type Kind string

// The kinds of a clash.
const (
	InsertExists  Kind = "insert_exists"  // the key is taken by another row
	UpdateDiffers Kind = "update_differs" // the row is not what the event's before image says
	UpdateMissing Kind = "update_missing" // there is no such row
	DeleteDiffers Kind = "delete_differs"
	DeleteMissing Kind = "delete_missing"
)

// Clash is a row change that does not meet the row it expects.
type Clash struct {
	Kind    Kind
	Table   *tableinfo.Table
	Columns []event.Column // of the images
	Version int            // index of the column that tells the row's time; -1: none
	Row     *event.Row
	Local   []event.Value // the row that stands here, locked; nil: none
	Event   *event.Meta
	DC      string // this datacenter
}

// Decision is which of the two stands.
type Decision struct {
	Winner Winner
	Why    string // one phrase, for the conflict log
}

// Winner is a side.
type Winner string

// The sides.
const (
	EventWins Winner = "event" // the row becomes what the event says
	LocalWins Winner = "local" // the row stays
)

// Settler decides clashes. It is called inside the transaction that applies the event,
// for any number of transactions at once. Both datacenters must come to the same
// row, whichever of two events arrives first.
type Settler interface {
	Settle(c *Clash) Decision
}

// NewestWins takes the row's own ON UPDATE CURRENT_TIMESTAMP column as its
// version, and the commit time as a delete's; on a tie or without such a column
// the datacenter whose name sorts last wins. See docs/decisions/0006.
type NewestWins struct{}

// commitLayout prints a time as the server prints a DATETIME.
const commitLayout = "2006-01-02 15:04:05.000000"

// Settle decides by time, then by name.
func (NewestWins) Settle(c *Clash) Decision {
	switch c.Kind {
	case UpdateMissing:
		return Decision{EventWins, "the row is gone here and comes back"}
	case DeleteMissing:
		return Decision{EventWins, "the row is gone already"}
	}
	if c.Version >= 0 {
		local, ok := version(c.Local[c.Version])
		remote, also := version(event.Of(c.Event.Time.UTC().Format(commitLayout)))
		if c.Row.Op != event.Delete {
			remote, also = version(c.Row.After[c.Version])
		}
		name := c.Columns[c.Version].Name
		switch {
		case !ok || !also:
		case remote > local:
			return Decision{EventWins, name + " is newer in the event"}
		case remote < local:
			return Decision{LocalWins, name + " is newer here"}
		}
	}
	if c.Event.Origin > c.DC {
		return Decision{EventWins, "no time tells; " + c.Event.Origin + " sorts after " + c.DC}
	}
	return Decision{LocalWins, "no time tells; " + c.DC + " sorts after " + c.Event.Origin}
}

func version(v event.Value) (string, bool) {
	return moment(string(v.Data)), v.Kind == event.Data
}
