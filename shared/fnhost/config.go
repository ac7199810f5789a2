package fnhost

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"time"

	"github.com/tandem-dc/tandem/shared/config"
)

// Config says where a function listens and what it grants its callers.
type Config struct {
	Listen           string        `key:"listen" default:"127.0.0.1:8080" help:"host:port for events and probes; PORT, which Knative sets, replaces the port, and in a cluster the host"`
	Sink             string        `key:"sink" help:"URL for events that the function sends; K_SINK, which Knative sets, replaces it"`
	MaxBody          int64         `key:"max-body" default:"16777216" help:"largest event, bytes; larger ones are answered 413"`
	MaxInFlightBytes int64         `key:"max-in-flight-bytes" default:"268435456" help:"bytes of events held at once; above it events are answered 429 and come again"`
	Timeout          time.Duration `key:"timeout" default:"60s" help:"longest handling of one event; keep it above the sender's delivery timeout"`
	Drain            time.Duration `key:"drain" default:"3s" help:"how long to serve on, not ready, after being told to stop, until no sender chooses this instance"`
	Finish           time.Duration `key:"finish" default:"20s" help:"longest wait for events that are being handled, after drain"`
}

// Defaults of Config's zero fields.
const (
	DefaultMaxBody          = 16 << 20
	DefaultMaxInFlightBytes = 256 << 20
	DefaultTimeout          = time.Minute
	DefaultFinish           = 20 * time.Second
)

// Validate reports settings that cannot work.
func (c Config) Validate() error {
	var errs []error
	bad := func(key, problem, remedy string) {
		errs = append(errs, &config.Error{Key: key, Problem: problem, Remedy: remedy})
	}
	if c.Listen != "" {
		if _, _, err := net.SplitHostPort(c.Listen); err != nil {
			bad("listen", err.Error(), "write host:port, or :port for all interfaces")
		}
	}
	if c.Sink != "" {
		if u, err := url.Parse(c.Sink); err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
			bad("sink", "is no URL", "write http://host/path or https://host/path")
		}
	}
	for _, n := range []struct {
		key   string
		value int64
	}{
		{"max-body", c.MaxBody}, {"max-in-flight-bytes", c.MaxInFlightBytes},
		{"timeout", int64(c.Timeout)}, {"drain", int64(c.Drain)}, {"finish", int64(c.Finish)},
	} {
		if n.value < 0 {
			bad(n.key, "is negative", "write zero or more")
		}
	}
	if f := c.filled(); f.MaxInFlightBytes < f.MaxBody {
		bad("max-in-flight-bytes", fmt.Sprintf("%d is below max-body, %d: an event of that size could never be taken", f.MaxInFlightBytes, f.MaxBody), "raise it, or lower max-body")
	}
	return errors.Join(errs...)
}

// filled replaces zeros by their defaults. Drain may be zero.
func (c Config) filled() Config {
	c.Listen = cmp.Or(c.Listen, "127.0.0.1:8080")
	c.MaxBody = cmp.Or(c.MaxBody, DefaultMaxBody)
	c.MaxInFlightBytes = cmp.Or(c.MaxInFlightBytes, DefaultMaxInFlightBytes)
	c.Timeout = cmp.Or(c.Timeout, DefaultTimeout)
	c.Finish = cmp.Or(c.Finish, DefaultFinish)
	return c
}

// Knative applies what Knative tells a container: PORT is the port to listen on,
// on all interfaces within a cluster, and K_SINK where events go.
func Knative(c Config, getenv func(string) string) (Config, error) {
	if sink := getenv("K_SINK"); sink != "" {
		c.Sink = sink
	}
	port := getenv("PORT")
	if port == "" {
		return c, nil
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return c, &config.Error{Key: "PORT", Problem: fmt.Sprintf("environment PORT: %q is no port", port), Remedy: "write a number from 1 to 65535, or unset it"}
	}
	host, _, err := net.SplitHostPort(c.filled().Listen)
	if err != nil {
		return c, &config.Error{Key: "listen", Problem: err.Error(), Remedy: "write host:port"}
	}
	if getenv("KUBERNETES_SERVICE_HOST") != "" {
		host = ""
	}
	c.Listen = net.JoinHostPort(host, port)
	return c, nil
}
