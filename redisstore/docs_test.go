package redisstore_test

// The code in docs/redis.md.

import (
	"context"
	"net/http"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/gotheus/gotheus"
	"github.com/gotheus/gotheus/metrichttp"
	"github.com/gotheus/gotheus/redisstore"
)

import _ "github.com/gotheus/gotheus/redisstore"

var _ = func() {
	http.Handle("/metrics", &metrichttp.Handler{Scope: gotheus.ScopeLeader})
}

var _ = func(ctx context.Context) error {
	err := gotheus.Bind(ctx, "redis://user:password@redis.internal:6379/0?ns=shop")
	return err
}

var _ = func(ctx context.Context, client redis.UniversalClient) error {
	config, err := redisstore.New(client, &redisstore.Options{Namespace: "shop", Interval: time.Second})
	if err != nil {
		return err
	}
	err = gotheus.BindStore(ctx, config)
	return err
}

var _ = func(ctx context.Context) error {
	ns, err := redisstore.OpenNamespace("redis://redis.internal:6379/0?ns=shop")
	ns.Keys(ctx)   // all keys, without KEYS or SCAN
	ns.Size(ctx)   // memory in bytes, as reported by the server
	ns.Remove(ctx) // removes everything; live processes restore their counts
	return err
}
