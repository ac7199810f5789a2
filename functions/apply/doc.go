// Package apply answers how a peer's transactions get into this datacenter's
// MySQL: each whole and once, in an order that respects what it depends on,
// whatever order they arrive in.
//
// The road of an event: Handle decodes it and offers it to its stream's order
// (order.go, pure). Once everything that it depends on is applied, a worker takes
// it, with others that are ready, into one MySQL transaction (worker.go) that
// claims their ledger slots first and then writes their rows (rows.go). A row that is not what
// the event expects goes to the Settler (settle.go). What cannot be applied is
// parked (park.go). What waits too long is stored (pending.go).
package apply
