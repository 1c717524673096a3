package syncer

import (
	"context"

	"github.com/gotheus/gotheus/internal/report"
	"github.com/gotheus/gotheus/store"
)

// contained is a store whose panics are errors: the program has it from somewhere else, and most
// calls are from a goroutine of the syncer, where nobody could recover them.
type contained struct{ store.Store }

func (c contained) Heads(ctx context.Context, names []string) (heads map[string]store.Head, err error) {
	defer recovered(&err)
	return c.Store.Heads(ctx, names)
}

func (c contained) Get(ctx context.Context, keys []store.Key) (parts [][]byte, err error) {
	defer recovered(&err)
	return c.Store.Get(ctx, keys)
}

func (c contained) Commit(ctx context.Context, commit *store.Commit) (err error) {
	defer recovered(&err)
	return c.Store.Commit(ctx, commit)
}

func (c contained) Close() (err error) {
	defer recovered(&err)
	return c.Store.Close()
}

// recovered is deferred.
func recovered(err *error) {
	if p := recover(); p != nil {
		*err = report.PanicError(p)
	}
}
