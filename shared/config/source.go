package config

import (
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

const testPrefix = "TANDEM_TEST_"

// found is what one source says of one setting: a text or a YAML node.
type found struct {
	text string
	node *yaml.Node
	from origin
}

// apply sets what one source says.
func (s *schema) apply(values map[*leaf]found) []error {
	var errs []error
	for _, l := range s.leaves {
		f, ok := values[l]
		if !ok {
			continue
		}
		key := s.path(l.Key)
		if l.secretOf == nil {
			errs = append(errs, l.set(f, key)...)
			continue
		}
		if _, both := values[l.secretOf]; both {
			errs = append(errs, &Error{key, f.from.problem("names a file, and the same source gives " + s.path(l.secretOf.Key) + " too"), "keep one of them"})
			continue
		}
		path := f.text
		if f.node != nil {
			path = f.node.Value
		}
		text, err := readSecret(path)
		if err != nil {
			errs = append(errs, &Error{key, f.from.problem(err.Error()), "name a readable file that holds the secret and nothing else"})
			continue
		}
		l.secretOf.value.SetString(text)
	}
	return errs
}

// parseArgs reads the command line. It returns a nil map when help is asked for,
// and the value of --config.
func (s *schema) parseArgs(args []string) (map[*leaf]found, string, []error) {
	values := map[*leaf]found{}
	var errs []error
	file := ""
	for i := 0; i < len(args); i++ {
		arg := args[i]
		name, text, hasText := strings.Cut(strings.TrimPrefix(strings.TrimPrefix(arg, "-"), "-"), "=")
		if arg == "-h" || arg == "-help" || arg == "--help" {
			return nil, "", nil
		}
		if !strings.HasPrefix(arg, "-") || name == "" {
			errs = append(errs, &Error{"", "unexpected argument " + quote(arg), "settings are flags, as --key value or --key=value"})
			continue
		}
		flag := "--" + name
		l := s.byKey[name]
		if l == nil && name != fileKey {
			errs = append(errs, &Error{flag, "there is no such flag", suggest(flag, append(s.flags(), "--config", "--help"))})
			// Its value, if it stands apart, is no mistake of its own.
			if !hasText && i+1 < len(args) && !strings.HasPrefix(args[i+1], "-") {
				i++
			}
			continue
		}
		next := ""
		if i+1 < len(args) {
			next = args[i+1]
		}
		switch isBool := l != nil && l.Type == "bool"; {
		case hasText:
		case isBool && (next == "true" || next == "false"):
			text, i = next, i+1
		case isBool:
			text = "true"
		case i+1 == len(args) || strings.HasPrefix(next, "--"):
			errs = append(errs, &Error{flag, "has no value", "write " + flag + "=VALUE"})
			continue
		default:
			text, i = next, i+1
		}
		if l == nil {
			file = text
			continue
		}
		values[l] = found{text: text, from: origin{flag: flag}}
	}
	return values, file, errs
}

func (s *schema) flags() []string {
	var flags []string
	for _, l := range s.leaves {
		flags = append(flags, l.Flag)
	}
	return flags
}

// serviceLink matches what Kubernetes puts into every container for a Service
// whose name begins with tandem-; nobody wrote it, so it is no mistake.
var serviceLink = regexp.MustCompile(`_(SERVICE_HOST|SERVICE_PORT(_[A-Z0-9_]+)?|PORT|PORT_[0-9]+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)$`)

// parseEnviron reads the environment, and the value of TANDEM_CONFIG.
func (s *schema) parseEnviron(environ []string) (map[*leaf]found, string, []error) {
	values := map[*leaf]found{}
	var errs []error
	file := ""
	for _, e := range environ {
		name, text, ok := strings.Cut(e, "=")
		switch l := s.byEnv[name]; {
		case !ok || !strings.HasPrefix(name, envPrefix) || name == "TANDEM_CACHE" || strings.HasPrefix(name, testPrefix):
		case name == fileEnv:
			file = text
		case l != nil:
			values[l] = found{text: text, from: origin{env: name}}
		case serviceLink.MatchString(name):
		default:
			errs = append(errs, &Error{name, "there is no such setting for this program", suggest(name, append(slices.Sorted(maps.Keys(s.byEnv)), fileEnv))})
		}
	}
	return values, file, errs
}

// Main is Options for a program: its arguments, environment and standard output.
func Main(program, summary string, examples ...string) Options {
	return Options{Program: program, Summary: summary, Examples: examples, Args: os.Args[1:], Environ: os.Environ(), Out: os.Stdout}
}
