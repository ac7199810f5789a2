// Package tlsconf answers how a connection is encrypted: it turns certificate
// files into a *tls.Config.
package tlsconf

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"

	"github.com/tandem-dc/tandem/shared/config"
)

// Config names the certificate files of one connection. Files are read once,
// by Load.
type Config struct {
	Enabled    bool   `key:"enabled" help:"encrypt the connection with TLS 1.2 or newer"`
	CA         string `key:"ca" help:"PEM file of the authorities to trust; empty: those of the system"`
	Cert       string `key:"cert" help:"PEM file of the client certificate, if the server asks for one"`
	Key        string `key:"key" help:"PEM file of the client certificate's private key"`
	ServerName string `key:"server-name" help:"name that the server's certificate must carry; empty: the host of the address"`
	SkipVerify bool   `key:"skip-verify" help:"accept any server certificate (tests only: anyone in between can read along)"`
}

// Validate reports settings that contradict one another, without reading
// files. Errors are *config.Error.
func (c Config) Validate() error {
	if !c.Enabled {
		if c.CA != "" || c.Cert != "" || c.Key != "" || c.ServerName != "" || c.SkipVerify {
			return &config.Error{Key: "enabled", Problem: "is false, but other tls settings are given", Remedy: "set it to true or remove them"}
		}
		return nil
	}
	if (c.Cert == "") != (c.Key == "") {
		return &config.Error{Key: "cert", Problem: "goes together with key", Remedy: "set both or neither"}
	}
	return nil
}

// Load reads the files. It returns nil and no error when TLS is not enabled.
// Errors name the setting and the file.
func (c Config) Load() (*tls.Config, error) {
	if err := config.Within("tls", c.Validate()); err != nil {
		return nil, err
	}
	if !c.Enabled {
		return nil, nil
	}
	t := &tls.Config{
		MinVersion:         tls.VersionTLS12,
		ServerName:         c.ServerName,
		InsecureSkipVerify: c.SkipVerify, //nolint:gosec // asked for by name, documented as unsafe
	}
	if c.CA != "" {
		pem, err := os.ReadFile(c.CA)
		if err != nil {
			return nil, fmt.Errorf("tls.ca: %w", err)
		}
		t.RootCAs = x509.NewCertPool()
		if !t.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("tls.ca: %s holds no PEM certificate", c.CA)
		}
	}
	if c.Cert != "" {
		pair, err := tls.LoadX509KeyPair(c.Cert, c.Key)
		if err != nil {
			return nil, fmt.Errorf("tls.cert %s, tls.key %s: %w", c.Cert, c.Key, err)
		}
		t.Certificates = []tls.Certificate{pair}
	}
	return t, nil
}
