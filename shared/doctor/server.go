package doctor

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/tandem-dc/tandem/shared/kafkaconn"
)

func serverChecks() []check {
	return []check{
		{"server.version", Warn, "the server's version is one that tandem is tested with", version},
		{"server.writable", Refuse, "the server takes writes", writable},
		{"server.id", Refuse, "server_id is set", serverID},
		{"server.clock", Warn, "the server's clock agrees with ours", clock},
		{"server.init-connect", Warn, "init_connect is empty", initConnect},
		{"binlog.enabled", Refuse, "the binlog is written", binlogEnabled},
		{"binlog.format", Refuse, "the binlog holds rows", setting("binlog_format", "ROW",
			"Statements cannot be applied exactly: the peer would compute other values.")},
		{"binlog.row-image", Refuse, "the binlog holds whole rows", setting("binlog_row_image", "FULL",
			"Columns that are not in the binlog cannot be sent, and conflicts cannot be seen.")},
		{"binlog.row-metadata", Refuse, "the binlog names columns, signs and character sets", setting("binlog_row_metadata", "FULL",
			"Without names, signs, character sets and labels, values after an ALTER TABLE would be read wrongly.")},
		{"binlog.partial-json", Refuse, "JSON values are logged whole", partialJSON},
		{"binlog.filter", Refuse, "nothing is kept out of the binlog", binlogFilter},
		{"binlog.gtid", Warn, "transactions have GTIDs", gtid},
		{"binlog.replica-updates", Warn, "what a replica thread writes is logged", replicaUpdates},
		{"binlog.durability", Warn, "a commit survives a power cut", durability},
		{"binlog.retention", Warn, "the binlog is kept for a day or longer", retention},
		{"binlog.compression", OK, "", compression},
		{"kafka.message-size", Warn, "the largest packet of the server fits a message of the broker", messageSize},
	}
}

func setting(name, want, why string) func(context.Context, *exam) ([]Finding, error) {
	return func(_ context.Context, x *exam) ([]Finding, error) {
		got, ok := x.vars[name]
		if !ok || strings.EqualFold(got, want) {
			return nil, nil // a server without the variable knows no other way
		}
		return []Finding{{Severity: Refuse, Where: name, What: fmt.Sprintf("%s is %s, not %s", name, got, want), Why: why + " Sessions that are open keep the old value.",
			Fix: []string{"SET GLOBAL " + name + "=" + want}, Setting: name + "=" + want}}, nil
	}
}

func version(_ context.Context, x *exam) ([]Finding, error) {
	least, major, minor := "8.4", 8, 4
	if x.mariadb() {
		least, major, minor = "10.11", 10, 11
	}
	var a, b int
	if _, err := fmt.Sscanf(x.Server.Version, "%d.%d", &a, &b); err != nil {
		return nil, fmt.Errorf("version %q: %w", x.Server.Version, err)
	}
	if a > major || a == major && b >= minor {
		return nil, nil
	}
	return []Finding{{Severity: Warn, Where: "version", What: fmt.Sprintf("%s %s is older than %s", x.Server.Flavor, x.Server.Version, least),
		Why: "tandem is not tested with it; its binlog may lack what exact values need.", Setting: "upgrade the server"}}, nil
}

func writable(_ context.Context, x *exam) ([]Finding, error) {
	var out []Finding
	for _, name := range []string{"super_read_only", "read_only"} {
		if x.on(name) {
			out = append(out, Finding{Severity: Refuse, Where: name, What: name + " is ON",
				Why: "apply cannot write here, and neither can the application.", Fix: []string{"SET GLOBAL " + name + "=OFF"}, Setting: name + "=OFF"})
		}
	}
	return out, nil
}

func serverID(_ context.Context, x *exam) ([]Finding, error) {
	if x.vars["server_id"] != "0" {
		return nil, nil
	}
	id := max(x.DC, 1)
	return []Finding{{Severity: Refuse, Where: "server_id", What: "server_id is 0", Why: "The server refuses to send its binlog to anybody.",
		Fix: []string{fmt.Sprintf("SET GLOBAL server_id=%d", id)}, Setting: fmt.Sprintf("server_id=%d", id)}}, nil
}

