package gotheus_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/gotheus/gotheus"
	"github.com/gotheus/gotheus/store"
)

// unreachable is a store whose server is away. The example of package store is a complete one.
type unreachable struct{}

var errAway = errors.New("the server is away")

func (unreachable) Heads(context.Context, []string) (map[string]store.Head, error) {
	return nil, errAway
}
func (unreachable) Get(context.Context, []store.Key) ([][]byte, error) { return nil, errAway }
func (unreachable) Commit(context.Context, *store.Commit) error        { return errAway }
func (unreachable) Close() error                                       { return nil }

// BindStore does not wait for the store: counting goes on in memory until it can be reached.
func ExampleRegistry_BindStore() {
	r := gotheus.NewRegistry(&gotheus.RegistryOptions{Logger: slog.New(slog.DiscardHandler)})
	err := r.BindStore(context.Background(), &store.Config{
		Shards:  []store.Store{unreachable{}},
		Options: store.Options{Interval: time.Second},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	orders := r.NewCounter("shop_orders_total", "Orders taken.", nil)
	orders.Add(3)
	fmt.Println(orders.Value(), "orders")

	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Millisecond)
	defer cancel()
	fmt.Println("all saved:", r.Close(ctx) == nil)
	// Output:
	// 3 orders
	// all saved: false
}
