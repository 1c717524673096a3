package backendtest

import (
	"compress/gzip"
	"io"
	"os"
	"testing"
)

// ReadGzip returns what a compressed file contains.
func ReadGzip(t testing.TB, name string) []byte {
	t.Helper()
	packed, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer packed.Close()
	z, err := gzip.NewReader(packed)
	if err != nil {
		t.Fatal(err)
	}
	p, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	return p
}
