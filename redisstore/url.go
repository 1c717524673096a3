package redisstore

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/gotheus/gotheus/store"
)

// params extracts this package's parameters from a query. It keeps the first error.
type params struct {
	q   url.Values
	err error
}

func (p *params) fail(format string, args ...any) {
	if p.err == nil {
		p.err = invalid(format, args...)
	}
}

func (p *params) take(name string) string {
	list := p.q[name]
	p.q.Del(name)
	switch {
	case len(list) == 0:
		return ""
	case len(list) > 1:
		p.fail("%s is given twice", name)
	case list[0] == "":
		p.fail("%s is empty", name)
	}
	return list[0]
}

func (p *params) duration(name string, d *time.Duration) {
	if v := p.take(name); v != "" {
		t, err := time.ParseDuration(v)
		if err != nil || t <= 0 {
			p.fail("%s=%s: must be a time above zero, such as 500ms", name, v)
		}
		*d = t
	}
}

// choice takes a parameter that can have only one value, and reports whether it is given.
func (p *params) choice(name, value string) bool {
	v := p.take(name)
	if v != "" && v != value {
		p.fail("%s=%s: must be %s", name, v, value)
	}
	return v != ""
}

// flag takes a boolean parameter.
func (p *params) flag(name string) bool {
	v := p.take(name)
	if v == "" {
		return false
	}
	b, err := strconv.ParseBool(v)
	if err != nil {
		p.fail("%s=%s: must be true or false", name, v)
	}
	return b
}

// replicaReads are parameters that let go-redis read stale data from replicas.
var replicaReads = []string{"read_only", "route_by_latency", "route_randomly", "replica_only", "use_disconnected_replicas"}

// parse handles this package's parameters of a URL, and leaves the others to go-redis.
func parse(rawURL string) (redis.UniversalClient, *Options, error) {
	u, err := url.Parse(rawURL)
	if err != nil { // not shown: it may contain a part of the password
		return nil, nil, invalid("this is not a URL: special characters in a password must be escaped, such as # as %%23")
	}
	if u.Scheme != "redis" && u.Scheme != "rediss" {
		return nil, nil, invalid("scheme %q: must be redis or rediss, as in redis://host:6379?ns=shop", u.Scheme)
	}
	q, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return nil, nil, invalid("the parameters of the URL for %s: %w", u.Host, err)
	}
	p, o := &params{q: q}, new(Options)
	o.Namespace = p.take("ns")
	p.duration("interval", &o.Interval)
	p.duration("alive", &o.Alive)
	p.duration("timeout", &o.Timeout)
	p.duration("expire", &o.Expire)
	o.ServeStale = p.choice("stale", "serve")
	if v := p.take("shards"); v != "" {
		n, err := strconv.Atoi(v)
		if err != nil || n < 1 || n > store.MaxShards {
			p.fail("shards=%s: must be from 1 to %d", v, store.MaxShards)
		}
		o.Shards = n
	}
	for _, name := range replicaReads {
		if _, ok := q[name]; ok {
			p.fail("%s: a replica may be behind: reads must go to the master", name)
		}
	}
	cluster, master := p.choice("cluster", "true"), p.take("master")
	skipVerify := p.flag("skip_verify")
	sentinelUser, sentinelPassword := p.take("sentinel_username"), p.take("sentinel_password")
	switch {
	case cluster && master != "":
		p.fail("a Cluster has no sentinels: use either cluster or master")
	case cluster && (strings.Trim(u.Path, "/") != "" && strings.Trim(u.Path, "/") != "0" || q.Has("db")):
		p.fail("a Cluster has no databases but 0")
	case !cluster && master == "" && q.Has("addr"):
		p.fail("addr: further addresses are for a Cluster (cluster=true) or sentinels (master=...) only")
	case master == "" && (sentinelUser != "" || sentinelPassword != ""):
		p.fail("sentinel_username and sentinel_password are for sentinels (master=...)")
	case q.Has("master_name"):
		p.fail("master_name: use master instead")
	case q.Has("username") || q.Has("password"):
		p.fail("username and password belong before the host, as in redis://user:password@host")
	case strings.Trim(u.Path, "/") != "" && q.Has("db"):
		p.fail("the database is given twice, in the path and as db")
	case skipVerify && u.Scheme != "rediss":
		p.fail("skip_verify is for TLS (rediss://)")
	case u.Fragment != "":
		p.fail("unexpected # in the URL: special characters in a password must be escaped")
	}
	for _, name := range []string{"addr", "db"} {
		if slices.Contains(q[name], "") {
			p.fail("%s is empty", name)
		}
	}
	if p.err == nil {
		p.err = o.Check()
	}
	if p.err != nil {
		return nil, nil, p.err
	}
	var client redis.UniversalClient
	u.RawQuery = q.Encode()
	switch {
	case cluster:
		client, err = clusterClient(u, skipVerify)
	case master != "":
		client, err = sentinelClient(u, skipVerify, master, sentinelUser, sentinelPassword)
	default:
		client, err = singleClient(u, skipVerify)
	}
	if err != nil {
		return nil, nil, invalid("the URL for %s: %w", u.Host, err)
	}
	return client, o, nil
}

