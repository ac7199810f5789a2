package servers

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/tandem-dc/tandem/shared/sqldb"
)

// Flavors are the servers that everything is tested on.
var Flavors = []sqldb.Flavor{sqldb.MySQL, sqldb.MariaDB}

// shared are the servers of MySQLForTest, one per flavour.
var shared = map[sqldb.Flavor]*sharedMySQL{
	sqldb.MySQL:   {},
	sqldb.MariaDB: {},
}

type sharedMySQL struct {
	mu    sync.Mutex
	tried bool
	m     *MySQL
	err   error
}

func (s *sharedMySQL) get(f sqldb.Flavor) (*MySQL, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.tried {
		s.tried = true
		s.m, s.err = StartMySQL(context.Background(), MySQLOptions{Flavor: f})
	}
	return s.m, s.err
}

func (s *sharedMySQL) close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.m == nil {
		return nil
	}
	err := s.m.Close()
	s.m, s.err = nil, errors.New("servers.Main has ended the shared server")
	return err
}

// MySQLForTest is the server of a flavour that all tests of this process share;
// the first call starts it. Tests keep apart by NewDatabase. A test that kills or
// reconfigures its server starts its own with StartMySQL. The test fails, and
// is never skipped, when the server is not installed.
func MySQLForTest(t testing.TB, f sqldb.Flavor) *MySQL {
	t.Helper()
	s := shared[f]
	if s == nil {
		t.Fatalf("server flavour %q is unknown", f)
	}
	m, err := s.get(f)
	if err != nil {
		t.Fatal(err)
	}
	if !m.Running() {
		t.Fatalf("the shared %s has ended; its log ends:\n%s", f, m.Tail(30))
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the log of %s ends:\n%s", f, m.Tail(5))
		}
	})
	return m
}

// EachFlavor runs subtests "mysql" and "mariadb" on the shared servers.
func EachFlavor(t *testing.T, f func(t *testing.T, m *MySQL)) {
	t.Helper()
	for _, flavor := range Flavors {
		t.Run(string(flavor), func(t *testing.T) { f(t, MySQLForTest(t, flavor)) })
	}
}

// KafkaEnv names the brokers that EachKafka runs on, separated by commas.
// Default: embedded, which needs nothing installed.
const KafkaEnv = "TANDEM_TEST_KAFKA"

// EachKafka runs one subtest for each broker kind of KafkaEnv, which has the name of the kind.
func EachKafka(t *testing.T, f func(t *testing.T, kind KafkaKind)) {
	t.Helper()
	kinds := os.Getenv(KafkaEnv)
	if kinds == "" {
		kinds = string(Embedded)
	}
	for _, kind := range strings.Split(kinds, ",") {
		t.Run(kind, func(t *testing.T) { f(t, KafkaKind(kind)) })
	}
}

// NewDatabase makes an empty database with a name of its own, to which the
// accounts have their rights, and drops it after the test.
func (m *MySQL) NewDatabase(t testing.TB) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	name := fmt.Sprintf("t_%012x", rand.Uint64()>>16)
	if err := m.CreateDatabase(ctx, name); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if !m.Running() {
			return
		}
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if _, err := m.Admin("").ExecContext(ctx, "DROP DATABASE IF EXISTS "+sqldb.Quote(name)); err != nil {
			t.Logf("drop database %s: %v", name, err)
		}
	})
	return name
}

// Main runs the tests of a package and returns the exit code for os.Exit.
// Afterwards, and on an interrupt, it ends the shared servers and removes what
// they left, save the logs if a test failed; then it fails if goroutines were leaked.
//
// m is a *testing.M, or wraps one to clean up before servers and goroutines are
// looked at.
func Main(m interface{ Run() int }) int {
	interrupt := make(chan os.Signal, 1)
	signal.Notify(interrupt, os.Interrupt, syscall.SIGTERM)
	finished := make(chan struct{})
	go func() {
		select {
		case <-interrupt:
			if err := closeShared(); err != nil {
				fmt.Fprintln(os.Stderr, "servers:", err)
			}
			os.Exit(130)
		case <-finished:
		}
	}()
	code := m.Run()
	signal.Stop(interrupt)
	close(finished)
	if code != 0 {
		if dir, err := keepLogs(); err != nil {
			fmt.Fprintln(os.Stderr, "servers: keep the logs:", err)
		} else if dir != "" {
			fmt.Fprintln(os.Stderr, "servers: logs are kept in", dir)
		}
	}
	if err := closeShared(); err != nil {
		fmt.Fprintln(os.Stderr, "servers:", err)
		code = max(code, 1)
	}
	if code == 0 {
		if err := goleak.Find(); err != nil {
			fmt.Fprintln(os.Stderr, "servers:", strings.TrimSpace(err.Error()))
			return 1
		}
	}
	return code
}

func closeShared() error {
	var errs []error
	for _, s := range shared {
		errs = append(errs, s.close())
	}
	return errors.Join(append(errs, RemoveScratch())...)
}
