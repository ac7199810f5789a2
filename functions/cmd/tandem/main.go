// Command tandem is the operator's tool: it looks, and changes nothing.
package main

import (
	"fmt"
	"io"
	"os"
	"runtime/debug"

	"github.com/alecthomas/kong"

	"github.com/tandem-dc/tandem/shared/doctor"
	"github.com/tandem-dc/tandem/shared/ledger"
	"github.com/tandem-dc/tandem/shared/tail"
)

// cli has one line for each verb; the verbs live in the packages they run.
type cli struct {
	Doctor  doctor.Command `cmd:"" help:"Check whether a server can be replicated, and say what repairs it."`
	Tail    tail.Command   `cmd:"" help:"Print the events of a topic."`
	Schema  schema         `cmd:"" help:"Print the SQL that creates the tandem schema, for an administrator to run."`
	Version version        `cmd:"" help:"Print the version."`
}

func main() {
	var c cli
	ctx := kong.Parse(&c, kong.Name("tandem"), kong.UsageOnError(),
		kong.Description("tandem keeps two datacenters of a MySQL-backed shop active at once. This tool looks at it and changes nothing."),
		kong.BindTo(os.Stdout, (*io.Writer)(nil)))
	ctx.FatalIfErrorf(ctx.Run())
}

type schema struct{}

func (schema) Run(out io.Writer) error {
	_, err := io.WriteString(out, ledger.Script())
	return err
}

type version struct{}

func (version) Run(out io.Writer) error {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		_, err := fmt.Fprintln(out, "tandem, built without module information")
		return err
	}
	revision := ""
	for _, s := range info.Settings {
		switch {
		case s.Key == "vcs.revision":
			revision = " " + s.Value + revision
		case s.Key == "vcs.modified" && s.Value == "true":
			revision += " (modified)"
		}
	}
	_, err := fmt.Fprintf(out, "tandem %s%s %s\n", info.Main.Version, revision, info.GoVersion)
	return err
}
