// Package redisstore keeps metrics in Redis (6.2 or later) or Valkey, so that processes on any
// number of hosts share them: any process's page is the exact total of all.
//
// Before anything else: a fleet whose every replica is scraped as a target of its own would count
// the total once for each replica. Scrape one address for all, such as that of a service, or one
// process; or give the handlers the scope Own or Leader, see gotheus.Scope.
//
// Importing the package makes these URLs known to gotheus.Bind and GOTHEUS_BACKEND:
//
//	redis://user:password@host:6379/0?ns=shop
//	        one server; rediss:// with TLS
//	redis://user:password@sentinel:26379/0?master=main&addr=sentinel2:26379
//	        the server that sentinels name
//	redis://user:password@host:6379?cluster=true&addr=host2:6379
//	        a Cluster
//
// The parameters of this package are
//
//	ns=shop         namespace: processes with the same one share metrics ("default")
//	interval=500ms  between publications: what a killed process may lose
//	alive=10s       how long a process counts as alive without a sign of life
//	timeout=5s      for each contact with the server
//	stale=serve     show what is known when the server cannot be reached; without it, a
//	                scrape fails, because pages behind one address must not go backwards
//	shards=4        over how many hash tags the namespace is spread, so that a Cluster's
//	                nodes share it (1); it cannot be changed later, and all processes must
//	                say the same
//	expire=720h     keys vanish when there was no process for so long (never); at least an
//	                hour, and alive
//	cluster=true    the server is a Cluster
//	master=main     name of the master that the sentinels watch
//	sentinel_username, sentinel_password
//	                of the sentinels; user and password in front of the host are the server's
//
// All others are go-redis', see its ParseURL, ParseClusterURL and ParseFailoverURL, but for those
// that let replicas be read. Programs with a client of their own pass what New returns to
// gotheus.BindStore.
//
// Nothing that counts ever waits for the server. Each process publishes what it has counted every
// 500 ms, as absolute values, so that everything counts once, whatever fails; docs/redis.md in the
// repository says how far that goes. A short-lived program calls gotheus.Close before it ends.
package redisstore

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"reflect"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/gotheus/gotheus/store"
)

func init() {
	for _, scheme := range []string{"redis", "rediss"} {
		store.Register(scheme, func(_ context.Context, u *url.URL, o store.DriverOptions) (*store.Config, error) {
			return open(u.String(), o.Logger)
		})
	}
}

// Options are the options of New. The zero value is good.
type Options struct {
	// Namespace tells deployments apart that share a server; "": "default". It may hold
	// letters, digits and any of . _ : -
	Namespace string
	// Shards is over how many hash tags the namespace is spread, so that the nodes of a Cluster
	// share load and memory; 0: 1, at most store.MaxShards. All processes must say the same,
	// and it cannot be changed later: who says otherwise gets an error that wraps
	// store.ErrShards, on every page and from Flush and Close.
	Shards int
	// Expire is after how long without any process the keys vanish; 0: never. Every publication
	// of any process puts it off. It is at least an hour, and no less than Alive.
	Expire time.Duration
	// Options are those of all stores. Logger also gets a warning if the server evicts keys;
	// where it is nil, that goes to slog.Default().
	store.Options
}

// Check returns an error if a namespace cannot have this name, if a number makes no sense, or if
// times do not go together.
func (o *Options) Check() error {
	if err := checkNamespace(o.Namespace); err != nil {
		return err
	}
	if o.Shards < 0 || o.Shards > store.MaxShards {
		return fmt.Errorf("redis: shards=%d: must be from 1 to %d", o.Shards, store.MaxShards)
	}
	interval, alive := orDefault(o.Interval, store.DefaultInterval), orDefault(o.Alive, store.DefaultAlive)
	if alive < 2*interval {
		return fmt.Errorf("redis: interval=%v with alive=%v: alive must be at least twice as long, or a process looks dead between two publications", interval, alive)
	}
	if o.Expire != 0 && o.Expire < time.Hour {
		return fmt.Errorf("redis: expire=%v: at least an hour, since the words of dead processes are kept for some time", o.Expire)
	}
	if o.Expire > 0 && o.Expire < alive {
		return fmt.Errorf("redis: expire=%v with alive=%v: expire must be at least as long, or keys vanish between two signs of life", o.Expire, alive)
	}
	return o.Options.Check()
}

// New returns what gotheus.BindStore takes to keep metrics in the namespace that the options name.
// It uses a client, which it does not close, and does not wait for the server. The client must read
// from masters only, and should have ContextTimeoutEnabled, so that Close and Flush end in time.
//
// The error says that client is nil or that the options make no sense.
func New(client redis.UniversalClient, o *Options) (*store.Config, error) {
	if isNil(client) {
		return nil, errNoClient
	}
	if o == nil {
		o = new(Options)
	}
	if err := o.Check(); err != nil {
		return nil, err
	}
	return newConfig(client, o, nil), nil
}

var errNoClient = errors.New("redis: the client is nil")

func isNil(client redis.UniversalClient) bool {
	v := reflect.ValueOf(client)
	return client == nil || v.Kind() == reflect.Pointer && v.IsNil()
}

// Open is New for a URL, see the package documentation. It does not wait for the server: an error
// is about the URL.
func Open(rawURL string) (*store.Config, error) { return open(rawURL, nil) }

// open is Open with the logger of who has none.
func open(rawURL string, l *slog.Logger) (*store.Config, error) {
	client, o, err := parse(rawURL)
	if err != nil {
		return nil, err
	}
	o.Logger = l
	return newConfig(client, o, &owner{client: client}), nil
}
