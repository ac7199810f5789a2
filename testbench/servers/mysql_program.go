package servers

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/tandem-dc/tandem/shared/sqldb"
)

// program is a server binary and what has to stand before its flags.
type program struct {
	flavor  sqldb.Flavor
	version string // as in 9.7.4 or 10.11.19
	path    string
	loader  []string // arguments before the server's own flags, for a tree with its own C library
	flags   []string // where its files are
	install string   // path of the program that makes a data directory; MariaDB only
}

func (p *program) args(flags ...string) []string {
	args := append([]string{}, p.loader...)
	args = append(args, "--no-defaults")
	args = append(args, p.flags...)
	return append(args, flags...)
}

// findProgram looks for the server of a flavour. The error names the command
// that installs it.
func findProgram(ctx context.Context, f sqldb.Flavor) (*program, error) {
	switch f {
	case sqldb.MariaDB:
		return findMariaDB(ctx)
	case sqldb.MySQL:
		return findMySQL(ctx)
	}
	return nil, fmt.Errorf("server flavour %q is neither %s nor %s", f, sqldb.MySQL, sqldb.MariaDB)
}

func findMariaDB(ctx context.Context) (*program, error) {
	path, err := lookPath("mariadbd")
	if err != nil {
		return nil, fmt.Errorf("no MariaDB here, install it with `testbench/install.sh mariadb`: %w", err)
	}
	install, err := lookPath("mariadb-install-db")
	if err != nil {
		return nil, fmt.Errorf("MariaDB is here but incomplete, install it with `testbench/install.sh mariadb`: %w", err)
	}
	p := &program{flavor: sqldb.MariaDB, path: path, install: install}
	return p, p.probe(ctx)
}

// findMySQL prefers the tree that install.sh has unpacked: its version is the
// one the tests are made for. Debian's mysqld on PATH may be MariaDB.
func findMySQL(ctx context.Context) (*program, error) {
	cache, err := CacheDir()
	if err != nil {
		return nil, err
	}
	if p := mysqlTree(filepath.Join(cache, "mysql-sid")); p != nil {
		return p, p.probe(ctx)
	}
	const remedy = "install it with `testbench/install.sh mysql`"
	path, err := lookPath("mysqld")
	if err != nil {
		return nil, fmt.Errorf("no MySQL in %s or on PATH, %s: %w", cache, remedy, err)
	}
	p := &program{flavor: sqldb.MySQL, path: path}
	if err := p.probe(ctx); err != nil {
		return nil, fmt.Errorf("no MySQL in %s, and the one on PATH will not do, %s: %w", cache, remedy, err)
	}
	return p, nil
}

// mysqlTree is MySQL in an unpacked distribution, run by the tree's own
// loader and libraries, so that it needs neither chroot nor root. It is nil
// without one.
func mysqlTree(root string) *program {
	root, err := filepath.EvalSymlinks(root)
	if err != nil {
		return nil
	}
	usr := filepath.Join(root, "usr")
	server := filepath.Join(usr, "sbin", "mysqld")
	loaders, _ := filepath.Glob(filepath.Join(usr, "lib*", "ld-linux*.so.*"))
	multi, _ := filepath.Glob(filepath.Join(usr, "lib", "*-linux-gnu"))
	for _, dir := range multi {
		more, _ := filepath.Glob(filepath.Join(dir, "ld-linux*.so.*"))
		loaders = append(loaders, more...)
	}
	if _, err := os.Stat(server); err != nil || len(loaders) == 0 || len(multi) == 0 {
		return nil
	}
	return &program{
		flavor: sqldb.MySQL,
		path:   loaders[0],
		loader: []string{"--library-path", strings.Join(multi, ":"), server},
		flags: []string{
			"--basedir=" + usr,
			"--lc-messages-dir=" + filepath.Join(usr, "share", "mysql"),
			"--character-sets-dir=" + filepath.Join(usr, "share", "mysql", "charsets"),
			"--plugin-dir=" + filepath.Join(usr, "lib", "mysql", "plugin"),
		},
	}
}

var versionText = regexp.MustCompile(`Ver (\d+)\.(\d+)\.(\d+)`)

// probe asks the program for its version and refuses one that tandem does not support.
func (p *program) probe(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, p.path, append(append([]string{}, p.loader...), "--no-defaults", "--version")...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s --version: %w: %s", p.path, err, out)
	}
	m := versionText.FindStringSubmatch(string(out))
	if m == nil {
		return fmt.Errorf("%s --version says %q, which holds no version", p.path, out)
	}
	if maria := strings.Contains(string(out), "MariaDB"); maria != (p.flavor == sqldb.MariaDB) {
		return fmt.Errorf("%s is not %s: %s", p.path, p.flavor, out)
	}
	least := [2]int{8, 4}
	if p.flavor == sqldb.MariaDB {
		least = [2]int{10, 11}
	}
	major, _ := strconv.Atoi(m[1])
	minor, _ := strconv.Atoi(m[2])
	if major < least[0] || major == least[0] && minor < least[1] {
		return fmt.Errorf("%s is version %s.%s, tandem needs %d.%d or newer", p.path, m[1], m[2], least[0], least[1])
	}
	p.version = strings.Join(m[1:], ".")
	return nil
}

// lookPath also looks where servers are installed, which PATH of an ordinary
// user often leaves out.
func lookPath(name string) (string, error) {
	path, err := exec.LookPath(name)
	if err == nil {
		return path, nil
	}
	for _, dir := range []string{"/usr/sbin", "/usr/local/sbin", "/sbin"} {
		if path, err := exec.LookPath(filepath.Join(dir, name)); err == nil {
			return path, nil
		}
	}
	return "", err
}
