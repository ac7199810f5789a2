// Command images builds the container images of tandem's programs as tar files
// that `docker load` takes. It needs neither a container engine nor a registry:
// each image is one static program on an empty base.
package main

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path"
	"path/filepath"
	"syscall"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"

	"github.com/tandem-dc/tandem/shared/config"
)

// programs are import paths below the module, as the manifests name them after ko://.
var programs = []string{"capture/cmd/capture", "functions/cmd/apply", "functions/cmd/tandem"}

const (
	module = "github.com/tandem-dc/tandem/"
	// user is the one that distroless images call nonroot; the manifests demand a non-root user.
	user = "65532:65532"
	// certificates is where Go looks for the system's authorities on Debian.
	certificates = "etc/ssl/certs/ca-certificates.crt"
)

type options struct {
	Out  string `key:"out" default:"out/images" help:"directory for the tar files"`
	Tag  string `key:"tag" default:"local" help:"tag of the images, which are named tandem/PROGRAM"`
	Arch string `key:"arch" default:"amd64" help:"architecture, as Go names it"`
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil && !errors.Is(err, config.ErrHelp) {
		fmt.Fprintln(os.Stderr, "images:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	var o options
	// The environment is for the programs packed, not for this one.
	if err := config.Load(&o, config.Options{Program: "images", Summary: "builds container images as tar files for docker load",
		Args: args, Examples: []string{"images", "images --tag v1 --arch arm64"}}); err != nil {
		return err
	}
	if err := os.MkdirAll(o.Out, 0o755); err != nil {
		return err
	}
	for _, p := range programs {
		if err := build(ctx, o, p); err != nil {
			return fmt.Errorf("%s: %w", p, err)
		}
	}
	return nil
}

func build(ctx context.Context, o options, program string) error {
	base := path.Base(program)
	tag, err := name.NewTag("tandem/"+base+":"+o.Tag, name.WithDefaultRegistry(""))
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "tandem-image-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	binary := filepath.Join(dir, base)
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags", "-s -w", "-o", binary, module+program)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH="+o.Arch)
	if text, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("go build: %w\n%s", err, text)
	}
	image, err := pack(binary, base, o.Arch)
	if err != nil {
		return err
	}
	file := filepath.Join(o.Out, base+".tar")
	if err := tarball.WriteToFile(file, tag, image); err != nil {
		return err
	}
	digest, err := image.Digest()
	if err != nil {
		return err
	}
	info, err := os.Stat(file)
	if err != nil {
		return err
	}
	fmt.Printf("%s  %s  %.1f MB  %s\n", file, tag.Name(), float64(info.Size())/1e6, digest)
	return nil
}

// pack returns an image that is the same for the same binary: no file carries a time.
func pack(binary, base, arch string) (v1.Image, error) {
	content, err := os.ReadFile(binary)
	if err != nil {
		return nil, err
	}
	files := []file{{"ko-app/" + base, content, 0o755}}
	if pem, err := os.ReadFile("/" + certificates); err == nil {
		files = append(files, file{certificates, pem, 0o644})
	}
	layer, err := archive(files)
	if err != nil {
		return nil, err
	}
	l, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(layer)), nil })
	if err != nil {
		return nil, err
	}
	image, err := mutate.AppendLayers(empty.Image, l)
	if err != nil {
		return nil, err
	}
	c, err := image.ConfigFile()
	if err != nil {
		return nil, err
	}
	c = c.DeepCopy()
	c.OS, c.Architecture = "linux", arch
	c.Config.User, c.Config.Entrypoint = user, []string{"/ko-app/" + base}
	return mutate.ConfigFile(image, c)
}

type file struct {
	name    string
	content []byte
	mode    int64
}

func archive(files []file) ([]byte, error) {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, f := range files {
		h := &tar.Header{Name: f.name, Mode: f.mode, Size: int64(len(f.content)), ModTime: time.Unix(0, 0)}
		if err := w.WriteHeader(h); err != nil {
			return nil, err
		}
		if _, err := w.Write(f.content); err != nil {
			return nil, err
		}
	}
	return b.Bytes(), w.Close()
}
