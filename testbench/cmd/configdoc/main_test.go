package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestWriteAndCheck(t *testing.T) {
	path := filepath.Join(t.TempDir(), "configuration.md")
	if err := run([]string{"--out", path, "--check"}); err == nil {
		t.Error("a page that is missing passes")
	}
	if err := run([]string{"--out", path}); err != nil {
		t.Fatal(err)
	}
	if err := run([]string{"--out", path, "--check"}); err != nil {
		t.Error(err)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range []string{"| `mysql.tls.server-name` |", "| `kafka.sasl.password-file` |", "| `http.max-body` | integer | `16777216` |", "| `etcd.endpoints` | list |"} {
		if !strings.Contains(string(text), s) {
			t.Errorf("the page lacks %q", s)
		}
	}
	if err := os.WriteFile(path, append(text, "edited by hand\n"...), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := run([]string{"--out", path, "--check"}); err == nil || !strings.Contains(err.Error(), "out of date") {
		t.Errorf("an edited page passes: %v", err)
	}
}
