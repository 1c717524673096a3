// Package open opens backends from URLs and from stores.
package open

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/url"
	"reflect"
	"slices"
	"strings"
	"sync"

	"github.com/gotheus/gotheus/internal/backend"
	"github.com/gotheus/gotheus/internal/backend/heap"
	"github.com/gotheus/gotheus/internal/backend/shm"
	"github.com/gotheus/gotheus/internal/backend/syncer"
	"github.com/gotheus/gotheus/internal/report"
	"github.com/gotheus/gotheus/store"
)

// ErrScheme means that the program has no driver for a URL's scheme.
var ErrScheme = errors.New("gotheus: unknown scheme")

// Opener opens a backend from a URL of its scheme.
type Opener func(ctx context.Context, u *url.URL) (backend.Backend, error)

var openers = struct {
	sync.RWMutex
	m map[string]Opener
}{m: map[string]Opener{"heap": openHeap, "shm": openShm}}

func openHeap(_ context.Context, u *url.URL) (backend.Backend, error) {
	if u.String() != "heap:" {
		return nil, fmt.Errorf("heap: %w: URL %q: must be exactly \"heap:\"", store.ErrInvalid, store.RedactURL(u.String()))
	}
	return heap.New(), nil
}

func openShm(ctx context.Context, u *url.URL) (backend.Backend, error) {
	b, err := shm.OpenURL(ctx, u)
	if err != nil {
		return nil, err
	}
	return b, nil
}

// Register registers the opener of a scheme. It is for tests that need their own backends behind a
// URL. It panics if the scheme is taken.
func Register(scheme string, open Opener) {
	openers.Lock()
	defer openers.Unlock()
	if openers.m[scheme] != nil {
		panic(fmt.Errorf("open: %w: scheme %q already has an opener", store.ErrInvalid, scheme))
	}
	openers.m[scheme] = open
}

// modules are modules of this project that register schemes when they are imported.
var modules = map[string]string{
	"redis":  "github.com/gotheus/gotheus/redisstore",
	"rediss": "github.com/gotheus/gotheus/redisstore",
}

// URL opens the backend that rawURL names, such as "heap:" or "shm:///dev/shm/shop". Drivers of
// stores receive logger. If no driver is registered for the URL's scheme, the error wraps
// ErrScheme; if the URL itself is wrong, it wraps store.ErrInvalid.
func URL(ctx context.Context, rawURL string, logger *slog.Logger) (backend.Backend, error) {
	u, err := url.Parse(rawURL)
	if err != nil { // err is not wrapped: it may quote a part of a password
		return nil, fmt.Errorf("gotheus: %w: this is not a URL: %s", store.ErrInvalid, mustEscape)
	}
	openers.RLock()
	open := openers.m[u.Scheme]
	openers.RUnlock()
	driver := store.Lookup(u.Scheme)
	switch {
	case open != nil:
		return open(ctx, u)
	case driver != nil:
		b, err := openStores(ctx, driver, u, rawURL, logger)
		if err != nil {
			return nil, store.RedactError(err, rawURL)
		}
		return b, nil
	}
	name := store.RedactURL(rawURL)
	if u.Scheme != "" && !strings.HasPrefix(name, u.Scheme) { // it is not sure what is what
		return nil, fmt.Errorf("%w, or %s (known: %s)", ErrScheme, mustEscape, strings.Join(known(), " "))
	}
	if u.Scheme == "" {
		return nil, fmt.Errorf("%w: there is none: a URL begins with one, as in shm:///dev/shm/shop (known: %s)", ErrScheme, strings.Join(known(), " "))
	}
	if module := modules[u.Scheme]; module != "" {
		return nil, fmt.Errorf("%w %q in %q: the program must have: import _ %q (go get %s)", ErrScheme, u.Scheme, name, module, module)
	}
	return nil, fmt.Errorf("%w %q in %q: the program must import the package that registers it (known: %s)", ErrScheme, u.Scheme, name, strings.Join(known(), " "))
}

const mustEscape = "special characters in a password must be escaped, such as # as %23, / as %2F, ? as %3F and @ as %40"

// known returns all schemes, each with a colon.
func known() []string {
	openers.RLock()
	list := slices.Collect(maps.Keys(openers.m))
	openers.RUnlock()
	list = append(list, store.Schemes()...)
	slices.Sort(list)
	for i := range list {
		list[i] += ":"
	}
	return list
}

// openStores opens the stores that a URL names, and returns a backend on them.
func openStores(ctx context.Context, driver store.Driver, u *url.URL, rawURL string, logger *slog.Logger) (backend.Backend, error) {
	c, err := call(driver, ctx, u, store.DriverOptions{Logger: cmp.Or(logger, slog.Default())})
	if err == nil && c == nil {
		err = fmt.Errorf("store: the driver for %q returned neither stores nor an error", u.Scheme+":")
	}
	if err != nil {
		return nil, err
	}
	b, err := stores(c, rawURL, logger)
	if err != nil {
		for _, s := range c.Shards {
			if !isNil(s) {
				err = errors.Join(err, s.Close())
			}
		}
		return nil, err
	}
	return b, nil
}

// call calls a driver. A panic is an error: a bind that is retried runs in a goroutine of the
// library.
func call(driver store.Driver, ctx context.Context, u *url.URL, o store.DriverOptions) (c *store.Config, err error) {
	defer func() {
		if p := recover(); p != nil {
			c, err = nil, report.PanicError(p)
		}
	}()
	return driver(ctx, u, o)
}

// setLogger passes a logger to a store that takes one. A panic is an error.
func setLogger(s store.Store, l *slog.Logger) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = report.PanicError(p)
		}
	}()
	if s, ok := s.(store.LoggerSetter); ok {
		s.SetLogger(l)
	}
	return nil
}

// Check is c.Check, and also finds shards that are nil pointers.
func Check(c *store.Config) error {
	if err := c.Check(); err != nil {
		return err
	}
	for i, s := range c.Shards {
		if isNil(s) {
			return fmt.Errorf("store: %w: Config.Shards[%d] is a nil %T", store.ErrInvalid, i, s)
		}
	}
	return nil
}

func isNil(s store.Store) bool {
	v := reflect.ValueOf(s)
	return s == nil || v.Kind() == reflect.Pointer && v.IsNil()
}

// Stores returns a backend on stores, which the backend owns and closes. It does not wait for them.
// It uses logger unless the options have one, and passes the one it uses to each LoggerSetter. If
// Check fails, Stores returns its error, and the stores still belong to the caller.
func Stores(c *store.Config, logger *slog.Logger) (backend.Backend, error) {
	return stores(c, "", logger)
}

// stores is Stores for stores that a driver has opened from a URL, which may be "".
func stores(c *store.Config, rawURL string, logger *slog.Logger) (backend.Backend, error) {
	if err := Check(c); err != nil {
		return nil, err
	}
	o := c.Options
	own := o.Logger
	o.Logger = cmp.Or(o.Logger, logger, slog.Default())
	for _, s := range c.Shards {
		if err := setLogger(s, o.Logger); err != nil {
			return nil, err
		}
	}
	if own != nil {
		o.Logger = (&report.Log{Default: own}).Forward() // which contains its panics
	}
	shards := make([]store.Store, len(c.Shards))
	for i, s := range c.Shards {
		shards[i] = contained{s, rawURL}
	}
	if len(shards) == 1 {
		b, err := syncer.New(shards[0], &o)
		if err != nil {
			return nil, err
		}
		return b, nil
	}
	b, err := syncer.NewSharded(shards, &o)
	if err != nil {
		return nil, err
	}
	return b, nil
}
