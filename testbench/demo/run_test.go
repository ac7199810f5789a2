package demo_test

import (
	"bytes"
	"context"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tandem-dc/tandem/testbench/cluster"
	"github.com/tandem-dc/tandem/testbench/demo"
	"github.com/tandem-dc/tandem/testbench/servers"
)

func TestMain(m *testing.M) { os.Exit(servers.Main(m)) }

func short(t *testing.T, out *record) *demo.Command {
	t.Helper()
	bin, triggers := cluster.ProgramsForTest(t)
	return &demo.Command{Duration: 4 * time.Second, Warmup: time.Second, Rate: 40, Conflicts: 0.1, Latency: 20 * time.Millisecond, Jitter: 10 * time.Millisecond,
		DB: "mariadb", Broker: "embedded", Bin: bin, Triggers: triggers, Out: out}
}

// record keeps what is printed, and tells when a text appears in it.
type record struct {
	mu   sync.Mutex
	b    bytes.Buffer
	text string
	seen func()
}

func (r *record) Write(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.b.Write(p)
	if r.seen != nil && strings.Contains(r.b.String(), r.text) {
		r.seen()
		r.seen = nil
	}
	return len(p), nil
}

func (r *record) String() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.b.String()
}

func TestDemoEndsEqual(t *testing.T) {
	var out record
	if err := short(t, &out).Execute(t.Context()); err != nil {
		t.Fatalf("%v\n%s", err, &out)
	}
	for _, want := range []string{"doctor on beijing: 0 refused", "doctor on guangzhou: 0 refused", "\nEQUAL: 10 tables", "beijing → guangzhou: ", "dead letters: 0", "lag from commit to visible p50"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q is missing in\n%s", want, &out)
		}
	}
	if strings.Contains(out.String(), "conflicts: 0 ") {
		t.Errorf("no conflict was settled: none was proven\n%s", &out)
	}
}

// Wherever it is interrupted, it ends soon and leaves nothing: servers.Main
// looks for goroutines, this for files.
func TestInterrupt(t *testing.T) {
	for _, at := range []string{"start mariadb", "make schemas", "start capture", "sell for", "committed"} {
		t.Run(at, func(t *testing.T) {
			t.Setenv("TMPDIR", t.TempDir())
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			out := record{text: at, seen: cancel}
			err := short(t, &out).Execute(ctx)
			if err == nil || !strings.Contains(err.Error(), "interrupted") {
				t.Errorf("%v\n%s", err, &out)
			}
			left, err := os.ReadDir(os.TempDir())
			if err != nil {
				t.Fatal(err)
			}
			for _, e := range left {
				if name := e.Name(); strings.HasPrefix(name, "tandem-") && !strings.HasPrefix(name, "tandem-ports") {
					t.Errorf("%s is left\n%s", name, &out)
				}
			}
		})
	}
}
