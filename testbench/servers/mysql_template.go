package servers

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/tandem-dc/tandem/shared/sqldb"
)

// templateFormat is part of a template's name: raise it when makeTemplate
// changes what it makes.
const templateFormat = "1"

// The redo log is the bulk of an empty data directory; it is kept small so that
// copies are quick and large enough that a test's load does not wait for it.
const (
	mysqlRedo   = "--innodb-redo-log-capacity=64M"
	mariadbRedo = "--innodb-log-file-size=48M"
)

// newDataDir makes dir a fresh data directory. The slow part, initialising, is
// done once per version and kept as a template in the cache.
func (p *program) newDataDir(ctx context.Context, dir string) error {
	cache, err := CacheDir()
	if err != nil {
		return err
	}
	template := filepath.Join(cache, "templates", fmt.Sprintf("%s-%s-%s", p.flavor, p.version, templateFormat))
	held, err := lock(template+".lock", true)
	if err != nil {
		return err
	}
	defer held.Close()
	if _, err := os.Stat(template); err != nil {
		// A half-made one never gets the final name.
		fresh := template + ".new"
		if err := os.RemoveAll(fresh); err != nil {
			return err
		}
		if err := p.makeTemplate(ctx, fresh); err != nil {
			return err
		}
		if err := os.Rename(fresh, template); err != nil {
			return err
		}
	}
	if err := copyTree(template, dir); err != nil {
		return fmt.Errorf("copy the data directory %s: %w", template, err)
	}
	return nil
}

func (p *program) makeTemplate(ctx context.Context, dir string) error {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Minute)
	defer cancel()
	var cmd *exec.Cmd
	if p.flavor == sqldb.MariaDB {
		cmd = exec.CommandContext(ctx, p.install, "--no-defaults", "--skip-test-db",
			"--force", // a bare machine may not even know the name localhost
			"--auth-root-authentication-method=normal", "--datadir="+dir, mariadbRedo)
	} else {
		cmd = exec.CommandContext(ctx, p.path, p.args("--initialize-insecure", "--skip-log-bin", "--datadir="+dir, mysqlRedo)...)
	}
	cmd.Args = append(cmd.Args, asRoot()...)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("initialise a %s data directory: %w\n%s", p.flavor, err, out)
	}
	// Holds the server's UUID, which every copy must draw for itself.
	if err := os.Remove(filepath.Join(dir, "auto.cnf")); err != nil && !os.IsNotExist(err) {
		return err
	}
	return nil
}

// asRoot is the flag without which a server refuses to run as root.
func asRoot() []string {
	if os.Getuid() == 0 {
		return []string{"--user=root"}
	}
	return nil
}

func copyTree(from, to string) error {
	return filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		target := filepath.Join(to, rel)
		switch {
		case d.IsDir():
			return os.MkdirAll(target, info.Mode().Perm()|0o700)
		case info.Mode().IsRegular():
			return copyFile(path, target, info.Mode().Perm())
		}
		return nil // a socket or link left behind by initialising
	})
}

func copyFile(from, to string, mode fs.FileMode) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, mode)
	if err != nil {
		return err
	}
	if _, err := io.Copy(out, in); err != nil {
		out.Close()
		return err
	}
	return out.Close()
}
