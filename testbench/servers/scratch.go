package servers

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"syscall"
)

// CacheDir is where downloads and prepared data directories are kept between
// runs: $TANDEM_CACHE, else tandem under the user's cache directory.
func CacheDir() (string, error) {
	if dir := os.Getenv("TANDEM_CACHE"); dir != "" {
		return dir, nil
	}
	dir, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("no cache directory, set TANDEM_CACHE: %w", err)
	}
	return filepath.Join(dir, "tandem"), nil
}

// lock takes the exclusive lock of a file among processes and waits for it.
// The holder closes the file to give it back.
func lock(path string, wait bool) (*os.File, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	how := syscall.LOCK_EX
	if !wait {
		how |= syscall.LOCK_NB
	}
	for {
		err = syscall.Flock(int(f.Fd()), how)
		if !errors.Is(err, syscall.EINTR) {
			break
		}
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	return f, nil
}

const (
	scratchPrefix = "tandem-run-"
	scratchLock   = ".lock"
)

// scratch is this process's directory for files that nobody keeps. It holds a
// lock for the life of the process, so that the next process can tell what a
// killed one has left behind, and removes that.
var scratch struct {
	sync.Mutex
	dir  string
	lock *os.File
}

// ScratchDir makes a new directory that Close of its server or the end of Main
// removes. Its path is short enough for a unix socket in it.
func ScratchDir(name string) (string, error) {
	scratch.Lock()
	defer scratch.Unlock()
	if scratch.dir == "" {
		sweepScratch()
		if err := openScratch(); err != nil {
			return "", fmt.Errorf("make a scratch directory: %w", err)
		}
	}
	return os.MkdirTemp(scratch.dir, name+"-")
}

func openScratch() error {
	for {
		dir, err := os.MkdirTemp("", scratchPrefix)
		if err != nil {
			return err
		}
		// Fails if a sweep came between the making of the file and its locking.
		f, err := lock(filepath.Join(dir, scratchLock), false)
		if errors.Is(err, syscall.EWOULDBLOCK) || errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		scratch.dir, scratch.lock = dir, f
		return nil
	}
}

func sweepScratch() {
	old, err := filepath.Glob(filepath.Join(os.TempDir(), scratchPrefix+"*", scratchLock))
	if err != nil {
		return
	}
	for _, path := range old {
		f, err := lock(path, false)
		if err != nil {
			continue // in use, or another user's
		}
		os.RemoveAll(filepath.Dir(path))
		f.Close()
	}
}

// RemoveScratch removes what ScratchDir made in this process. Servers in it must have ended.
func RemoveScratch() error {
	scratch.Lock()
	defer scratch.Unlock()
	if scratch.dir == "" {
		return nil
	}
	err := os.RemoveAll(scratch.dir)
	scratch.lock.Close()
	scratch.dir, scratch.lock = "", nil
	return err
}

// keepLogs copies the logs below the scratch directory to a directory that
// stays, and returns it; "" if there are none.
func keepLogs() (string, error) {
	scratch.Lock()
	defer scratch.Unlock()
	if scratch.dir == "" {
		return "", nil
	}
	logs, err := filepath.Glob(filepath.Join(scratch.dir, "*", "*.log"))
	if err != nil || len(logs) == 0 {
		return "", err
	}
	to, err := os.MkdirTemp("", "tandem-logs-")
	if err != nil {
		return "", err
	}
	for _, path := range logs {
		name := filepath.Base(filepath.Dir(path)) + ".log"
		err = errors.Join(err, copyFile(path, filepath.Join(to, name), 0o644))
	}
	return to, err
}
