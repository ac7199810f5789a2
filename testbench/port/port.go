// Package port answers which TCP port of this machine a server may be started
// and restarted on.
package port

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
)

// held keeps the locks of reserved ports, until the process ends.
var held struct {
	sync.Mutex
	files []*os.File
}

// Reserve finds a free TCP port on 127.0.0.1 and keeps it from other processes
// that call Reserve until this process ends, so that a server can be restarted
// on it. It lies below the kernel's default range for outgoing connections:
// within that range a client that dials the port of a stopped server can be given
// the port as its own, or even connect to itself.
func Reserve() (int, error) {
	const low, high = 15000, 32000
	dir := filepath.Join(os.TempDir(), "tandem-ports-"+strconv.Itoa(os.Getuid()))
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return 0, fmt.Errorf("reserve a port: %w", err)
	}
	held.Lock()
	defer held.Unlock()
	for range 200 {
		p := low + rand.IntN(high-low)
		f, err := os.OpenFile(filepath.Join(dir, strconv.Itoa(p)), os.O_CREATE|os.O_RDWR, 0o600)
		if err != nil {
			return 0, fmt.Errorf("reserve a port: %w", err)
		}
		if syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) != nil {
			f.Close() // another's, or this process holds it by an earlier call
			continue
		}
		l, err := net.Listen("tcp", Addr(p))
		if err != nil {
			f.Close()
			continue
		}
		l.Close()
		held.files = append(held.files, f)
		return p, nil
	}
	return 0, errors.New("reserve a port: none of 200 tried is free")
}

// Addr is the address of a port on 127.0.0.1.
func Addr(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }
