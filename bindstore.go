package gotheus

import (
	"context"
	"fmt"
	"reflect"

	"github.com/gotheus/gotheus/internal/backend"
	"github.com/gotheus/gotheus/internal/open"
	"github.com/gotheus/gotheus/store"
)

// ErrScheme is wrapped by the error of Bind if no driver is registered for the URL's scheme,
// because the program does not import the package that registers one.
var ErrScheme = open.ErrScheme

// Backend is what BindBackend takes. It is for packages of this module: its methods are not covered
// by the compatibility promise of version 1.0. To keep metrics in a place of your own, implement
// [store.Store].
type Backend = backend.Backend

// BindStore is like Bind for stores that the caller has made. From then on r owns them, and Close
// closes them. It does not wait for the stores; while they are unreachable, counting goes on. If
// c.Options has no logger, r's is used.
//
// On error, nothing has changed, and the stores still belong to the caller. The error wraps
// ErrInvalid if c is nil, has no shards or a nil one, or has invalid options; it wraps ErrBound if
// r is bound already, and ctx.Err() if ctx ends while scrapes or another Bind or Close are in
// progress.
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
