//go:build linux

package redisstore_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/gotheus/gotheus"
	"github.com/gotheus/gotheus/internal/needs"
)

func init() {
	children["tls"] = func() {
		r := gotheus.NewRegistry(nil)
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		err := r.Bind(ctx, os.Getenv("URL"))
		r.NewCounter("c_total", "C.", nil).Inc()
		if os.Getenv("FAILS") == "" {
			fmt.Println(errors.Join(err, r.Close(ctx)))
			return
		}
		for range 100 { // until an attempt has failed
			short, cancel := context.WithTimeout(context.Background(), time.Second)
			err = r.Flush(short)
			cancel()
			if !isTimeout(err) {
				break
			}
		}
		fmt.Println(err)
	}
}

// TLS with certificate verification: a process that trusts the issuer counts, another one does not.
func TestTLS(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	cert, key, ca := certificate(t, s.dir)
	startTLS(t, s, cert, key, ca)
	url := "rediss://localhost:" + s.port
	for _, c := range []struct {
		url, env, want string
	}{
		{url, "SSL_CERT_FILE=" + ca, "<nil>"},
		{url + "?skip_verify=true", "SSL_CERT_FILE=/dev/null", "<nil>"},
		{url, "SSL_CERT_FILE=/dev/null", "certificate"},
	} {
		fails := ""
		if c.want != "<nil>" {
			fails = "FAILS=1"
		}
		child := startChild(t, "tls", "URL="+c.url, c.env, "SSL_CERT_DIR=/nonexistent", fails)
		var said []string
		for child.lines.Scan() {
			said = append(said, child.lines.Text())
		}
		if err := child.cmd.Wait(); err != nil || !strings.Contains(strings.Join(said, "\n"), c.want) {
			t.Errorf("%s, %s: %v, %q", c.url, c.env, err, said)
		}
	}
	contains(t, page(t, open(t, url+"?skip_verify=true")), "c_total 2")
}

// startTLS starts a server that accepts only TLS.
func startTLS(t *testing.T, s *server, cert, key, ca string) {
	t.Helper()
	// The server names the first option that it does not know, and ends.
	said, _ := exec.Command(serverBinary(t), "--tls-port", "0", "--no-such-option", "1").CombinedOutput()
	var none error
	if !bytes.Contains(said, []byte("no-such-option")) {
		none = errors.New("the server was built without it")
	}
	needs.Check(t, "redis-tls", none, "build the server with make BUILD_TLS=yes, or use Debian's redis-server")
	trusted := x509.NewCertPool()
	pemCA, err := os.ReadFile(ca)
	if err != nil || !trusted.AppendCertsFromPEM(pemCA) {
		t.Fatal(err)
	}
	o, err := redis.ParseURL("rediss://localhost")
	if err != nil {
		t.Fatal(err)
	}
	o.TLSConfig.RootCAs = trusted
	s.run(o, "--port", "0", "--tls-port", s.port, "--bind", "127.0.0.1", "--save", "", "--dir", s.dir, "--loglevel", "warning",
		"--tls-cert-file", cert, "--tls-key-file", key, "--tls-ca-cert-file", ca, "--tls-auth-clients", "no")
}

// noLog discards what servers of net/http write.
var noLog = log.New(io.Discard, "", 0)

// certificate makes a certificate for localhost and 127.0.0.1, and that of its issuer.
func certificate(t *testing.T, dir string) (cert, key, ca string) {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	write := func(name, typ string, b []byte) string {
		file := filepath.Join(dir, name)
		must(os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: typ, Bytes: b}), 0o600))
		return file
	}
	caKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(err)
	issuer := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test CA"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, issuer, issuer, &caKey.PublicKey, caKey)
	must(err)
	ca = write("ca.pem", "CERTIFICATE", der)
	own, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(err)
	leaf := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "localhost"}, NotBefore: issuer.NotBefore, NotAfter: issuer.NotAfter,
		DNSNames: []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err = x509.CreateCertificate(rand.Reader, leaf, issuer, &own.PublicKey, caKey)
	must(err)
	cert = write("cert.pem", "CERTIFICATE", der)
	der, err = x509.MarshalPKCS8PrivateKey(own)
	must(err)
	return cert, write("key.pem", "PRIVATE KEY", der), ca
}
