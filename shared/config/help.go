package config

import (
	"fmt"
	"io"
	"os"
	"strings"
)

// help prints what --help promises.
func (s *schema) help(o Options) error {
	out := o.Out
	if out == nil {
		out = os.Stdout
	}
	name := o.Program
	if name == "" {
		name = "tandem"
	}
	var b strings.Builder
	if o.Summary != "" {
		fmt.Fprintf(&b, "%s: %s\n\n", name, o.Summary)
	}
	fmt.Fprintf(&b, "Usage: %s [--config FILE] [--key value ...]\n\n", name)
	fmt.Fprintf(&b, "Settings come from defaults, a YAML file, the environment and flags; the later wins.\n")
	if len(o.Examples) > 0 {
		fmt.Fprintf(&b, "\nExamples:\n")
		for _, e := range o.Examples {
			fmt.Fprintf(&b, "  %s\n", e)
		}
	}
	fmt.Fprintf(&b, "\nFlags:\n")
	entry(&b, Field{Flag: "--config", Env: fileEnv, Type: "file", Help: "YAML file of settings"})
	for _, f := range s.reference(nil) {
		entry(&b, f)
	}
	entry(&b, Field{Flag: "--help", Help: "print this text"})
	_, err := io.WriteString(out, b.String())
	return err
}

func entry(b *strings.Builder, f Field) {
	if f.Flag == "" {
		fmt.Fprintf(b, "      %s %s: %s%s\n", f.Key, kindName(f), f.Help, inDefault(f))
		return
	}
	b.WriteString(strings.TrimRight("  "+f.Flag+" "+kindName(f), " "))
	if f.Env != "" {
		fmt.Fprintf(b, "  [%s]", f.Env)
	}
	fmt.Fprintf(b, "\n      %s%s\n", f.Help, inDefault(f))
}

func inDefault(f Field) string {
	if f.Default == "" {
		return ""
	}
	return " (default " + f.Default + ")"
}
