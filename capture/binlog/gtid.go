package binlog

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/go-mysql-org/go-mysql/mysql"
	"github.com/google/uuid"

	"github.com/tandem-dc/tandem/shared/sqldb"
)

// gtidSet is what was executed up to a place.
type gtidSet interface {
	add(gtid)
	contains(gtid) bool
	String() string
	// wire is the form that go-mysql asks a server with.
	wire() (mysql.GTIDSet, error)
}

// gtid is one transaction of either flavour.
type gtid struct {
	sid            uuid.UUID // MySQL
	domain, server uint32    // MariaDB
	number         uint64
}

// parseGTIDSet reads what String prints. Sets with tags (MySQL 8.3 and later)
// are an error: the replication protocol of go-mysql has no place for them.
func parseGTIDSet(f sqldb.Flavor, s string) (gtidSet, error) {
	s = strings.Map(func(r rune) rune {
		if r == '\n' || r == '\r' || r == ' ' {
			return -1
		}
		return r
	}, s)
	if f == sqldb.MariaDB {
		set := mariadbSet{}
		for part := range strings.SplitSeq(s, ",") {
			g, err := parseMariadbGTID(part)
			if err != nil {
				return nil, err
			}
			set.add(g)
		}
		return set, nil
	}
	parsed, err := mysql.ParseMysqlGTIDSet(s)
	if err != nil {
		return nil, fmt.Errorf("GTID set %.200q: %w", s, err)
	}
	return &mysqlSet{set: parsed.(*mysql.MysqlGTIDSet)}, nil
}

type mysqlSet struct{ set *mysql.MysqlGTIDSet }

func (s *mysqlSet) add(g gtid) { s.set.AddGTID(g.sid, int64(g.number)) }

func (s *mysqlSet) contains(g gtid) bool {
	one := s.set.Sets[g.sid.String()]
	return one != nil && one.Intervals.Contain(mysql.IntervalSlice{{Start: int64(g.number), Stop: int64(g.number) + 1}})
}

func (s *mysqlSet) String() string { return s.set.String() }

func (s *mysqlSet) wire() (mysql.GTIDSet, error) { return s.set.Clone(), nil }

// mariadbSet holds the newest transaction of each domain: all that MariaDB
// asks for and accepts. go-mysql's own set also keeps one for each server of a
// domain, which the server refuses after a failover.
type mariadbSet map[uint32]gtid

func (s mariadbSet) add(g gtid) { s[g.domain] = g }

func (s mariadbSet) contains(g gtid) bool {
	newest, ok := s[g.domain]
	return ok && newest.number >= g.number
}

func (s mariadbSet) String() string {
	parts := make([]string, 0, len(s))
	for _, g := range s {
		parts = append(parts, g.mariadb())
	}
	slices.Sort(parts)
	return strings.Join(parts, ",")
}

func (s mariadbSet) wire() (mysql.GTIDSet, error) { return mysql.ParseMariadbGTIDSet(s.String()) }

func (g gtid) mariadb() string { return fmt.Sprintf("%d-%d-%d", g.domain, g.server, g.number) }

func (g gtid) mysql() string { return g.sid.String() + ":" + strconv.FormatUint(g.number, 10) }

func parseMariadbGTID(s string) (g gtid, err error) {
	f := strings.Split(s, "-")
	var n [3]uint64
	for i := range n {
		if len(f) != len(n) {
			err = fmt.Errorf("not domain-server-sequence")
			break
		}
		if n[i], err = strconv.ParseUint(f[i], 10, 32+32*(i/2)); err != nil {
			break
		}
	}
	if err != nil {
		return g, fmt.Errorf("GTID %.60q: %w", s, err)
	}
	return gtid{domain: uint32(n[0]), server: uint32(n[1]), number: n[2]}, nil
}

// previousMySQL reads a PREVIOUS_GTIDS event: the number of servers, then for
// each its id and the intervals [start, stop). It is "" for an event that is damaged or
// has tags.
func previousMySQL(body []byte) string {
	c := &cursor{b: body}
	var parts []string
	for range c.little(8) {
		sid, err := uuid.FromBytes(c.take(16))
		if err != nil {
			return ""
		}
		part := sid.String()
		for range c.little(8) {
			start, stop := c.little(8), c.little(8)
			if c.err != nil || start >= stop {
				return ""
			}
			part += fmt.Sprintf(":%d-%d", start, stop-1)
		}
		parts = append(parts, part)
	}
	if c.err != nil {
		return ""
	}
	return strings.Join(parts, ",")
}

// previousMariaDB reads a GTID_LIST event. The newest of a domain stands last.
func previousMariaDB(body []byte) string {
	c := &cursor{b: body}
	set := mariadbSet{}
	for range c.little(4) & (1<<28 - 1) { // flags above
		set.add(gtid{domain: uint32(c.little(4)), server: uint32(c.little(4)), number: c.little(8)})
		if c.err != nil {
			return ""
		}
	}
	return set.String()
}
