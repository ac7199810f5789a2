// Package config answers how a program is set up: one loader fills a struct
// from its defaults, a YAML file, the environment and flags, later ones winning,
// and every error names the key and what to write instead.
//
// A field takes part if it has a key tag:
//
//	type Config struct {
//		MySQL struct {
//			Addr     string `key:"addr" default:"127.0.0.1:3306" help:"host:port of the server"`
//			Password string `key:"password" secret:"true" help:"password of the account"`
//		} `key:"mysql"`
//	}
//
// It is then mysql.addr (or addr below mysql) in the file, TANDEM_MYSQL_ADDR in
// the environment and --mysql.addr on the command line. A secret may be left in a
// file of its own, named by mysql.password-file, TANDEM_MYSQL_PASSWORD_FILE or
// --mysql.password-file.
//
// Fields are strings, numbers, booleans, durations, whatever reads itself from
// text, lists of those (a,b,c) and maps from strings to them (a=b,c=d). Lists and
// maps of structs are YAML, in the environment and in flags as well; the structs
// are tagged the same way. Any other type is decoded by the YAML package.
package config

import (
	"errors"
	"fmt"
	"io"
	"os"
	"reflect"
	"strings"
)

const (
	envPrefix = "TANDEM_"
	fileKey   = "config" // names the YAML file; no field may have this key
	fileEnv   = "TANDEM_CONFIG"
	helpKey   = "help"

	maxFile   = 1 << 20 // bytes of a YAML file
	maxSecret = 1 << 16 // bytes of a file that holds a secret
)

// ErrHelp says that --help was asked for and has been printed: exit with 0.
var ErrHelp = errors.New("help was printed")

// Options say what surrounds the struct that Load fills.
type Options struct {
	Program  string    // name in the help text
	Summary  string    // what the program does, one or a few sentences
	Examples []string  // command lines
	Args     []string  // os.Args[1:]
	Environ  []string  // os.Environ()
	Out      io.Writer // where --help goes; nil: standard output
}

// Load fills dst, a pointer to a struct. A value that dst already holds counts
// as the default of its field. Load reports all mistakes of all sources
// together, each as an *Error; values that are well formed are then judged by
// dst's Validate method, or, where dst has none, by those of its groups.
func Load(dst any, o Options) error {
	v := reflect.ValueOf(dst)
	if v.Kind() != reflect.Pointer || v.IsNil() || v.Elem().Kind() != reflect.Struct {
		return fmt.Errorf("config: Load needs a pointer to a struct, not %T", dst)
	}
	s, err := newSchema(v.Elem(), "")
	if err != nil {
		return err
	}
	if err := s.defaults(); err != nil {
		return err
	}
	flags, file, errs := s.parseArgs(o.Args)
	if flags == nil {
		if err := s.help(o); err != nil {
			return err
		}
		return ErrHelp
	}
	env, envFile, envErrs := s.parseEnviron(o.Environ)
	errs = append(envErrs, errs...)
	if file == "" {
		file = envFile
	}
	if file != "" {
		errs = append(s.loadFile(file), errs...)
	}
	errs = append(errs, s.apply(env)...)
	errs = append(errs, s.apply(flags)...)
	if err := errors.Join(errs...); err != nil {
		return err
	}
	return validate(v.Elem(), "")
}

// loadFile applies the YAML file.
func (s *schema) loadFile(path string) []error {
	text, err := readBounded(path, maxFile)
	if err != nil {
		return []error{&Error{fileKey, err.Error(), "name a readable YAML file by --config or " + fileEnv + ", or neither"}}
	}
	root, err := parseYAML(text)
	if err != nil {
		return []error{&Error{fileKey, path + ": " + err.Error(), "write one YAML mapping of keys to values"}}
	}
	found, errs := s.walk(root, origin{file: path})
	return append(errs, s.apply(found)...)
}

func readBounded(path string, limit int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(text)) > limit {
		return nil, fmt.Errorf("%s is larger than %d bytes", path, limit)
	}
	return text, nil
}

// readSecret drops the line end that editors add, and nothing else.
func readSecret(path string) (string, error) {
	b, err := readBounded(path, maxSecret)
	if err != nil {
		return "", err
	}
	text := strings.TrimSuffix(strings.TrimSuffix(string(b), "\n"), "\r")
	if text == "" {
		return "", fmt.Errorf("%s is empty", path)
	}
	return text, nil
}

type validator interface{ Validate() error }

// validate asks v, or the groups in v where v does not answer itself. A struct
// that has a Validate method answers for its groups too: it knows which of them
// matter.
func validate(v reflect.Value, prefix string) error {
	if c, ok := v.Addr().Interface().(validator); ok {
		return Within(prefix, c.Validate())
	}
	var errs []error
	for i := range v.NumField() {
		f := v.Type().Field(i)
		if key, ok := groupKey(f); ok {
			errs = append(errs, validate(v.Field(i), join(prefix, key)))
		}
	}
	return errors.Join(errs...)
}
