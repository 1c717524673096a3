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

// DriverOptions are passed to a Driver with the URL.
type DriverOptions struct {
	// Logger is never nil. It forwards to the registry's current logger.
	Logger *slog.Logger
}

// Driver opens the stores that a URL of its scheme names. It may be called concurrently, and is
// called again after it has failed. It should not wait for a server: counting works while the
// server is unreachable. ctx is only for the duration of the call.
//
// The caller owns the returned Config and closes its stores. Errors about the URL should wrap
// ErrInvalid, those about a server that refuses ErrRefused. Errors are logged: they should show of
// the URL what [RedactURL] returns, since u.Redacted() still has whatever looks like a path or a
// parameter. What errors of the driver and its stores have of the URL nevertheless is removed, see
// [RedactError]; what a driver logs is its own responsibility.
type Driver func(ctx context.Context, u *url.URL, o DriverOptions) (*Config, error)

var drivers struct {
	sync.RWMutex
	m map[string]Driver
}

// reserved are the schemes that need no driver.
var reserved = []string{"heap", "shm"}

// Register is TryRegister, but panics on an error. Call it from an init function.
func Register(scheme string, open Driver) {
	if err := TryRegister(scheme, open); err != nil {
		panic(err)
	}
}

// TryRegister registers a driver for a URL scheme, such as "sqlite", so that gotheus.Bind and
// GOTHEUS_BACKEND accept it. A scheme begins with a lower-case letter, followed by lower-case
// letters, digits and any of + - .
//
// The error wraps ErrInvalid if open is nil, or if the scheme is invalid, reserved or already
// registered.
func TryRegister(scheme string, open Driver) error {
	switch {
	case !isScheme(scheme):
		return fmt.Errorf("store: %w: Register: scheme %q: may have lower-case letters, digits "+
			"and any of + - . and must begin with a lower-case letter", ErrInvalid, scheme)
	case open == nil:
		return fmt.Errorf("store: %w: Register: the driver for scheme %q is nil", ErrInvalid, scheme)
	case slices.Contains(reserved, scheme):
		return fmt.Errorf("store: %w: Register: scheme %q is reserved for gotheus itself", ErrInvalid, scheme)
	}
	drivers.Lock()
	defer drivers.Unlock()
	if drivers.m[scheme] != nil {
		return fmt.Errorf("store: %w: Register: scheme %q already has a driver", ErrInvalid, scheme)
	}
	if drivers.m == nil {
		drivers.m = make(map[string]Driver)
	}
	drivers.m[scheme] = open
	return nil
}

func isScheme(s string) bool {
	if s == "" || s[0] < 'a' || s[0] > 'z' {
		return false
	}
	return strings.IndexFunc(s, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < '0' || r > '9') && !strings.ContainsRune("+-.", r)
	}) < 0
}

// Lookup returns the driver for a scheme, or nil if none is registered.
func Lookup(scheme string) Driver {
	drivers.RLock()
	defer drivers.RUnlock()
	return drivers.m[scheme]
}

// Schemes returns the registered schemes in ascending order.
func Schemes() []string {
	drivers.RLock()
	defer drivers.RUnlock()
	return slices.Sorted(maps.Keys(drivers.m))
}
