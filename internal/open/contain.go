package open

import (
	"context"

	"github.com/gotheus/gotheus/internal/report"
	"github.com/gotheus/gotheus/store"
)

// contained is a store whose panics are errors: the program has it from somewhere else, and most
// calls are from a goroutine of the syncer, where nobody could recover them. Its errors have
// nothing of the URL that it was opened from, if any, besides what people may see: they go to logs,
// and clients of databases like to quote what they were given.
type contained struct {
	store.Store
	url string
}

func (c contained) Heads(ctx context.Context, names []string) (heads map[string]store.Head, err error) {
	defer c.contain(&err)
	return c.Store.Heads(ctx, names)
}

func (c contained) Get(ctx context.Context, keys []store.Key) (parts [][]byte, err error) {
	defer c.contain(&err)
	return c.Store.Get(ctx, keys)
}

func (c contained) Commit(ctx context.Context, commit *store.Commit) (err error) {
	defer c.contain(&err)
	return c.Store.Commit(ctx, commit)
}

func (c contained) Close() (err error) {
	defer c.contain(&err)
	return c.Store.Close()
}

// contain is deferred.
func (c contained) contain(err *error) {
	if p := recover(); p != nil {
		*err = report.PanicError(p)
	}
	*err = store.RedactError(*err, c.url)
}
