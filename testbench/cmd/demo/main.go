// Command demo runs two datacenters on this machine and compares them in the end.
package main

import (
	"github.com/alecthomas/kong"

	"github.com/tandem-dc/tandem/testbench/demo"
)

func main() {
	var c demo.Command
	ctx := kong.Parse(&c, kong.Name("demo"), kong.Description("Two datacenters on this machine: a shop sells in both, each applies the other's "+
		"transactions, and in the end every row is compared. Exit code 0 only if they are equal."))
	ctx.FatalIfErrorf(ctx.Run())
}