func orDefault(d, def time.Duration) time.Duration {
	if d > 0 {
		return d
	}
	return def
}

func singleClient(u *url.URL, skipVerify bool) (redis.UniversalClient, error) {
	o, err := redis.ParseURL(u.String())
	if err != nil {
		return nil, err
	}
	o.ContextTimeoutEnabled = true
	o.DialTimeout = orDefault(o.DialTimeout, dialTimeout)
	if o.TLSConfig != nil {
		o.TLSConfig.InsecureSkipVerify = skipVerify
	}
	o.Dialer = dialer(o.DialTimeout, o.TLSConfig)
	return redis.NewClient(o), nil
}

func clusterClient(u *url.URL, skipVerify bool) (redis.UniversalClient, error) {
	o, err := redis.ParseClusterURL(u.String())
	if err != nil {
		return nil, err
	}
	o.ContextTimeoutEnabled = true
	o.DialTimeout = orDefault(o.DialTimeout, dialTimeout)
	if o.TLSConfig != nil {
		o.TLSConfig.InsecureSkipVerify = skipVerify
	}
	o.Dialer = dialer(o.DialTimeout, o.TLSConfig)
	return redis.NewClusterClient(o), nil
}

// sentinelClient returns a client that uses the URL's user and password for the server, as in the
// other forms. The sentinels have separate ones, or none.
func sentinelClient(u *url.URL, skipVerify bool, master, user, password string) (redis.UniversalClient, error) {
	q := u.Query()
	q.Set("master_name", master)
	v := *u
	v.RawQuery, v.User = q.Encode(), nil
	o, err := redis.ParseFailoverURL(v.String())
	if err != nil {
		return nil, err
	}
	if u.User != nil {
		o.Username = u.User.Username()
		o.Password, _ = u.User.Password()
	}
	o.SentinelUsername, o.SentinelPassword = user, password
	o.ContextTimeoutEnabled = true
	o.DialTimeout = orDefault(o.DialTimeout, dialTimeout)
	if o.TLSConfig != nil {
		o.TLSConfig.InsecureSkipVerify = skipVerify
	}
	o.Dialer = dialer(o.DialTimeout, o.TLSConfig)
	return redis.NewFailoverClient(o), nil
}

// dialTimeout is less than the timeout of one contact, which leaves time to try another node.
const dialTimeout = 2 * time.Second

// dialer returns go-redis' dialer, except that a failed dial returns a connection on which every
// command fails with the same error. On a dial error, go-redis would retry five times and print a
// line to standard error each time, although the caller retries anyway.
func dialer(timeout time.Duration, t *tls.Config) func(ctx context.Context, network, addr string) (net.Conn, error) {
	dial := redis.NewDialer(&redis.Options{DialTimeout: timeout, TLSConfig: t})
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		c, err := dial(ctx, network, addr)
		if err != nil {
			return brokenConn{fmt.Errorf("redisstore: %w", err)}, nil
		}
		return c, nil
	}
}

type brokenConn struct{ err error }

func (c brokenConn) Read([]byte) (int, error)       { return 0, c.err }
func (c brokenConn) Write([]byte) (int, error)      { return 0, c.err }
func (brokenConn) Close() error                     { return nil }
func (brokenConn) LocalAddr() net.Addr              { return new(net.TCPAddr) }
func (brokenConn) RemoteAddr() net.Addr             { return new(net.TCPAddr) }
func (brokenConn) SetDeadline(time.Time) error      { return nil }
func (brokenConn) SetReadDeadline(time.Time) error  { return nil }
func (brokenConn) SetWriteDeadline(time.Time) error { return nil }
