package redisstore

import (
	"context"
	"crypto/tls"
	"errors"
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

// params takes the parameters of this package from a query. The first error stays.
type params struct {
	q   url.Values
	err error
}

func (p *params) fail(format string, args ...any) {
	if p.err == nil {
		p.err = fmt.Errorf("redis: "+format, args...)
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

// choice takes a parameter that has one value, and reports whether it is there.
func (p *params) choice(name, value string) bool {
	v := p.take(name)
	if v != "" && v != value {
		p.fail("%s=%s: must be %s", name, v, value)
	}
	return v != ""
}

// flag takes a parameter that is true or false.
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

// replicaReads are parameters of go-redis with which it may read what a replica has, which is old.
var replicaReads = []string{"read_only", "route_by_latency", "route_randomly", "replica_only", "use_disconnected_replicas"}

// parse takes the parameters of this package from a URL, and leaves the others to go-redis.
func parse(rawURL string) (redis.UniversalClient, *Options, error) {
	u, err := url.Parse(rawURL)
	if err != nil { // is not shown: it may name a part of a password
		return nil, nil, errors.New("redis: this is not a URL: special characters in a password must be escaped, as %23 for #")
	}
	if u.Scheme != "redis" && u.Scheme != "rediss" {
		return nil, nil, fmt.Errorf("redis: scheme %q: must be redis or rediss", u.Scheme)
	}
	q, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return nil, nil, fmt.Errorf("redis: the parameters of the URL for %s: %w", u.Host, err)
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
			p.fail("%s: a replica may be behind; everything must be read from the master", name)
		}
	}
	cluster, master := p.choice("cluster", "true"), p.take("master")
	skipVerify := p.flag("skip_verify")
	sentinelUser, sentinelPassword := p.take("sentinel_username"), p.take("sentinel_password")
	switch {
	case cluster && master != "":
		p.fail("a Cluster has no sentinels: either cluster or master")
	case cluster && (strings.Trim(u.Path, "/") != "" && strings.Trim(u.Path, "/") != "0" || q.Has("db")):
		p.fail("a Cluster has no databases but 0")
	case !cluster && master == "" && q.Has("addr"):
		p.fail("addr: further addresses are those of a Cluster (cluster=true), or of sentinels (master=...)")
	case master == "" && (sentinelUser != "" || sentinelPassword != ""):
		p.fail("sentinel_username and sentinel_password are for sentinels (master=...)")
	case q.Has("master_name"):
		p.fail("master_name: this is called master here")
	case q.Has("username") || q.Has("password"):
		p.fail("username and password belong in front of the host, as in redis://user:password@host")
	case strings.Trim(u.Path, "/") != "" && q.Has("db"):
		p.fail("the database is given twice, in the path and as db")
	case skipVerify && u.Scheme != "rediss":
		p.fail("skip_verify is for TLS (rediss://)")
	case u.Fragment != "":
		p.fail("there is something behind # in the URL: a password must be escaped")
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
		return nil, nil, fmt.Errorf("redis: the URL for %s: %w", u.Host, err)
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

// sentinelClient returns a client with the URL's user and password for the server, as in the other forms. Sentinels have
// their own, or none.
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

// dialTimeout is less than what one contact with the server may take, so that there is time to ask another one.
const dialTimeout = 2 * time.Second

// dialer returns go-redis' dialer, but for who cannot be reached: go-redis tries that five times, while it is asked again anyway,
// and writes a line to standard error each time. A connection on which nothing works lets the command fail instead, with
// the same error.
func dialer(timeout time.Duration, t *tls.Config) func(ctx context.Context, network, addr string) (net.Conn, error) {
	dial := redis.NewDialer(&redis.Options{DialTimeout: timeout, TLSConfig: t})
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		c, err := dial(ctx, network, addr)
		if err != nil {
			return brokenConn{fmt.Errorf("redis: %w", err)}, nil // so that its text is kept
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
