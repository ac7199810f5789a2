package serve

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"

	"github.com/tandem-dc/tandem/shared/config"
)

// LogConfig says what is logged, and how.
type LogConfig struct {
	Level  string `key:"level" default:"info" help:"debug, info, warn or error"`
	Format string `key:"format" default:"text" help:"text or json"`
}

// Validate reports a level or format that does not exist.
func (c LogConfig) Validate() error {
	var errs []error
	var l slog.Level
	if err := l.UnmarshalText([]byte(c.Level)); err != nil {
		errs = append(errs, &config.Error{Key: "level", Problem: fmt.Sprintf("%q is no level", c.Level), Remedy: "write debug, info, warn or error"})
	}
	if !knownFormat(c.Format) {
		errs = append(errs, &config.Error{Key: "format", Problem: fmt.Sprintf("%q is no format", c.Format), Remedy: "write text or json"})
	}
	return errors.Join(errs...)
}

func knownFormat(f string) bool { return strings.EqualFold(f, "text") || strings.EqualFold(f, "json") }

// Logger writes records of the level and above to w, as text or json. A level or
// format that does not exist is logged, and info or text taken instead.
func Logger(w io.Writer, level, format string) *slog.Logger {
	var l slog.Level
	levelErr := l.UnmarshalText([]byte(level))
	if levelErr != nil {
		l = slog.LevelInfo
	}
	o := &slog.HandlerOptions{Level: l}
	var h slog.Handler = slog.NewTextHandler(w, o)
	if strings.EqualFold(format, "json") {
		h = slog.NewJSONHandler(w, o)
	}
	log := slog.New(h)
	if levelErr != nil {
		log.Warn("no such log level, taking info", "level", level, "remedy", "write debug, info, warn or error")
	}
	if !knownFormat(format) {
		log.Warn("no such log format, taking text", "format", format, "remedy", "write text or json")
	}
	return log
}

// promLog hands the metrics handler's errors to slog.
type promLog struct{ log *slog.Logger }

func (p promLog) Println(v ...any) {
	p.log.Warn("metrics", "error", strings.TrimSpace(fmt.Sprintln(v...)))
}
