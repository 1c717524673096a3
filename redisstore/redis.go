// Package redisstore keeps metrics in Redis (6.2 or later) or Valkey, so that processes on any
// number of hosts share them: any process's page is the exact total of all.
//
// Note that every page is the total: scraping each replica as a target of its own would count
// everything once per replica. Scrape one address for all, such as that of a service, or a single
// process; or give the handlers the scope Own or Leader, see gotheus.Scope.
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
//	ns=shop         namespace: processes with the same one share metrics ("default")
//	interval=500ms  between publications: a killed process may lose as much
//	alive=10s       how long a process counts as alive after its last publication
//	timeout=5s      for each contact with the server
//	stale=serve     serve the last known values while the server is unreachable; without
//	                it, a scrape fails, because values on pages must not decrease
//	shards=4        number of hash tags that share the series, so that a Cluster's nodes
//	                share the load (1); the same in all processes, cannot be changed
//	expire=720h     keys expire after that time without any process (never); at least an
//	                hour, and no less than alive
//	cluster=true    the server is a Cluster
//	master=main     name of the master that the sentinels watch
//	sentinel_username, sentinel_password
//	                for the sentinels; user and password before the host are the server's
//
// All other parameters are those of go-redis, see its ParseURL, ParseClusterURL and
// ParseFailoverURL, except those that allow reading from replicas. Programs with a client of their
// own pass the result of New to gotheus.BindStore.
//
// Updates never wait for the server. Each process publishes its counts every 500 ms, as absolute
// values, so that everything counts once, whatever fails; docs/redis.md in the repository describes
// the guarantees. A short-lived program must call gotheus.Close before it ends.
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
	// Namespace separates deployments that share a server; "": "default". It may contain
	// letters, digits and any of . _ : -
	Namespace string
	// Shards is the number of hash tags that share the series, so that the nodes of a Cluster
	// share load and memory; 0: 1, at most store.MaxShards. It must be the same in all
	// processes and cannot be changed later: a process with a different number gets an error
	// that wraps store.ErrShards, on every page and from Flush and Close.
	Shards int
	// Expire is the time after which the keys expire if no process publishes; 0: never. It is
	// at least an hour, and no less than Alive.
	Expire time.Duration
	// Options apply to all stores. Logger also receives a warning if the server evicts keys; if
	// it is nil, that goes to slog.Default().
	store.Options
}

// Check returns an error if the namespace or a number is invalid, or if durations contradict each
// other.
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
		return fmt.Errorf("redis: expire=%v: must be at least an hour, since data of dead processes is kept for some time", o.Expire)
	}
	if o.Expire > 0 && o.Expire < alive {
		return fmt.Errorf("redis: expire=%v with alive=%v: expire must be at least as long, or keys expire between two publications", o.Expire, alive)
	}
	return o.Options.Check()
}

// New returns the Config for gotheus.BindStore that keeps metrics in the namespace of the options.
// It uses client and does not close it, and does not wait for the server. The client must read from
// masters only, and should have ContextTimeoutEnabled, so that Close and Flush end in time.
//
// It returns an error if client is nil or the options are invalid.
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

// open is Open with a logger.
func open(rawURL string, l *slog.Logger) (*store.Config, error) {
	client, o, err := parse(rawURL)
	if err != nil {
		return nil, err
	}
	o.Logger = l
	return newConfig(client, o, &owner{client: client}), nil
}