// maxSkew is the difference of clocks that is let pass.
const maxSkew = 250 * time.Millisecond

func clock(ctx context.Context, x *exam) ([]Finding, error) {
	skew, err := skewOf(ctx, x.Target.DB)
	if err != nil || skew.Abs() <= maxSkew {
		return nil, err
	}
	return []Finding{{Severity: Warn, Where: "clock", What: fmt.Sprintf("the server's clock is %v off ours", skew.Round(time.Millisecond)),
		Why: "Where both datacenters wrote a row the newer write wins: a clock that is ahead always wins. Lag is measured wrongly.", Setting: "run chrony or ntpd on both machines"}}, nil
}

func initConnect(_ context.Context, x *exam) ([]Finding, error) {
	v := x.vars["init_connect"]
	if v == "" {
		return nil, nil
	}
	return []Finding{{Severity: Warn, Where: "init_connect", What: fmt.Sprintf("init_connect is %q", v),
		Why: "It runs in apply's sessions too: SET NAMES there would convert bytes that must stay as they are, sql_log_bin=0 would hide marks from capture.",
		Fix: []string{"SET GLOBAL init_connect=''"}, Setting: "init_connect="}}, nil
}

func binlogEnabled(_ context.Context, x *exam) ([]Finding, error) {
	if x.on("log_bin") {
		return nil, nil
	}
	return []Finding{{Severity: Refuse, Where: "log_bin", What: "the server writes no binlog", Why: "The binlog is what tandem reads: without it nothing is replicated.",
		Setting: "log_bin=binlog (and restart)"}}, nil
}

func partialJSON(_ context.Context, x *exam) ([]Finding, error) {
	if x.vars["binlog_row_value_options"] == "" {
		return nil, nil
	}
	return []Finding{{Severity: Refuse, Where: "binlog_row_value_options", What: "binlog_row_value_options is " + x.vars["binlog_row_value_options"],
		Why: "An update of a JSON column is logged as a change to a value that is not there, so the new value is unknown.",
		Fix: []string{"SET GLOBAL binlog_row_value_options=''"}, Setting: "binlog_row_value_options="}}, nil
}

func binlogFilter(ctx context.Context, x *exam) ([]Finding, error) {
	if !x.on("log_bin") {
		return nil, nil // binlog.enabled says it
	}
	status := "SHOW BINARY LOG STATUS"
	if x.mariadb() {
		status = "SHOW BINLOG STATUS"
	}
	var do, ignore []string
	err := query(ctx, x.DB, status, func(v []string) {
		do, ignore = splitList(v[2]), splitList(v[3])
	})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", status, err)
	}
	var out []Finding
	for _, db := range append([]string{markerDatabase}, x.databases()...) {
		f := Finding{Severity: Refuse, Where: db, Why: "Rows of the database would not be sent."}
		if db == markerDatabase {
			f.Why = "The ledger's rows mark replicated transactions: when they are not in the binlog, each change is sent back to where it came from, for ever."
		}
		switch {
		case slices.Contains(ignore, db):
			f.What, f.Setting = db+" is in binlog-ignore-db", "remove binlog-ignore-db="+db+" (and restart)"
		case len(do) > 0 && !slices.Contains(do, db):
			f.What, f.Setting = db+" is not in binlog-do-db", "remove all binlog-do-db, or add binlog-do-db="+db+" (and restart)"
		default:
			continue
		}
		out = append(out, f)
	}
	return out, nil
}

func splitList(s string) []string {
	return strings.FieldsFunc(s, func(r rune) bool { return r == ',' || r == ' ' })
}

