package shop

import (
	"errors"
	"fmt"
	"sync"
	"time"
)

// An id is 63 bits, so it fits a signed BIGINT: datacenter, milliseconds since
// idEpoch, sequence within the millisecond.
const (
	seqBits  = 16
	timeBits = 41 // 69 years
	dcShift  = seqBits + timeBits

	// MaxDC is the largest datacenter number an id can carry.
	MaxDC = 1<<(63-dcShift) - 1
)

var idEpoch = time.Date(2025, 1, 1, 0, 0, 0, 0, time.UTC)

// maxAhead is how far ids may run ahead of the clock: a burst borrows from the
// next milliseconds, a small step of the clock is sat out.
const maxAhead = time.Second

// ErrClockBackward means that the clock stands so far behind the newest id that
// going on would use times which have not come yet. The remedy is to repair the clock.
var ErrClockBackward = errors.New("the clock ran backward: repair it, ids continue once it has passed the newest one")

// IDs mints ids of one datacenter, each larger than the one before. It is safe
// for concurrent use. Two generators of one datacenter must not run at once.
type IDs struct {
	dc  int
	now func() time.Time

	mu   sync.Mutex
	last int64 // time and sequence of the newest id
}

// NewIDs returns a generator for datacenter dc (1 to MaxDC) whose ids are larger
// than floor, the newest id that an earlier generator handed out; 0 if there was none.
func NewIDs(dc int, floor int64) (*IDs, error) {
	if dc < 1 || dc > MaxDC {
		return nil, fmt.Errorf("datacenter number %d is not within 1 to %d", dc, MaxDC)
	}
	g := &IDs{dc: dc, now: time.Now}
	if floor != 0 {
		if Home(floor) != dc {
			return nil, fmt.Errorf("id %d belongs to datacenter %d, not %d", floor, Home(floor), dc)
		}
		g.last = floor & (1<<dcShift - 1)
	}
	return g, nil
}

// Next returns the next id, or ErrClockBackward.
func (g *IDs) Next() (int64, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	now := g.now().Sub(idEpoch).Milliseconds()
	next := max(g.last+1, now<<seqBits)
	if ahead := time.Duration(next>>seqBits-now) * time.Millisecond; ahead > maxAhead {
		return 0, fmt.Errorf("%w (%v behind)", ErrClockBackward, ahead)
	}
	if next>>dcShift != 0 {
		return 0, fmt.Errorf("time %v does not fit an id", g.now())
	}
	g.last = next
	return int64(g.dc)<<dcShift | next, nil
}

// Home returns the number of the datacenter that minted id.
func Home(id int64) int { return int(id >> dcShift) }

// seeded returns the id of the nth row (from 1) of a kind that Seed makes. Times
// this early are never minted by Next.
func seeded(dc, n int) int64 { return int64(dc)<<dcShift | int64(n) }
