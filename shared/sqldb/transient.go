package sqldb

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"io"
	"net"
	"os"
	"strings"

	"github.com/go-sql-driver/mysql"
)

// transient holds the server errors that pass without anyone changing the
// statement: the same transaction may succeed when it is run again, perhaps on
// another connection. "" means always; else the message must hold the text,
// because the server uses the number for other things too.
var transient = map[uint16]string{
	// The transaction lost against another one.
	1020: "",      // ER_CHECKREAD: record changed since last read (MariaDB, innodb_snapshot_isolation)
	1205: "",      // ER_LOCK_WAIT_TIMEOUT
	1213: "",      // ER_LOCK_DEADLOCK; also a Galera certification failure
	1412: "",      // ER_TABLE_DEF_CHANGED: DDL since the snapshot, "please retry transaction"
	1613: "",      // ER_XA_RBTIMEOUT
	1614: "",      // ER_XA_RBDEADLOCK
	1615: "",      // ER_NEED_REPREPARE
	1689: "",      // ER_LOCK_ABORTED: wait gave way to an exclusive lock
	3058: "",      // ER_USER_LOCK_DEADLOCK
	3101: "",      // ER_TRANSACTION_ROLLBACK_DURING_COMMIT: group replication certification
	3572: "",      // ER_LOCK_NOWAIT
	1180: "",      // ER_ERROR_DURING_COMMIT: the commit itself failed, e.g. on a full disk
	3100: "",      // ER_RUN_HOOK_ERROR: semi-sync or group replication refused the commit
	1243: "",      // ER_UNKNOWN_STMT_HANDLER: a proxy moved us to a server that has not prepared it
	1047: "WSREP", // ER_UNKNOWN_COM_ERROR: Galera node not ready

	// Somebody stopped the statement or the connection.
	1053: "", // ER_SERVER_SHUTDOWN
	1077: "", // ER_NORMAL_SHUTDOWN
	1079: "", // ER_SHUTDOWN_COMPLETE
	1152: "", // ER_ABORTING_CONNECTION
	1184: "", // ER_NEW_ABORTING_CONNECTION
	1317: "", // ER_QUERY_INTERRUPTED: KILL QUERY
	1927: "", // MariaDB ER_CONNECTION_KILLED
	1969: "", // MariaDB ER_STATEMENT_TIMEOUT
	3024: "", // ER_QUERY_TIMEOUT
	3032: "", // ER_SERVER_OFFLINE_MODE
	3168: "", // ER_SERVER_ISNT_AVAILABLE
	3169: "", // ER_SESSION_WAS_KILLED
	4031: "", // ER_CLIENT_INTERACTION_TIMEOUT: wait_timeout

	// The network failed below the server.
	1042: "", // ER_BAD_HOST_ERROR: the server could not resolve our name
	1043: "", // ER_HANDSHAKE_ERROR
	1158: "", // ER_NET_READ_ERROR
	1159: "", // ER_NET_READ_INTERRUPTED
	1160: "", // ER_NET_ERROR_ON_WRITE
	1161: "", // ER_NET_WRITE_INTERRUPTED
	2002: "", // client numbers, which proxies send on: no connection
	2003: "", //
	2006: "", // server has gone away
	2013: "", // lost connection during query
	2055: "", // lost connection at a named step
	9001: "", // ProxySQL: no backend within the connect timeout

	// The server is short of something that comes back.
	1021: "",              // ER_DISK_FULL
	1026: "No space left", // ER_ERROR_ON_WRITE
	1030: "No space left", // ER_GET_ERRNO with ENOSPC
	1037: "",              // ER_OUTOFMEMORY
	1038: "",              // ER_OUT_OF_SORTMEMORY
	1040: "",              // ER_CON_COUNT_ERROR: too many connections
	1041: "",              // ER_OUT_OF_RESOURCES
	1114: "",              // ER_RECORD_FILE_FULL: table is full, which on InnoDB is the disk
	1129: "",              // ER_HOST_IS_BLOCKED: until somebody flushes the host cache
	1135: "",              // ER_CANT_CREATE_THREAD
	1203: "",              // ER_TOO_MANY_USER_CONNECTIONS
	1206: "",              // ER_LOCK_TABLE_FULL
	1226: "",              // ER_USER_LIMIT_REACHED: per hour
	1637: "",              // ER_TOO_MANY_CONCURRENT_TRXS

	// A failover is on its way: this server takes no writes (any more).
	1290: "read-only", // ER_OPTION_PREVENTS_STATEMENT; the number covers every option
	1792: "",          // ER_CANT_EXECUTE_IN_READ_ONLY_TRANSACTION
	1836: "",          // ER_READ_ONLY_MODE
}

// IsTransient reports whether err may go away when the same transaction runs
// again: it lost against another transaction, the connection or the server
// went away, a resource ran out, a failover is under way. So may a statement
// that the caller's own context ended, which has no verdict. Errors about the
// statement, its data or the account's privileges are not transient.
//
// After a transient error at commit it is unknown whether the transaction is
// in: the ledger row tells when it runs again.
func IsTransient(err error) bool {
	if err == nil {
		return false
	}
	var server *mysql.MySQLError
	if errors.As(err, &server) {
		text, known := transient[server.Number]
		if server.Number == 1290 && strings.Contains(server.Message, "read_only") {
			return true // MariaDB spells the option so
		}
		return known && strings.Contains(server.Message, text)
	}
	for _, e := range []error{
		driver.ErrBadConn, mysql.ErrInvalidConn, sql.ErrConnDone, sql.ErrTxDone, mysql.ErrMalformPkt, mysql.ErrPktSync, mysql.ErrBusyBuffer,
		io.EOF, io.ErrUnexpectedEOF, io.ErrClosedPipe, net.ErrClosed, os.ErrDeadlineExceeded, context.DeadlineExceeded, context.Canceled,
	} {
		if errors.Is(err, e) {
			return true
		}
	}
	var network net.Error
	return errors.As(err, &network)
}
