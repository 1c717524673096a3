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
	if err != nil {
		var inner *url.Error
		if errors.As(err, &inner) {
			err = inner.Err // without the URL, which may hold a password
		}
		return nil, fmt.Errorf("backend: this is not a URL: %w", err)
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
		return nil, fmt.Errorf("%w %q in %q (known: %s): %s", ErrScheme, u.Scheme, u.Redacted(), strings.Join(known, " "), hint)
	}
	return open(ctx, u)
}
