package sqldb

import (
	"context"
	"crypto/x509"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"net"
	"syscall"
	"testing"

	"github.com/go-sql-driver/mysql"
)

func TestIsTransient(t *testing.T) {
	server := func(number uint16, message string) error {
		return fmt.Errorf("apply: %w", &mysql.MySQLError{Number: number, Message: message})
	}
	for _, c := range []struct {
		err  error
		want bool
	}{
		{nil, false},
		{errors.New("anything"), false},
		{server(1213, "Deadlock found when trying to get lock; try restarting transaction"), true},
		{server(1205, "Lock wait timeout exceeded"), true},
		{server(1053, "Server shutdown in progress"), true},
		{server(1062, "Duplicate entry '1' for key 'PRIMARY'"), false},
		{server(1064, "You have an error in your SQL syntax"), false},
		{server(1146, "Table 'a.b' doesn't exist"), false},
		{server(1142, "INSERT command denied"), false},
		{server(1406, "Data too long for column"), false},
		{server(1452, "Cannot add or update a child row"), false},
		{server(3819, "Check constraint 'c' is violated"), false},
		{server(1290, "The MySQL server is running with the --super-read-only option so it cannot execute this statement"), true},
		{server(1290, "The MariaDB server is running with the --read-only option so it cannot execute this statement"), true},
		{server(1290, "The MariaDB server is running with the read_only option"), true},
		{server(1290, "The MySQL server is running with the --secure-file-priv option"), false},
		{server(1030, `Got error 28 "No space left on device" from storage engine InnoDB`), true},
		{server(1030, "Got error 1 from storage engine"), false},
		{server(1047, "WSREP has not yet prepared node for application use"), true},
		{server(1047, "Unknown command"), false},
		{driver.ErrBadConn, true},
		{mysql.ErrInvalidConn, true},
		{sql.ErrTxDone, true},
		{sql.ErrNoRows, false},
		{fmt.Errorf("read: %w", io.ErrUnexpectedEOF), true},
		{&net.OpError{Op: "read", Err: syscall.ECONNRESET}, true},
		{&net.DNSError{Name: "db"}, true},
		{context.DeadlineExceeded, true},
		{context.Canceled, true},
		{mysql.ErrPktTooLarge, false},
		{mysql.ErrNoTLS, false},
		{x509.UnknownAuthorityError{}, false},
	} {
		if got := IsTransient(c.err); got != c.want {
			t.Errorf("%v: transient is %v, want %v", c.err, got, c.want)
		}
	}
}

func TestQuote(t *testing.T) {
	for in, want := range map[string]string{
		"a":        "`a`",
		"a`b``":    "`a``b`````",
		"a\x00b":   "`ab`",
		`a\'"; --`: "`a\\'\"; --`",
		"订单":       "`订单`",
	} {
		if got := Quote(in); got != want {
			t.Errorf("Quote(%q) is %s, want %s", in, got, want)
		}
	}
	if got := QuoteTable("d", "t`"); got != "`d`.`t```" {
		t.Errorf("QuoteTable gives %s", got)
	}
	if got := QuoteTable("", "t"); got != "`t`" {
		t.Errorf("QuoteTable without database gives %s", got)
	}
}
