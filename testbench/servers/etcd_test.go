package servers_test

import (
	"bufio"
	"context"
	"net"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/tandem-dc/tandem/testbench/servers"
)

func TestEtcdKeepsWhatItAcknowledged(t *testing.T) {
	began := time.Now()
	e, err := servers.StartEtcd(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("etcd started in %v", time.Since(began))
	defer func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	}()
	client, err := clientv3.New(clientv3.Config{Endpoints: []string{e.Endpoint()}, Logger: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if _, err := client.Put(ctx, "k", "one"); err != nil {
		t.Fatal(err)
	}
	if err := e.Kill(); err != nil {
		t.Fatal(err)
	}
	if c, err := net.DialTimeout("tcp", e.Endpoint(), time.Second); err == nil {
		c.Close()
		t.Error("a killed etcd accepts connections")
	}
	short, cancelShort := context.WithTimeout(ctx, 300*time.Millisecond)
	defer cancelShort()
	if _, err := client.Get(short, "k"); err == nil {
		t.Error("a killed etcd answers")
	}
	restart(t, e)
	// The same client finds the member again.
	got, err := client.Get(ctx, "k")
	if err != nil {
		t.Fatal(err)
	}
	if len(got.Kvs) != 1 || string(got.Kvs[0].Value) != "one" {
		t.Errorf("k is %v after the restart", got.Kvs)
	}
	restart(t, e)
	if _, err := client.Put(ctx, "k", "two"); err != nil {
		t.Fatal(err)
	}
}

func TestRedisKeepsWhatItAcknowledged(t *testing.T) {
	r, err := servers.StartRedis(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	}()
	ask := func(command string) string {
		c, err := net.DialTimeout("tcp", r.Addr(), time.Second)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if err := c.SetDeadline(time.Now().Add(5 * time.Second)); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Write([]byte(command + "\r\n")); err != nil {
			t.Fatal(err)
		}
		s, err := bufio.NewReader(c).ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	if got := ask("SET k one"); got != "+OK\r\n" {
		t.Fatalf("SET: %q", got)
	}
	if err := r.Kill(); err != nil {
		t.Fatal(err)
	}
	restart(t, r)
	if got := ask("STRLEN k"); got != ":3\r\n" {
		t.Errorf("STRLEN: %q", got)
	}
}