func gtid(_ context.Context, x *exam) ([]Finding, error) {
	if x.mariadb() {
		return nil, nil // MariaDB always has them
	}
	var fix []string
	if !strings.EqualFold(x.vars["enforce_gtid_consistency"], "ON") {
		fix = append(fix, "SET GLOBAL enforce_gtid_consistency=ON")
	}
	for i, mode := range []string{"OFF", "OFF_PERMISSIVE", "ON_PERMISSIVE", "ON"} {
		if x.vars["gtid_mode"] == mode {
			for _, next := range []string{"OFF_PERMISSIVE", "ON_PERMISSIVE", "ON"}[i:] {
				fix = append(fix, "SET GLOBAL gtid_mode="+next)
			}
		}
	}
	if len(fix) == 0 {
		return nil, nil
	}
	return []Finding{{Severity: Warn, Where: "gtid_mode", What: fmt.Sprintf("gtid_mode is %s, enforce_gtid_consistency is %s", x.vars["gtid_mode"], x.vars["enforce_gtid_consistency"]),
		Why: "A place in the binlog by file and position means nothing on another server: after a failover inside the datacenter capture cannot go on.",
		Fix: fix, Setting: "gtid_mode=ON, enforce_gtid_consistency=ON"}}, nil
}

func replicaUpdates(_ context.Context, x *exam) ([]Finding, error) {
	for _, name := range []string{"log_replica_updates", "log_slave_updates"} {
		if v, ok := x.vars[name]; ok {
			if x.on(name) {
				return nil, nil
			}
			return []Finding{{Severity: Warn, Where: name, What: name + " is " + v,
				Why:     "If this server is or becomes a replica of another one, what comes from there is not in its binlog and is not sent.",
				Setting: name + "=ON (and restart)"}}, nil
		}
	}
	return nil, nil
}

func durability(_ context.Context, x *exam) ([]Finding, error) {
	var out []Finding
	for _, name := range []string{"sync_binlog", "innodb_flush_log_at_trx_commit"} {
		if v := x.vars[name]; v != "1" {
			out = append(out, Finding{Severity: Warn, Where: name, What: name + " is " + v,
				Why: "After a power cut the server may have forgotten commits that the other datacenter has already applied.",
				Fix: []string{"SET GLOBAL " + name + "=1"}, Setting: name + "=1"})
		}
	}
	return out, nil
}

// minRetention is how long a dead peer or capture can be away before the binlog
// it needs may be gone.
const minRetention = 24 * time.Hour

func retention(_ context.Context, x *exam) ([]Finding, error) {
	name := "binlog_expire_logs_seconds"
	kept := time.Duration(x.number(name)) * time.Second
	if kept == 0 || kept >= minRetention { // 0: for ever
		return nil, nil
	}
	return []Finding{{Severity: Warn, Where: name, What: fmt.Sprintf("the binlog is deleted after %v", kept),
		Why: "A capture or a peer that is away for longer cannot catch up; the datacenters must then be compared and repaired.",
		Fix: []string{fmt.Sprintf("SET GLOBAL %s=%d", name, int(7*minRetention/time.Second))}, Setting: fmt.Sprintf("%s=%d", name, int(7*minRetention/time.Second))}}, nil
}

func compression(_ context.Context, x *exam) ([]Finding, error) {
	for _, name := range []string{"binlog_transaction_compression", "log_bin_compress"} {
		if x.on(name) {
			return []Finding{{Severity: OK, Where: name, What: name + " is ON: capture unpacks it"}}, nil
		}
	}
	return nil, nil
}

func messageSize(ctx context.Context, x *exam) ([]Finding, error) {
	if len(x.Kafka.Brokers) == 0 {
		return nil, nil
	}
	limit, err := kafkaconn.MaxMessageBytes(ctx, x.Kafka, x.Topic)
	if err != nil {
		return nil, err
	}
	packet := int64(x.number("max_allowed_packet"))
	if packet <= int64(limit) {
		return nil, nil
	}
	return []Finding{{Severity: Warn, Where: "max_allowed_packet", What: fmt.Sprintf("max_allowed_packet is %d bytes, a message of topic %s at most %d", packet, x.Topic, limit),
		Why:     "A transaction whose event is larger than a message stops capture until the broker takes it.",
		Fix:     []string{"SET GLOBAL max_allowed_packet=" + strconv.Itoa(max(limit/1024*1024, 1024))},
		Setting: fmt.Sprintf("or on the topic: max.message.bytes=%d, and on the broker as large a replica.fetch.max.bytes", packet)}}, nil
}
