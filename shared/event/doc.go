// Package event is tandem's vocabulary: the CloudEvents attributes of every
// event on the road from a binlog to the peer's row, and the payload schema of
// a transaction, exact for every MySQL and MariaDB type.
//
// The package does no I/O. docs/event-schema.md documents the wire form for
// readers outside this code base.
package event
