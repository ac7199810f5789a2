package e2e_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/tandem-dc/tandem/testbench/cluster"
	"github.com/tandem-dc/tandem/testbench/servers"
)

// A real broker on a real file system that is full: Apache Kafka ends itself
// then. With room again and the broker restarted, all that waited arrives. It
// needs TANDEM_TEST_KAFKA=apache, and root to mount a small file system.
func TestBadFullDisk(t *testing.T) {
	if !strings.Contains(os.Getenv(servers.KafkaEnv), string(servers.Apache)) {
		t.Skipf("needs %s=apache; TestBadFullBroker simulates it in the embedded broker", servers.KafkaEnv)
	}
	const full = "guangzhou"
	dir, err := servers.ScratchDir("disk")
	if err != nil {
		t.Fatal(err)
	}
	disk := filepath.Join(dir, full, "kafka")
	if err := os.MkdirAll(disk, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("tmpfs", disk, "tmpfs", 0, "size=64m"); err != nil {
		t.Skipf("a small file system cannot be mounted here: %v; TestBadFullBroker simulates it", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(disk, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	ctx, cancel := context.WithTimeout(t.Context(), startLimit)
	defer cancel()
	c, err := cluster.StartBuilt(ctx, cluster.Options{Flavor: "mariadb", Broker: servers.Apache, Dir: dir, Env: hasty, Databases: []string{tables}})
	if err != nil {
		t.Fatal(err)
	}
	w := &world{Cluster: c, kind: servers.Apache}
	t.Cleanup(func() {
		// What is mounted cannot be removed, and need not be: it goes with its server.
		if err := w.close(true); err != nil && !errors.Is(err, syscall.EBUSY) {
			t.Error(err)
		}
	})
	a, b := w.Sides[0], w.Sides[1]
	for side := range w.Sides {
		run(t, w.Sides[side].SQL.Admin(tables), "SET SESSION sql_log_bin=0", "CREATE TABLE disk (id INT PRIMARY KEY, v LONGTEXT)", "SET SESSION sql_log_bin=1")
	}
	w.drain(t)

	ballast := filepath.Join(disk, "ballast")
	fill(t, ballast)
	rows := 0
	for ; rows < 200; rows++ {
		w.write(t, 0, fmt.Sprintf("INSERT INTO e2e.disk VALUES (%d, REPEAT(MD5(%d), 8192))", rows, rows))
	}
	w.unready(t, 0, "stream to "+b.Name)
	w.write(t, 1, "INSERT INTO e2e.disk VALUES (1000, 'the other direction goes on')")
	eventually(t, 20*time.Second, w.shows(0, "SELECT COUNT(*) FROM e2e.disk WHERE id=1000", "1"))
	if local, err := a.Stream(t.Context(), a.Name); err != nil {
		t.Errorf("the own log of %s: %+v, %v", a.Name, local, err)
	}
	if n, err := w.ask(t.Context(), 1, "SELECT COUNT(*) FROM e2e.disk"); err != nil || n == fmt.Sprint(rows+1) {
		t.Errorf("%s has %s rows although its disk is full; %v", b.Name, n, err)
	}

	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	restarting, cancelRestart := context.WithTimeout(t.Context(), time.Minute)
	defer cancelRestart()
	if err := b.Kafka.Restart(restarting); err != nil {
		t.Fatal(err)
	}
	w.drain(t)
	w.ready(t)
	if l := w.losses(t); l != (cluster.Losses{}) {
		t.Errorf("%+v", l)
	}
	w.equal(t, tables)
}

// fill writes until nothing more fits.
func fill(t *testing.T, path string) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	block := make([]byte, 64<<10)
	for len(block) > 0 {
		if _, err := f.Write(block); errors.Is(err, syscall.ENOSPC) {
			block = block[:len(block)/2]
		} else if err != nil {
			t.Fatal(err)
		}
	}
}
