package servers_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/tandem-dc/tandem/testbench/servers"
)

// parentMark turns TestParent into a parent that the other tests can kill.
const parentMark = "TANDEM_TEST_PARENT_LOG"

func TestParent(t *testing.T) {
	log := os.Getenv(parentMark)
	if log == "" {
		return // runs only as the child of TestChildrenDieWithTheirParent
	}
	p, err := servers.StartProcess(sleeper(log))
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Pause(); err != nil { // even one that hangs
		t.Fatal(err)
	}
	// Threads come and go; only the end of the process may end the child.
	for range 20 {
		if err := exec.Command("true").Run(); err != nil {
			t.Fatal(err)
		}
	}
	if !p.Running() {
		t.Fatal("the child has ended early")
	}
	fmt.Printf("\nchild %d\n", p.PID())
	select {}
}

func sleeper(log string) servers.Command {
	return servers.Command{Name: "sleeper", Path: "/bin/sh", Args: []string{"-c", "echo here; exec sleep 300"}, Log: log}
}

func TestChildrenDieWithTheirParent(t *testing.T) {
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for _, sig := range []syscall.Signal{syscall.SIGKILL, syscall.SIGINT} {
		t.Run(sig.String(), func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			parent := exec.CommandContext(ctx, exe, "-test.run=^TestParent$", "-test.v")
			parent.Env = append(os.Environ(), parentMark+"="+filepath.Join(t.TempDir(), "log"))
			out, err := parent.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := parent.Start(); err != nil {
				t.Fatal(err)
			}
			child := 0
			for lines := bufio.NewScanner(out); child == 0; {
				if !lines.Scan() {
					t.Fatalf("the parent names no child: %v", lines.Err())
				}
				fmt.Sscanf(lines.Text(), "child %d", &child)
			}
			if err := syscall.Kill(child, 0); err != nil {
				t.Fatalf("the child %d does not run: %v", child, err)
			}
			if err := parent.Process.Signal(sig); err != nil {
				t.Fatal(err)
			}
			if err := parent.Wait(); err == nil {
				t.Error("the parent ended well")
			}
			wait(t, func() error {
				// A zombie waits only for init to collect it.
				stat, err := os.ReadFile("/proc/" + strconv.Itoa(child) + "/stat")
				if err == nil && !strings.Contains(string(stat), ") Z ") {
					return fmt.Errorf("child %d lives on: %s", child, stat)
				}
				return nil
			})
		})
	}
}

func TestProcessVerbs(t *testing.T) {
	log := filepath.Join(t.TempDir(), "log")
	c := sleeper(log)
	p, err := servers.StartProcess(c)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Start(); err == nil {
		t.Error("a running process starts twice")
	}
	first := p.PID()
	if err := p.Kill(); err != nil {
		t.Fatal(err)
	}
	if p.Running() || p.Err() == nil {
		t.Errorf("after Kill: running %v, ended by %v", p.Running(), p.Err())
	}
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	if p.PID() == first || !p.Running() {
		t.Errorf("after Start: pid %d then %d, running %v", first, p.PID(), p.Running())
	}
	says(t, p, "here")
	if err := p.Pause(); err != nil {
		t.Fatal(err)
	}
	if err := p.Stop(); err != nil {
		t.Errorf("stop a paused process: %v", err)
	}
	for _, verb := range []func() error{p.Kill, p.Stop, p.Pause, p.Resume} {
		if err := verb(); err != nil {
			t.Errorf("on an ended process: %v", err)
		}
	}
}

func TestStubbornProcessIsKilledAndNamed(t *testing.T) {
	c := servers.Command{Name: "mule", Path: "/bin/sh", Args: []string{"-c", "trap '' TERM; echo ready; while :; do sleep 0.1; done"},
		Log: filepath.Join(t.TempDir(), "log"), Grace: 200 * time.Millisecond}
	p, err := servers.StartProcess(c)
	if err != nil {
		t.Fatal(err)
	}
	says(t, p, "ready")
	if err := p.Stop(); err == nil || !strings.Contains(err.Error(), "mule") {
		t.Errorf("stop: %v", err)
	}
	if p.Running() {
		t.Error("it still runs")
	}
}

func TestMissingProgramIsAnError(t *testing.T) {
	_, err := servers.StartProcess(servers.Command{Path: "/no/such/program", Log: filepath.Join(t.TempDir(), "log")})
	if !errors.Is(err, os.ErrNotExist) {
		t.Errorf("start: %v", err)
	}
}

// says waits until the last line of the output is want.
func says(t *testing.T, p *servers.Process, want string) {
	t.Helper()
	wait(t, func() error {
		if got := p.Tail(1); got != want {
			return fmt.Errorf("the last line is %q, want %q", got, want)
		}
		return nil
	})
}
