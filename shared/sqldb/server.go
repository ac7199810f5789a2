package sqldb

import (
	"context"
	"database/sql"
	"fmt"
	"strings"
)

// Flavor is the family of a server.
type Flavor string

// The flavors, spelled as go-mysql spells them.
const (
	MySQL   Flavor = "mysql"
	MariaDB Flavor = "mariadb"
)

// Server tells which server a pool talks to.
type Server struct {
	Flavor  Flavor
	Version string // as the server prints it
	UUID    string // server_uuid; empty on MariaDB, which has none
	ID      uint32 // server_id
}

// Inspect asks the server who it is.
func Inspect(ctx context.Context, db *sql.DB) (Server, error) {
	s := Server{Flavor: MySQL}
	if err := db.QueryRowContext(ctx, "SELECT VERSION(), @@global.server_id").Scan(&s.Version, &s.ID); err != nil {
		return s, fmt.Errorf("ask the server for its version: %w", err)
	}
	if strings.Contains(strings.ToLower(s.Version), "mariadb") {
		s.Flavor = MariaDB
		return s, nil
	}
	if err := db.QueryRowContext(ctx, "SELECT @@global.server_uuid").Scan(&s.UUID); err != nil {
		return s, fmt.Errorf("ask the server for its UUID: %w", err)
	}
	return s, nil
}
