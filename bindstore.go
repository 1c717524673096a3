package gotheus

import (
	"context"
	"fmt"
	"reflect"

	"github.com/gotheus/gotheus/internal/backend"
	"github.com/gotheus/gotheus/internal/open"
	"github.com/gotheus/gotheus/store"
)

// ErrScheme is wrapped by the error of Bind if the program has no driver for the URL's scheme: it
// does not import the package that registers one.
var ErrScheme = open.ErrScheme

// Backend is what BindBackend takes. It is for packages of this module: its methods are not covered
// by the compatibility promise of version 1.0. For a place of your own to keep metrics in,
// implement store.Store.
type Backend = backend.Backend

// BindStore is Bind for stores at hand, which r then owns: they are closed by Close. It does not
// wait for the stores: while they cannot be reached, counting goes on. If c.Options name no logger,
// r's is used.
//
// On error, nothing has happened, and the stores are still the caller's. The error wraps ErrInvalid
// if c is nil, has no shards, or one that is nil, or options that make no sense; it wraps ErrBound
// if r is bound already, and is that of ctx if this ends while scrapes, or another Bind or Close,
// are in progress.
func (r *Registry) BindStore(ctx context.Context, c *store.Config) error {
	if err := c.Check(); err != nil {
		return fmt.Errorf("%w: BindStore: %w", ErrInvalid, err)
	}
	for i, s := range c.Shards {
		if isNil(s) {
			return fmt.Errorf("%w: BindStore: Config.Shards[%d] is a nil %T", ErrInvalid, i, s)
		}
	}
	return r.bindMade(ctx, fmt.Sprintf("%T", c.Shards[0]), func() (backend.Backend, error) {
		return open.Stores(c, r.home.Log.Forward())
	})
}

// isNil reports whether v is nil, or a nil pointer.
func isNil(v any) bool {
	p := reflect.ValueOf(v)
	return v == nil || p.Kind() == reflect.Pointer && p.IsNil()
}
