package tlsconf_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tandem-dc/tandem/shared/tlsconf"
)

func TestLoad(t *testing.T) {
	cert, key := pair(t)
	c, err := tlsconf.Config{Enabled: true, CA: cert, Cert: cert, Key: key, ServerName: "db"}.Load()
	if err != nil {
		t.Fatal(err)
	}
	if c.ServerName != "db" || c.RootCAs == nil || len(c.Certificates) != 1 || c.InsecureSkipVerify || c.MinVersion != tls.VersionTLS12 {
		t.Errorf("got %+v", c)
	}
	if c, err := (tlsconf.Config{}).Load(); c != nil || err != nil {
		t.Errorf("disabled gives %v, %v", c, err)
	}
}

func TestLoadRefuses(t *testing.T) {
	cert, key := pair(t)
	other, _ := pair(t)
	empty := filepath.Join(t.TempDir(), "empty")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		config tlsconf.Config
		want   string
	}{
		{tlsconf.Config{CA: cert}, "tls.enabled"},
		{tlsconf.Config{SkipVerify: true}, "tls.enabled"},
		{tlsconf.Config{Enabled: true, Cert: cert}, "tls.cert"},
		{tlsconf.Config{Enabled: true, Key: key}, "tls.cert"},
		{tlsconf.Config{Enabled: true, CA: empty}, empty},
		{tlsconf.Config{Enabled: true, CA: empty + "x"}, "tls.ca"},
		{tlsconf.Config{Enabled: true, Cert: other, Key: key}, "tls.cert"},
	} {
		if got, err := c.config.Load(); got != nil || err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: want an error that names %q, got %v", c.config, c.want, err)
		}
	}
}

// pair writes a certificate and its key and returns the files.
func pair(t *testing.T) (cert, key string) {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, DNSNames: []string{"db"},
		NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &k.PublicKey, k)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	write := func(name, kind string, der []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	return write("cert.pem", "CERTIFICATE", der), write("key.pem", "PRIVATE KEY", keyDER)
}
