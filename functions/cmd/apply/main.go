// Command apply hosts the function that applies a peer datacenter's transactions.
package main

import (
	"fmt"
	"os"

	"knative.dev/pkg/signals"

	"github.com/tandem-dc/tandem/functions/apply"
)

func main() {
	if err := apply.RunProgram(signals.NewContext(), os.Args[1:], os.Environ(), os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "apply:", err)
		os.Exit(1)
	}
}
