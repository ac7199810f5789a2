package servers

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
	"syscall"
	"time"
)

// Command says what a Process runs.
type Command struct {
	Name string   // what messages call it; default: the base name of Path
	Path string   // the program
	Args []string // without the program's name
	Env  []string // nil: the environment of this process
	Dir  string   // working directory; default: that of this process
	Log  string   // file that stdout and stderr are appended to
	// Grace is how long Stop waits after SIGTERM before it kills. Default 30s.
	Grace time.Duration
}

const defaultGrace = 30 * time.Second

// Process is a child that can be crashed, stopped, hung and started again. It
// leads a process group of its own, so that ctrl-C reaches only the parent,
// and the kernel kills it when the parent dies. Its methods may be called
// concurrently.
type Process struct {
	cmd Command

	mu  sync.Mutex
	run *run // the life that runs now, or the last one
}

// run is one life of a Process.
type run struct {
	process *os.Process
	done    chan struct{} // closed when the child has ended; err is set before
	err     error
}

// StartProcess starts a child. The caller ends it by Kill or Stop.
func StartProcess(c Command) (*Process, error) {
	if c.Name == "" {
		c.Name = filepath.Base(c.Path)
	}
	if c.Log == "" {
		return nil, fmt.Errorf("start %s: Command.Log is empty: name the file for its output", c.Name)
	}
	if c.Grace <= 0 {
		c.Grace = defaultGrace
	}
	p := &Process{cmd: c}
	if err := p.Start(); err != nil {
		return nil, err
	}
	return p, nil
}

// Start starts the child again after it has ended, with the same command.
func (p *Process) Start() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.run != nil && !p.run.ended() {
		return fmt.Errorf("start %s: it runs already, pid %d", p.cmd.Name, p.run.process.Pid)
	}
	r, err := start(p.cmd)
	if err != nil {
		return fmt.Errorf("start %s: %w", p.cmd.Name, err)
	}
	p.run = r
	return nil
}

// start runs c and waits for its end in one goroutine locked to its thread:
// the kernel sends the parent-death signal when the thread that forked ends, so
// that thread has to outlive the child.
func start(c Command) (*run, error) {
	r := &run{done: make(chan struct{})}
	started := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		defer close(r.done)
		log, err := os.OpenFile(c.Log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
		if err != nil {
			started <- err
			return
		}
		cmd := exec.Command(c.Path, c.Args...)
		cmd.Env, cmd.Dir, cmd.Stdout, cmd.Stderr = c.Env, c.Dir, log, log
		cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
		err = cmd.Start()
		log.Close() // the child has its own
		if err != nil {
			started <- err
			return
		}
		r.process = cmd.Process
		started <- nil
		r.err = cmd.Wait()
	}()
	return r, <-started
}

func (r *run) ended() bool {
	select {
	case <-r.done:
		return true
	default:
		return false
	}
}

func (p *Process) current() *run {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.run
}

// PID is the process id of the running child, or of the last one.
func (p *Process) PID() int { return p.current().process.Pid }

// Running reports whether the child lives; a paused one does.
func (p *Process) Running() bool { return !p.current().ended() }

// Done is closed when the child that runs now has ended.
func (p *Process) Done() <-chan struct{} { return p.current().done }

// Err is how the last child ended: nil for exit code 0 or while it runs.
func (p *Process) Err() error {
	r := p.current()
	if !r.ended() {
		return nil
	}
	return r.err
}

// Kill ends the child as a crash does, by SIGKILL, and waits for its end. It is
// no error if it had ended already.
func (p *Process) Kill() error {
	r := p.current()
	if err := p.signal(r, syscall.SIGKILL); err != nil {
		return err
	}
	<-r.done
	return nil
}

// Stop asks the child to end by SIGTERM and waits. After Command.Grace it kills
// it and says so. A paused child is resumed first.
func (p *Process) Stop() error {
	r := p.current()
	if err := errors.Join(p.signal(r, syscall.SIGTERM), p.signal(r, syscall.SIGCONT)); err != nil {
		return err
	}
	select {
	case <-r.done:
		return nil
	case <-time.After(p.cmd.Grace):
	}
	err := fmt.Errorf("stop %s: still running %v after SIGTERM, killed; its log ends:\n%s", p.cmd.Name, p.cmd.Grace, p.Tail(20))
	if kill := p.signal(r, syscall.SIGKILL); kill != nil {
		return errors.Join(err, kill)
	}
	<-r.done
	return err
}

// Pause hangs the child (SIGSTOP): its sockets stay open and nothing answers.
func (p *Process) Pause() error { return p.signal(p.current(), syscall.SIGSTOP) }

// Resume lets a paused child go on (SIGCONT).
func (p *Process) Resume() error { return p.signal(p.current(), syscall.SIGCONT) }

// signal leaves a child alone that has ended.
func (p *Process) signal(r *run, sig syscall.Signal) error {
	if err := r.process.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("send %v to %s: %w", sig, p.cmd.Name, err)
	}
	return nil
}

// LogPath is the file that holds the child's output.
func (p *Process) LogPath() string { return p.cmd.Log }

// Tail returns the last lines of the child's output, at most 64 KiB.
func (p *Process) Tail(lines int) string { return tailFile(p.cmd.Log, lines) }

func tailFile(path string, lines int) string {
	const most = 64 << 10
	f, err := os.Open(path)
	if err != nil {
		return err.Error()
	}
	defer f.Close()
	if end, err := f.Seek(0, io.SeekEnd); err == nil {
		_, err = f.Seek(max(0, end-most), io.SeekStart)
		if err != nil {
			return err.Error()
		}
	}
	b, err := io.ReadAll(io.LimitReader(f, most))
	if err != nil {
		return err.Error()
	}
	b = bytes.TrimRight(b, "\n")
	for i, n := len(b)-1, 0; i >= 0; i-- {
		if b[i] != '\n' {
			continue
		}
		if n++; n == lines {
			b = b[i+1:]
			break
		}
	}
	return string(b)
}
