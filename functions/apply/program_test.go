package apply_test

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/tandem-dc/tandem/functions/apply"
	"github.com/tandem-dc/tandem/shared/event"
	"github.com/tandem-dc/tandem/shared/ledger"
	"github.com/tandem-dc/tandem/shared/sqldb"
	"github.com/tandem-dc/tandem/testbench/port"
	"github.com/tandem-dc/tandem/testbench/servers"
)

func TestHelpAndMistakes(t *testing.T) {
	var out bytes.Buffer
	if err := apply.RunProgram(t.Context(), []string{"--help"}, nil, &out); err != nil || !strings.Contains(out.String(), "TANDEM_APPLY_WAIT") {
		t.Errorf("help: %v\n%s", err, out.String())
	}
	for _, c := range []struct{ env, want string }{
		{"TANDEM_DCC=x", "TANDEM_DC"}, {"TANDEM_DC=Bei Jing", "datacenter name"}, {"TANDEM_LOG_LEVEL=loud", "log.level"}, {"TANDEM_APPLY_WAIT=soon", "apply.wait"},
	} {
		if err := apply.RunProgram(t.Context(), nil, []string{"TANDEM_DC=x", "TANDEM_MYSQL_USER=u", c.env}, io.Discard); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error is %v", c.env, err)
		}
	}
}

// The whole program: an event by HTTP becomes a row, and a stop drains.
func TestEventByHTTP(t *testing.T) {
	m := servers.MySQLForTest(t, sqldb.MariaDB)
	if err := ledger.Migrate(t.Context(), m.Admin("")); err != nil {
		t.Fatal(err)
	}
	db := m.NewDatabase(t)
	if _, err := m.Admin(db).ExecContext(t.Context(), "CREATE TABLE t (id INT PRIMARY KEY)"); err != nil {
		t.Fatal(err)
	}
	p, err := port.Reserve()
	if err != nil {
		t.Fatal(err)
	}
	c := m.Config(servers.Apply)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	ended := make(chan error, 1)
	go func() {
		ended <- apply.RunProgram(ctx, []string{"--http.listen", port.Addr(p), "--http.drain", "0s", "--deadletter.enabled=false"},
			[]string{"TANDEM_DC=guangzhou", "TANDEM_MYSQL_ADDR=" + c.Addr, "TANDEM_MYSQL_USER=" + c.User, "TANDEM_MYSQL_PASSWORD=" + c.Password}, io.Discard)
	}()
	client := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	limit := time.After(30 * time.Second)
	for {
		if r, err := client.Get("http://" + port.Addr(p) + "/health/readiness"); err == nil {
			r.Body.Close()
			if r.StatusCode == http.StatusOK {
				break
			}
		}
		select {
		case err := <-ended:
			t.Fatal(err)
		case <-limit:
			t.Fatal("not ready within 30 s")
		case <-time.After(20 * time.Millisecond):
		}
	}
	x := event.Transaction{GTID: "g", Tables: []event.Table{{DB: db, Name: "t", Columns: []event.Column{{Name: "id", Type: event.Int}}}},
		Rows: []event.Row{{Op: event.Insert, After: []event.Value{event.Of("7")}}}}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+port.Addr(p)+"/", bytes.NewReader(x.AppendJSON(nil)))
	if err != nil {
		t.Fatal(err)
	}
	meta := event.Meta{ID: "g", Source: event.Source("beijing", "s"), Type: event.TypeTransaction, Time: time.Now(), Origin: "beijing", Epoch: 1, Sequence: 1}
	req.Header.Set("Content-Type", event.ContentType)
	meta.Attributes(func(name, v string) { req.Header.Set("Ce-"+name, v) })
	r, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	r.Body.Close()
	if r.StatusCode != http.StatusOK {
		t.Errorf("answered %d", r.StatusCode)
	}
	var id int
	if err := m.Admin(db).QueryRowContext(t.Context(), "SELECT id FROM t").Scan(&id); err != nil || id != 7 {
		t.Errorf("row %d, %v", id, err)
	}
	r, err = client.Get("http://" + port.Addr(p) + "/statusz")
	if err != nil {
		t.Fatal(err)
	}
	status, _ := io.ReadAll(r.Body)
	r.Body.Close()
	if !strings.Contains(string(status), `"low": 1`) && !strings.Contains(string(status), `"low":1`) {
		t.Errorf("status is %s", status)
	}
	stop()
	select {
	case err := <-ended:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(30 * time.Second):
		t.Error("it does not stop")
	}
}
