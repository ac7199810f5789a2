//go:generate go run . --out ../../../docs/configuration.md

// Command configdoc writes docs/configuration.md from the programs' own structs,
// or checks that it is up to date.
package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"

	"github.com/tandem-dc/tandem/shared/config"
)

type options struct {
	Out   string `key:"out" default:"docs/configuration.md" help:"file to write"`
	Check bool   `key:"check" help:"write nothing; fail if the file is not what would be written"`
}

// Validate refuses to write nowhere.
func (o options) Validate() error {
	if o.Out == "" {
		return &config.Error{Key: "out", Problem: "is empty", Remedy: "name the file to write"}
	}
	return nil
}

func main() {
	if err := run(os.Args[1:]); err != nil && !errors.Is(err, config.ErrHelp) {
		fmt.Fprintln(os.Stderr, "configdoc:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	var o options
	// The environment is for the programs described, not for this one.
	err := config.Load(&o, config.Options{
		Program: "configdoc", Summary: "writes the reference of all settings", Args: args,
		Examples: []string{"configdoc", "configdoc --check"},
	})
	if err != nil {
		return err
	}
	var text bytes.Buffer
	if err := config.Markdown(&text, sections()...); err != nil {
		return err
	}
	if !o.Check {
		return os.WriteFile(o.Out, text.Bytes(), 0o644) //nolint:gosec // a page for everyone
	}
	have, err := os.ReadFile(o.Out)
	if err != nil {
		return err
	}
	if !bytes.Equal(have, text.Bytes()) {
		return fmt.Errorf("%s is out of date: run go run ./testbench/cmd/configdoc", o.Out)
	}
	return nil
}
