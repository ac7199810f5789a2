package binlog

import (
	"bytes"
	"strings"
)

// verb is what a logged statement means to the assembler.
type verb int

const (
	ignore verb = iota // of no concern to another server
	begin
	commit
	rollback
	savepoint  // name
	rollbackTo // name
	xaStart    // name
	xaEnd
	xaCommit     // name
	xaRollback   // name
	ddl          // db, name
	createSelect // CREATE TABLE whose rows follow in the same transaction
	dml          // data logged as text
)

// statement is a logged statement as far as the assembler understands it.
type statement struct {
	verb  verb
	db    string // of the object, "" if the statement does not say
	name  string // of the table or savepoint, or the xid; "" for a database
	whole bool   // the object is a database
	ours  bool   // carries the mark of a DDL that tandem applied
}

// originMark begins the comment in every DDL that apply runs.
var originMark = []byte("/* tandem origin=")

// notReplicated are first words of statements that concern this server alone.
var notReplicated = map[string]bool{
	"FLUSH": true, "ANALYZE": true, "OPTIMIZE": true, "REPAIR": true, "CHECK": true, "GRANT": true, "REVOKE": true, "SET": true,
	"INSTALL": true, "UNINSTALL": true, "USE": true, "DO": true, "KILL": true, "RESET": true, "PURGE": true, "CHANGE": true,
	"START": true, "STOP": true, "BINLOG": true, "CLONE": true, "SHUTDOWN": true, "IMPORT": true, "CACHE": true, "LOCK": true, "UNLOCK": true,
}

// notReplicatedObjects are what CREATE, ALTER, DROP and RENAME may concern that
// is this server's alone.
var notReplicatedObjects = map[string]bool{
	"USER": true, "ROLE": true, "SERVER": true, "TABLESPACE": true, "LOGFILE": true, "UNDO": true, "RESOURCE": true, "INSTANCE": true,
	"TEMPORARY": true, "EVENT": true, "SPATIAL_REFERENCE": true, "LIBRARY": true,
}

// parseStatement classifies a logged statement. It understands names and the
// beginnings of statements, no more.
func parseStatement(sql []byte) statement {
	l := &lexer{sql: sql}
	s := statement{ours: bytes.Contains(sql, originMark)}
	word := l.keyword()
	switch word {
	case "":
		s.verb = ignore // "# Dummy event", an empty statement
	case "BEGIN":
		s.verb = begin
	case "COMMIT":
		s.verb = commit
	case "ROLLBACK":
		s.verb = rollback
		if l.keyword() == "TO" {
			s.verb = rollbackTo
			s.name = l.name()
			if strings.EqualFold(s.name, "SAVEPOINT") && !l.end() {
				s.name = l.name()
			}
		}
	case "SAVEPOINT":
		s.verb, s.name = savepoint, l.name()
	case "RELEASE":
		s.verb = ignore
	case "XA":
		s.xa(l)
	case "CREATE", "ALTER", "DROP", "RENAME", "TRUNCATE":
		s.definition(l, word)
	case "INSERT", "UPDATE", "DELETE", "REPLACE", "LOAD", "CALL", "WITH", "SELECT":
		s.verb = dml
	default:
		s.verb = dml
		if notReplicated[word] {
			s.verb = ignore
		}
		if word == "START" && l.keyword() == "TRANSACTION" {
			s.verb = begin
		}
	}
	return s
}

func (s *statement) xa(l *lexer) {
	verbs := map[string]verb{"START": xaStart, "BEGIN": xaStart, "END": xaEnd, "COMMIT": xaCommit, "ROLLBACK": xaRollback}
	s.verb = verbs[l.keyword()]
	s.name = strings.TrimSpace(string(l.rest()))
}

// definition reads the object of a DDL statement.
func (s *statement) definition(l *lexer, word string) {
	s.verb = ddl
	if word == "TRUNCATE" {
		if l.peek() == "TABLE" {
			l.keyword()
		}
		s.object(l)
		return
	}
	for {
		switch object := l.keyword(); object {
		case "":
			return
		case "TABLE", "TABLES", "VIEW", "PROCEDURE", "FUNCTION", "SEQUENCE", "PACKAGE":
			l.skip("BODY", "IF", "NOT", "EXISTS", "WAIT", "NOWAIT")
			s.object(l)
			if word == "CREATE" && object == "TABLE" && l.endsWith("START TRANSACTION") {
				s.verb = createSelect
			}
			return
		case "DATABASE", "SCHEMA":
			l.skip("IF", "NOT", "EXISTS")
			s.db, s.whole = l.name(), true
			return
		case "INDEX", "KEY", "TRIGGER":
			// CREATE INDEX i ON t, DROP INDEX i ON t, CREATE TRIGGER g BEFORE INSERT ON t; but DROP TRIGGER db.g.
			if object == "TRIGGER" && word == "DROP" {
				l.skip("IF", "EXISTS")
				s.object(l)
				return
			}
			for !l.end() {
				if l.keyword() == "ON" {
					s.object(l)
					return
				}
			}
			return
		default:
			if notReplicatedObjects[object] {
				s.verb = ignore
				return
			}
			// OR REPLACE, DEFINER = u@h, ALGORITHM = x, SQL SECURITY x, UNIQUE, FULLTEXT, ONLINE, IGNORE, AGGREGATE
		}
	}
}

func (s *statement) object(l *lexer) {
	s.name = l.name()
	if l.dot() {
		s.db, s.name = s.name, l.name()
	}
}
