package store

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"net/url"
	"slices"
	"strings"
	"sync"
)

// DriverOptions are what a Driver is told beside the URL.
type DriverOptions struct {
	// Logger is never nil. It leads to the logger that the registry has at the time of each
	// line.
	Logger *slog.Logger
}

// Driver opens the stores that a URL of its scheme names. It may be called concurrently, and again
// later if it has failed. It should not wait for a server: while that cannot be reached, counting
// goes on. ctx is for the opening only.
//
// The Config belongs to the caller, who closes its stores. An error is logged and shown: where it
// quotes the URL, it should do so by u.Redacted(), and it must not name any other secret.
type Driver func(ctx context.Context, u *url.URL, o DriverOptions) (*Config, error)

var drivers struct {
	sync.RWMutex
	m map[string]Driver
}

// reserved are schemes that the library knows by itself.
var reserved = []string{"heap", "shm"}

// Register makes a URL scheme, such as "sqlite", known to gotheus.Bind and GOTHEUS_BACKEND. It is
// meant to be called from an init function. It panics if open is nil, and if the scheme is taken or
// cannot be that of a URL: it begins with a lower-case letter, and has lower-case letters, digits
// and any of + - . only.
func Register(scheme string, open Driver) {
	switch {
	case !isScheme(scheme):
		panic(fmt.Sprintf("store: Register: scheme %q: must begin with a lower-case letter, and have lower-case letters, digits and + - . only", scheme))
	case open == nil:
		panic(fmt.Sprintf("store: Register: the driver for scheme %q is nil", scheme))
	case slices.Contains(reserved, scheme):
		panic(fmt.Sprintf("store: Register: scheme %q is the library's own", scheme))
	}
	drivers.Lock()
	defer drivers.Unlock()
	if drivers.m[scheme] != nil {
		panic(fmt.Sprintf("store: Register: scheme %q is registered twice", scheme))
	}
	if drivers.m == nil {
		drivers.m = make(map[string]Driver)
	}
	drivers.m[scheme] = open
}

func isScheme(s string) bool {
	if s == "" || s[0] < 'a' || s[0] > 'z' {
		return false
	}
	return strings.IndexFunc(s, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < '0' || r > '9') && !strings.ContainsRune("+-.", r)
	}) < 0
}

// Lookup returns the driver that is registered for a scheme, or nil.
func Lookup(scheme string) Driver {
	drivers.RLock()
	defer drivers.RUnlock()
	return drivers.m[scheme]
}

// Schemes returns the schemes that drivers are registered for, in ascending order.
func Schemes() []string {
	drivers.RLock()
	defer drivers.RUnlock()
	return slices.Sorted(maps.Keys(drivers.m))
}
