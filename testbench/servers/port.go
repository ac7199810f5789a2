package servers

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"sync"
)

// held keeps the locks of the ports this process has reserved, until it ends.
var held struct {
	sync.Mutex
	files []*os.File
}

// ReservePort finds a free TCP port on 127.0.0.1 and keeps it from other
// processes that use this package until this process ends, so that a server can
// be restarted on it. It lies below the kernel's range for outgoing
// connections: in that range a client that dials the port of a stopped server
// can take the port, or even connect to itself.
func ReservePort() (int, error) {
	const low, high = 15000, 32000
	dir := filepath.Join(os.TempDir(), "tandem-ports-"+strconv.Itoa(os.Getuid()))
	held.Lock()
	defer held.Unlock()
	for range 200 {
		port := low + rand.IntN(high-low)
		f, err := lock(filepath.Join(dir, strconv.Itoa(port)), false)
		if err != nil {
			if _, err := os.Stat(dir); err != nil {
				return 0, fmt.Errorf("reserve a port: %w", err)
			}
			continue
		}
		l, err := net.Listen("tcp", Loopback(port))
		if err != nil {
			f.Close()
			continue
		}
		l.Close()
		held.files = append(held.files, f)
		return port, nil
	}
	return 0, errors.New("reserve a port: none of 200 tried is free")
}

// Loopback is the address of a port on this machine.
func Loopback(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }
