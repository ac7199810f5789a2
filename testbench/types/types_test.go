package types_test

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/tandem-dc/tandem/shared/sqldb"
	"github.com/tandem-dc/tandem/testbench/types"
)

var update = flag.Bool("update", false, "write docs/types.md")

func TestDocIsCurrent(t *testing.T) {
	path := filepath.Join("..", "..", "docs", "types.md")
	want := types.Markdown()
	if *update {
		if err := os.WriteFile(path, want, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Error("docs/types.md is not current: go test ./testbench/types -update")
	}
}

func TestCasesAreWellFormed(t *testing.T) {
	seen := map[string]bool{}
	name := regexp.MustCompile(`^[a-z][a-z0-9_]*$`)
	for _, c := range types.All() {
		if seen[c.Name] || !name.MatchString(c.Name) {
			t.Errorf("name %q is taken or no plain one", c.Name)
		}
		seen[c.Name] = true
		if len(c.Values) == 0 || c.Type == "" || strings.Contains(c.Expr("v"), "%!") || !strings.Contains(c.Expr("v"), "`v`") {
			t.Errorf("%s is incomplete: %s", c.Name, c.Expr("v"))
		}
		if !c.On(sqldb.MySQL) && !c.On(sqldb.MariaDB) {
			t.Errorf("%s is for no server", c.Name)
		}
		if n := len(c.Rows()) - len(c.Values); n != 1 && !c.NotNull || n != 0 && c.NotNull {
			t.Errorf("%s has %d more rows than values", c.Name, n)
		}
	}
	if len(seen) < 70 {
		t.Errorf("only %d cases", len(seen))
	}
}
