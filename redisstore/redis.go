// Package redisstore keeps metrics in Redis (6.2 or later) or Valkey, so that processes on any
// number of hosts share them: any process's page is the exact total of all.
//
// Scrape one address for all processes, such as that of a service, or a single process. If each
// replica is scraped as a target of its own, everything counts once per replica, unless the
// handlers have gotheus.ScopeOwn or gotheus.ScopeLeader; see gotheus.Scope.
//
// Importing the package makes gotheus.Bind and GOTHEUS_BACKEND accept these URLs:
//
//	redis://user:password@host:6379/0?ns=shop
//	        one server; rediss:// with TLS
//	redis://user:password@sentinel:26379/0?master=main&addr=sentinel2:26379
//	        the master that the sentinels report
//	redis://user:password@host:6379?cluster=true&addr=host2:6379
//	        a Cluster
//
// The parameters of this package are
//
//	ns=shop         namespace: processes with the same one share metrics (default: "default")
//	interval=500ms  time between publications; a killed process loses what it has counted
//	                since the last one
//	alive=10s       how long a process counts as alive after its last publication
//	timeout=5s      limit for each contact with the server
//	stale=serve     serve the last known values while the server is unreachable; without
//	                it, a scrape fails, because values on pages must not decrease
//	shards=4        number of hash tags that share the series, so that the nodes of a Cluster
//	                share the load (default: 1); must be the same in all processes, and
//	                cannot be changed later
//	expire=720h     keys expire after that time without any process (default: never); at
//	                least an hour, and at least twice alive
//	cluster=true    the server is a Cluster
//	master=main     name of the master that the sentinels watch
//	sentinel_username, sentinel_password
//	                for the sentinels; user and password before the host are the server's
//
// All other parameters are those of go-redis, such as client_name, dial_timeout and pool_size; see
// its ParseURL, ParseClusterURL and ParseFailoverURL. Those that allow reads from replicas are
// refused. Programs with a client of their own pass the result of New to gotheus.BindStore.
//
// Updates never wait for the server. Each process publishes its counts every 500 ms as absolute
// values, so everything counts exactly once, whatever fails; docs/redis.md in the repository
// describes the guarantees. A short-lived program must call gotheus.Close before it ends.
package redisstore

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"net/url"
	"reflect"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/gotheus/gotheus/store"
)

func init() {
	for _, scheme := range []string{"redis", "rediss"} {
		store.Register(scheme, func(_ context.Context, u *url.URL, _ store.DriverOptions) (*store.Config, error) {
			return Open(u.String())
		})
	}
}

// Options are the options of New. The zero value and nil stand for the defaults. Interval, Alive,
// Timeout and ServeStale are as in store.Options.
type Options struct {
	// Namespace separates deployments that share a server; "": "default". It may contain
	// letters, digits and any of . _ : -
	Namespace string
	// Shards is the number of hash tags that share the series, so that the nodes of a Cluster
	// share load and memory; 0: 1, at most store.MaxShards. It must be the same in all
	// processes and cannot be changed later: a process with a different number gets an error
	// that wraps store.ErrShards, on every page and from Flush and Close.
	Shards int
	// Expire is the time after which the keys expire if no process publishes; 0: never. It must
	// be at least an hour, and at least twice Alive.
	Expire time.Duration

	Interval   time.Duration // time between publications; 0: store.DefaultInterval
	Alive      time.Duration // how long a silent process counts as alive; 0: store.DefaultAlive
	Timeout    time.Duration // limit for each contact with the server; 0: store.DefaultTimeout
	ServeStale bool          // serve the last known values while the server is unreachable
	// Logger receives messages about the server, at most one line a minute, and one warning if
	// the server evicts keys; nil: the logger of the bound registry.
	Logger *slog.Logger
}

// Check returns an error that wraps store.ErrInvalid if the namespace or a number is invalid, or if
// durations contradict each other. A nil o is valid.
func (o *Options) Check() error {
	if o == nil {
		return nil
	}
	if err := o.check(); err != nil {
		return invalid("%w", err)
	}
	return nil
}

// check returns what Check wraps.
func (o *Options) check() error {
	if err := checkNamespace(o.Namespace); err != nil {
		return err
	}
	for _, t := range []struct {
		name string
		d    time.Duration
	}{{"interval", o.Interval}, {"alive", o.Alive}, {"timeout", o.Timeout}, {"expire", o.Expire}} {
		if t.d < 0 {
			return fmt.Errorf("%s=%v: must be a time above zero, or 0 for the default", t.name, t.d)
		}
	}
	interval, alive := cmp.Or(o.Interval, store.DefaultInterval), cmp.Or(o.Alive, store.DefaultAlive)
	switch {
	case o.Shards < 0 || o.Shards > store.MaxShards:
		return fmt.Errorf("shards=%d: must be from 1 to %d", o.Shards, store.MaxShards)
	case alive < 2*interval:
		return fmt.Errorf("interval=%v with alive=%v: alive must be at least twice as long, or a process looks dead between two publications", interval, alive)
	case o.Expire > 0 && o.Expire < time.Hour:
		return fmt.Errorf("expire=%v: must be at least an hour, since data of dead processes is kept for some time", o.Expire)
	case o.Expire > 0 && o.Expire/2 < alive:
		return fmt.Errorf("expire=%v with alive=%v: expire must be at least twice as long, or keys of dead processes expire before others notice that they must keep them", o.Expire, alive)
	}
	return nil
}

// invalid returns an error that wraps store.ErrInvalid.
func invalid(format string, args ...any) error {
	return fmt.Errorf("redisstore: %w: "+format, append([]any{store.ErrInvalid}, args...)...)
}

// New returns the Config for gotheus.BindStore that keeps metrics in the namespace of the options.
// It uses client and does not close it, and does not wait for the server. The client must read from
// masters only, and should have ContextTimeoutEnabled, so that Close and Flush end in time.
//
// The error wraps store.ErrInvalid: client is nil or the options are invalid.
func New(client redis.UniversalClient, o *Options) (*store.Config, error) {
	if isNil(client) {
		return nil, noClient("New")
	}
	if err := o.Check(); err != nil {
		return nil, err
	}
	if o == nil {
		o = new(Options)
	}
	return newConfig(client, o, nil), nil
}

// noClient is the error of a function that was called without a client.
func noClient(name string) error {
	return invalid("%s: the client is nil: make one with redis.NewClient of go-redis, or use Open%s with a URL", name, strings.TrimPrefix(name, "New"))
}

func isNil(client redis.UniversalClient) bool {
	v := reflect.ValueOf(client)
	return client == nil || v.Kind() == reflect.Pointer && v.IsNil()
}

// Open is New for a URL, see the package documentation. It does not wait for the server. The error
// wraps store.ErrInvalid: it is about the URL, of which it shows at most scheme, host and
// namespace. Most programs call gotheus.Bind with the URL instead.
func Open(rawURL string) (*store.Config, error) {
	client, server, o, err := parse(rawURL)
	if err != nil {
		return nil, err
	}
	return newConfig(client, o, &owner{client: client, server: server}), nil
}
