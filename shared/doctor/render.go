package doctor

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
)

// WriteText prints findings for a person: faults first within the order of the
// checks, each with its reason and its repair, then a count. With brief, what is
// well is left out.
func WriteText(w io.Writer, findings []Finding, brief bool) error {
	var b strings.Builder
	count := map[Severity]int{}
	for _, severity := range []Severity{Refuse, Warn, OK} {
		for _, f := range findings {
			if f.Severity != severity {
				continue
			}
			count[severity]++
			if severity == OK && brief {
				continue
			}
			f.text(&b)
		}
	}
	fmt.Fprintf(&b, "%d refused, %d warnings, %d well\n", count[Refuse], count[Warn], count[OK])
	_, err := io.WriteString(w, b.String())
	return err
}

func (f *Finding) text(b *strings.Builder) {
	fmt.Fprintf(b, "%-6s %-24s %s\n", f.Severity, f.ID, f.What)
	if f.Severity == OK {
		return
	}
	if f.Why != "" {
		fmt.Fprintf(b, "       why: %s\n", f.Why)
	}
	for _, s := range f.Fix {
		fmt.Fprintf(b, "       fix: %s;\n", s)
	}
	if f.Setting != "" {
		label := "set"
		if len(f.Fix) > 0 {
			label = "and"
		}
		fmt.Fprintf(b, "       %s: %s\n", label, f.Setting)
	}
}

// WriteJSON prints findings for a program: {"worst": "...", "findings": [...]}.
func WriteJSON(w io.Writer, findings []Finding) error {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	return e.Encode(struct {
		Worst    Severity  `json:"worst"`
		Findings []Finding `json:"findings"`
	}{Worst(findings), findings})
}
