package writeset

// History remembers which sequence touched which key last. It is not safe for
// concurrent use.
//
// Its memory is bounded: keys lie in two generations, and when the newer one is
// full the older one is forgotten. From then on everything waits for the
// last sequence of the forgotten generation, which is long past, so
// forgetting costs no parallelism.
type History struct {
	start  uint64 // everything depends on it: what came before is not remembered
	newest uint64 // sequence assigned last
	limit  int    // keys in one generation
	old    generation
	young  generation
}

type generation struct {
	keys    map[uint64]last      // by Key.Hash, which covers Key.Index
	indexes map[uint64]indexLast // by Key.Index
	newest  uint64
}

// last holds the newest sequence that touched something in each Mode.
type last [modes]uint64

type indexLast struct {
	any  last // over all keys of the index
	wild last // over its wild keys
}

// DefaultLimit is the number of keys that NewHistory remembers when limit is 0;
// a key costs some 60 bytes.
const DefaultLimit = 1 << 20

// NewHistory returns a History for sequences after start, all of which may depend on
// everything up to start. It remembers at most limit keys (0: DefaultLimit).
func NewHistory(start uint64, limit int) *History {
	if limit <= 0 {
		limit = DefaultLimit
	}
	return &History{start: start, newest: start, limit: max(limit/2, 1), old: newGeneration(), young: newGeneration()}
}

func newGeneration() generation {
	return generation{keys: map[uint64]last{}, indexes: map[uint64]indexLast{}}
}

// Assign records the keys of the transaction seq and returns the newest earlier
// sequence that it depends on. Sequences must grow from call to call.
func (h *History) Assign(seq uint64, keys []Key) (lastCommitted uint64) {
	if len(keys) > h.limit {
		return h.Barrier(seq)
	}
	lastCommitted = h.start
	for _, k := range keys {
		lastCommitted = max(lastCommitted, h.old.newestConflict(k), h.young.newestConflict(k))
	}
	for _, k := range keys {
		h.young.add(seq, k)
	}
	h.newest, h.young.newest = seq, seq
	if len(h.young.keys)+len(h.young.indexes) >= h.limit {
		h.start = max(h.start, h.old.newest)
		h.old, h.young = h.young, newGeneration()
	}
	return min(lastCommitted, seq-1)
}

// Barrier records a transaction that waits for all before it and that all after
// it wait for, such as DDL.
func (h *History) Barrier(seq uint64) (lastCommitted uint64) {
	h.start, h.newest = seq, seq
	h.old, h.young = newGeneration(), newGeneration()
	return seq - 1
}

func (g *generation) newestConflict(k Key) (seq uint64) {
	if k.Mode >= modes {
		return g.newest
	}
	x, ok := g.indexes[k.Index]
	if !ok {
		return 0
	}
	var exact last
	if !k.Wild {
		exact = g.keys[k.Hash]
	}
	for _, m := range conflicting[k.Mode] {
		if k.Wild {
			seq = max(seq, x.any[m])
		} else {
			seq = max(seq, x.wild[m], exact[m])
		}
	}
	return seq
}

func (g *generation) add(seq uint64, k Key) {
	if k.Mode >= modes {
		k.Mode = Claim
	}
	x := g.indexes[k.Index]
	x.any[k.Mode] = seq
	if k.Wild {
		x.wild[k.Mode] = seq
	} else {
		l := g.keys[k.Hash]
		l[k.Mode] = seq
		g.keys[k.Hash] = l
	}
	g.indexes[k.Index] = x
}
