package backend

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"sync"
)

// ErrScheme says that no driver is registered for a URL's scheme.
var ErrScheme = errors.New("backend: unknown scheme")

// Driver opens a backend from a URL of its scheme.
type Driver func(ctx context.Context, u *url.URL) (Backend, error)

var drivers struct {
	sync.RWMutex
	m map[string]Driver
}

// Register makes a URL scheme known to Open. It is meant to be called from an init function and
// panics if the scheme is taken.
func Register(scheme string, open Driver) {
	drivers.Lock()
	defer drivers.Unlock()
	if drivers.m[scheme] != nil {
		panic("backend: scheme " + scheme + " is registered twice")
	}
	if drivers.m == nil {
		drivers.m = make(map[string]Driver)
	}
	drivers.m[scheme] = open
}

// Open opens the backend that rawURL names, such as "heap:" or "shm:///dev/shm/shop". The error
// wraps ErrScheme if the scheme's driver is not part of the program.
func Open(ctx context.Context, rawURL string) (Backend, error) {
	u, err := url.Parse(rawURL)
	if err != nil { // is not shown: it may name a part of a password
		return nil, errors.New("backend: this is not a URL: special characters in a password must be escaped, as %23 for #")
	}
	drivers.RLock()
	open := drivers.m[u.Scheme]
	var known []string
	for s := range drivers.m {
		known = append(known, s+":")
	}
	drivers.RUnlock()
	if open == nil {
		slices.Sort(known)
		hint := "import the package that registers it"
		if u.Scheme == "" {
			hint = "a URL begins with a scheme, as in shm:///dev/shm/shop"
		}
		return nil, fmt.Errorf("%w %q in %q (known: %s): %s", ErrScheme, u.Scheme, Redact(rawURL), strings.Join(known, " "), hint)
	}
	return open(ctx, u)
}

// Redact returns a URL for logs and errors, without the password that it may have, in front of the host or as a
// parameter whose name has "password" in it.
func Redact(rawURL string) string {
	u, err := url.Parse(rawURL)
	if err != nil {
		return "(not a URL)"
	}
	q, secret := u.Query(), false
	for name := range q {
		if strings.Contains(name, "password") {
			q[name], secret = []string{"xxxxx"}, true
		}
	}
	if secret {
		u.RawQuery = q.Encode()
	}
	return u.Redacted()
}
