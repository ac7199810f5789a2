// Package doctor answers whether a server can be replicated by tandem without
// losing data: it checks settings, accounts and tables, and says for each fault
// what is wrong, why it matters and what repairs it.
//
// It changes nothing.
package doctor

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/tandem-dc/tandem/shared/kafkaconn"
	"github.com/tandem-dc/tandem/shared/sqldb"
)

// Severity says what a finding means.
type Severity string

// The severities. tandem does not start over a Refuse: it would lose data.
const (
	OK     Severity = "ok"
	Warn   Severity = "warn"
	Refuse Severity = "refuse"
)

// Finding is the outcome of one check at one place.
type Finding struct {
	ID       string   `json:"id"` // stable, "binlog.format"
	Severity Severity `json:"severity"`
	Where    string   `json:"where,omitempty"`   // table, account or setting
	What     string   `json:"what"`              // is found
	Why      string   `json:"why,omitempty"`     // it matters
	Fix      []string `json:"fix,omitempty"`     // SQL statements, to be run in order
	Setting  string   `json:"setting,omitempty"` // for the configuration file where SQL does not reach or does not last
}

// Target is what Run looks at. DB is needed; what is not given is not checked.
type Target struct {
	// DB is the server. Its account should read mysql's own tables and the
	// definitions of all tables: an account without sees less and so finds less.
	DB        *sql.DB
	Server    sqldb.Server // found by Run when zero
	Databases []string     // what is replicated; defaults to all but the server's own

	Capture *sql.DB // the same server through capture's account
	Apply   *sql.DB // and through apply's, with the character set "binary"

	Kafka kafkaconn.Config // brokers that this server's events go to
	Topic string           // their topic

	DC    int    // this datacenter's number, from 1; for auto_increment
	DCs   int    // how many there are; defaults to 2
	Peers []Peer // the other datacenters' servers
}

// Peer is the server of another datacenter.
type Peer struct {
	Name string
	DB   *sql.DB
}

const dialTimeout = 5 * time.Second

// checkTimeout bounds one check.
const checkTimeout = 30 * time.Second

// check is one entry of the list: what it is called, how bad its worst finding
// is, and the work. run returns only faults and notes; none means all is well.
type check struct {
	id    string
	worst Severity
	good  string // what to say when nothing is found
	run   func(ctx context.Context, x *exam) ([]Finding, error)
}

// exam is one run: the target and what was read of it at the start.
type exam struct {
	Target
	vars   map[string]string // global variables, lower case
	tables []tableInfo
}

func checks() []check {
	return append(append(append(serverChecks(), accountChecks()...), tableChecks()...), peerChecks()...)
}

// Run makes every check that the target allows, in a fixed order. The error says
// that the server could not be examined at all. A check that fails to run yields
// its worst finding: what could not be seen is not assumed to be well.
func Run(ctx context.Context, t Target) ([]Finding, error) {
	if t.DB == nil {
		return nil, errors.New("doctor: no server to examine")
	}
	if t.DCs == 0 {
		t.DCs = 2
	}
	x := &exam{Target: t}
	if err := x.prepare(ctx); err != nil {
		return nil, fmt.Errorf("doctor: %w", err)
	}
	var all []Finding
	for _, c := range checks() {
		found, err := c.bounded(ctx, x)
		if ctx.Err() != nil {
			return nil, fmt.Errorf("doctor: %w", context.Cause(ctx))
		}
		if err != nil {
			found = append(found, Finding{Severity: c.worst, What: "could not be checked: " + err.Error(),
				Why: "What is not seen may be wrong.", Where: "doctor's account"})
		}
		if len(found) == 0 && c.good != "" {
			found = []Finding{{Severity: OK, What: c.good}}
		}
		for i := range found {
			found[i].ID = c.id
		}
		all = append(all, found...)
	}
	return all, nil
}

func (c check) bounded(ctx context.Context, x *exam) ([]Finding, error) {
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	return c.run(ctx, x)
}

// Worst returns the gravest severity among the findings.
func Worst(findings []Finding) Severity {
	worst := OK
	for _, f := range findings {
		switch {
		case f.Severity == Refuse:
			return Refuse
		case f.Severity == Warn:
			worst = Warn
		}
	}
	return worst
}
