package main

import (
	"archive/tar"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-containerregistry/pkg/v1/mutate"
)

func TestPackIsReproducibleAndRunsWithoutRights(t *testing.T) {
	t.Parallel()
	binary := filepath.Join(t.TempDir(), "apply")
	if err := os.WriteFile(binary, []byte("program"), 0o700); err != nil {
		t.Fatal(err)
	}
	first, err := pack(binary, "apply", "arm64")
	if err != nil {
		t.Fatal(err)
	}
	again, err := pack(binary, "apply", "arm64")
	if err != nil {
		t.Fatal(err)
	}
	a, _ := first.Digest()
	b, _ := again.Digest()
	if a != b {
		t.Errorf("two builds of one binary differ: %s and %s", a, b)
	}
	c, err := first.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	if c.Architecture != "arm64" || c.Config.User != user || len(c.Config.Entrypoint) != 1 || c.Config.Entrypoint[0] != "/ko-app/apply" {
		t.Errorf("config is %+v", c)
	}
	r := mutate.Extract(first)
	defer r.Close()
	var content []byte
	for files := tar.NewReader(r); ; {
		h, err := files.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if h.ModTime.Unix() != 0 {
			t.Errorf("%s carries the time %v", h.Name, h.ModTime)
		}
		if h.Name == "ko-app/apply" {
			if content, err = io.ReadAll(files); err != nil {
				t.Fatal(err)
			}
		}
	}
	if string(content) != "program" {
		t.Errorf("the image's program is %q", content)
	}
}
