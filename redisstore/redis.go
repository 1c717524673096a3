// Package redisstore keeps metrics in Redis (6.2 or later) or Valkey, so that processes on any number of hosts
// share them: any process's page is the exact total of all.
//
// Before anything else: a fleet whose every replica is scraped as a target of its own would count the total once
// for each replica. Scrape one address for all, such as that of a service, or one process; or give
// the handlers the scope Own or Leader, see gotheus.Scope.
//
// Importing the package makes these URLs known to gotheus.Bind and GOTHEUS_BACKEND:
//
//	redis://user:password@host:6379/0?ns=shop   one server; rediss:// with TLS
//	redis://user:password@sentinel:26379/0?master=main&addr=sentinel2:26379   the server that sentinels name
//	redis://user:password@host:6379?cluster=true&addr=host2:6379              a Cluster
//
// The parameters of this package are
//
//	ns=shop         namespace: processes with the same one share metrics ("default")
//	interval=500ms  between publications: what a killed process may lose
//	alive=10s       how long a process counts as alive without a sign of life
//	timeout=5s      for each contact with the server
//	stale=serve     show what is known when the server cannot be reached; without it, a scrape fails,
//	                because pages behind one address must not go backwards
//	shards=4        over how many hash tags the namespace is spread, so that a Cluster's nodes share it (1); it
//	                cannot be changed later, and all processes must say the same
//	expire=720h     keys vanish when there was no process for so long (never); at least an hour, and alive
//	cluster=true    the server is a Cluster
//	master=main     name of the master that the sentinels watch
//	sentinel_username, sentinel_password   of the sentinels; user and password in front of the host are the server's
//
// All others are go-redis', see its ParseURL, ParseClusterURL and ParseFailoverURL, but for those that let replicas be
// read. Programs with a client of their own call New.
//
// Nothing that counts ever waits for the server. Each process publishes what it has counted every 500 ms, as
// absolute values; see package syncer for how that is exact whatever fails. A short-lived program calls
// gotheus.Close before it ends.
package redisstore

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"net/url"

	"github.com/redis/go-redis/v9"

	"github.com/gotheus/gotheus/internal/backend"
	"github.com/gotheus/gotheus/internal/backend/syncer"
)

func init() {
	for _, scheme := range []string{"redis", "rediss"} {
		backend.Register(scheme, func(_ context.Context, u *url.URL) (backend.Backend, error) { return Open(u.String()) })
	}
}

// Options are the options of New. The zero value is good.
type Options struct {
	StoreOptions
	// Shards is over how many hash tags the namespace is spread, so that the nodes of a Cluster share load and
	// memory; 0: 1, at most syncer.MaxShards. All processes must say the same, and it cannot be changed later: who says
	// otherwise gets an error that wraps syncer.ErrShards, on every page and from Flush and Close.
	Shards int
	Syncer syncer.Options
}

// check finds what makes no sense, and times that do not go together.
func (o *Options) check() error {
	if o.Shards < 0 || o.Shards > syncer.MaxShards {
		return fmt.Errorf("redis: shards=%d: must be from 1 to %d", o.Shards, syncer.MaxShards)
	}
	interval, alive := orDefault(o.Syncer.Interval, syncer.DefaultInterval), orDefault(o.Syncer.Alive, syncer.DefaultAlive)
	if alive < 2*interval {
		return fmt.Errorf("redis: interval=%v with alive=%v: alive must be at least twice as long, or a process looks dead between two publications", interval, alive)
	}
	if o.Expire > 0 && o.Expire < alive {
		return fmt.Errorf("redis: expire=%v with alive=%v: expire must be at least as long, or keys vanish between two signs of life", o.Expire, alive)
	}
	return nil
}

// New returns a backend that uses a client, which it does not close. It does not wait for the server. The
// client must read from masters only, and should have ContextTimeoutEnabled, so that Close and Flush end in time.
func New(client redis.UniversalClient, o *Options) (backend.Backend, error) {
	if o == nil {
		o = new(Options)
	}
	if err := o.check(); err != nil {
		return nil, err
	}
	s, err := NewStore(client, &o.StoreOptions)
	if err != nil {
		return nil, err
	}
	return s.open(o)
}

// open returns the backend on the namespace that s is the first shard of.
func (s *Store) open(o *Options) (backend.Backend, error) {
	s.logger = cmp.Or(o.Syncer.Logger, slog.Default())
	b, err := syncer.NewSharded(s.shards(max(o.Shards, 1)), &o.Syncer)
	if err != nil {
		return nil, fmt.Errorf("redis: %w", err)
	}
	return b, nil
}

// Open returns the backend for a URL, see the package documentation. It does not wait for the server: an error
// is about the URL.
func Open(rawURL string) (backend.Backend, error) {
	s, o, err := openURL(rawURL)
	if err != nil {
		return nil, err
	}
	return s.open(o)
}

// OpenStore returns the Store for a URL, to look after a namespace. Its Close closes its client.
func OpenStore(rawURL string) (*Store, error) {
	s, _, err := openURL(rawURL)
	return s, err
}

func openURL(rawURL string) (*Store, *Options, error) {
	client, o, err := parse(rawURL)
	if err != nil {
		return nil, nil, err
	}
	s, err := NewStore(client, &o.StoreOptions)
	if err == nil {
		err = o.check()
	}
	if err != nil {
		client.Close()
		return nil, nil, err
	}
	s.owner = &owner{client: client}
	s.owner.users.Store(1)
	return s, o, nil
}
