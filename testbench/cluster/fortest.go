package cluster

import (
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/tandem-dc/tandem/testbench/servers"
)

// built holds the programs, built once per test process from the sources beside this file.
var built struct {
	once sync.Once
	dir  string
	err  error
}

// root is the repository.
func root() string {
	_, file, _, _ := runtime.Caller(0)
	return filepath.Dir(filepath.Dir(filepath.Dir(file)))
}

// Programs builds capture and the functions, and returns their directory.
func Programs(ctx context.Context) (string, error) {
	built.once.Do(func() {
		if built.dir, built.err = servers.ScratchDir("bin"); built.err != nil {
			return
		}
		build := exec.CommandContext(ctx, "go", "build", "-o", built.dir, "./capture/cmd/...", "./functions/cmd/...")
		build.Dir = root()
		if out, err := build.CombinedOutput(); err != nil {
			built.err = fmt.Errorf("build the programs: %w\n%s", err, out)
		}
	})
	return built.dir, built.err
}

// StartBuilt starts a cluster from programs and manifests of this checkout; those
// that o names already it leaves. The caller closes it; its package ends in
// servers.Main, which removes the programs.
func StartBuilt(ctx context.Context, o Options) (*Cluster, error) {
	var err error
	if o.Bin == "" {
		if o.Bin, err = Programs(ctx); err != nil {
			return nil, err
		}
	}
	if o.Triggers == "" {
		o.Triggers = filepath.Join(root(), "triggers")
	}
	return Start(ctx, o)
}

// ProgramsForTest builds capture and the functions, once per test process, and
// returns the directories of the programs and of the manifests.
func ProgramsForTest(t testing.TB) (bin, triggers string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), startTestLimit)
	defer cancel()
	bin, err := Programs(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return bin, filepath.Join(root(), "triggers")
}

// startTestLimit bounds the start of a cluster, the build of its programs included.
const startTestLimit = 5 * time.Minute

// StartForTest starts a cluster that ends with the test, from programs it
// builds. If the test fails, the logs are kept and their place is printed. The
// test's package ends in servers.Main.
func StartForTest(t testing.TB, o Options) *Cluster {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), startTestLimit)
	defer cancel()
	c, err := StartBuilt(ctx, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		failed := t.Failed()
		if err := c.Close(failed); err != nil {
			t.Error(err)
		}
		if failed {
			t.Logf("logs of the cluster: %s", c.Dir())
		}
	})
	return c
}
