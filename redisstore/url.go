package redisstore

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/gotheus/gotheus/store"
)

// params extracts this package's parameters from a query. It keeps the first error. Errors have no
// values, since these may be secrets: the user may have mistaken a name, or have forgotten to
// escape a password.
type params struct {
	q   url.Values
	err error
}

func (p *params) fail(format string, args ...any) {
	if p.err == nil {
		p.err = fmt.Errorf(format, args...)
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
			p.fail("%s must be a time above zero, such as 500ms", name)
		}
		*d = t
	}
}

// choice takes a parameter that can have only one value, and reports whether it is given.
func (p *params) choice(name, value string) bool {
	v := p.take(name)
	if v != "" && v != value {
		p.fail("%s must be %s", name, value)
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
		p.fail("%s must be true or false", name)
	}
	return b
}

// number checks a whole number, if it is given.
func (p *params) number(name, v string) {
	if n, err := strconv.Atoi(v); v != "" && (err != nil || n < 0) {
		p.fail("%s must be a number", name)
	}
}

// The parameters of this package, and those of go-redis.
var (
	ownParams = []string{
		"ns", "interval", "alive", "timeout", "stale", "shards", "expire", "cluster", "master", "sentinel_username", "sentinel_password", "skip_verify", "db", "addr",
	}
	clientParams = []string{
		"client_name", "protocol", "max_retries", "min_retry_backoff", "max_retry_backoff", "dial_timeout", "read_timeout", "write_timeout",
		"pool_fifo", "pool_size", "pool_timeout", "min_idle_conns", "max_idle_conns", "max_active_conns", "max_concurrent_dials",
		"pipeline_pool_size", "pipeline_read_buffer_size", "pipeline_write_buffer_size", "conn_max_idle_time", "conn_max_lifetime", "conn_max_lifetime_jitter",
	}
	// furtherParams are accepted only in some forms, or only for compatibility.
	furtherParams = []string{
		"idle_timeout", "max_conn_age", "max_redirects", "failing_timeout_seconds", "dialer_retries", "dialer_retry_timeout",
		"route_by_latency_tolerance", "context_timeout_enabled", "disableIdentity", "identitySuffix", "unstable_resp3",
	}
	// replicaReads let go-redis read stale data from replicas.
	replicaReads = []string{"read_only", "route_by_latency", "route_randomly", "replica_only", "use_disconnected_replicas"}
	// misplaced are parameters that the URL has another place for.
	misplaced = map[string]string{
		"master_name": "use master instead of master_name",
		"username":    "username and password belong before the host, as in redis://user:password@host",
		"password":    "username and password belong before the host, as in redis://user:password@host",
	}
)

// checkNames refuses parameters that nothing takes. It does not show their names: a password with
// an unescaped ? or & in it looks like parameters.
func (p *params) checkNames(rawQuery string) {
	known := slices.Concat(ownParams, clientParams)
	for i, pair := range strings.Split(rawQuery, "&") {
		name, _, _ := strings.Cut(pair, "=")
		name, _ = url.QueryUnescape(name)
		switch {
		case pair == "" || slices.Contains(known, name) || slices.Contains(furtherParams, name):
		case slices.Contains(replicaReads, name):
			p.fail("%s: a replica may be behind: reads must go to the master", name)
		case misplaced[name] != "":
			p.fail("%s", misplaced[name])
		default:
			hint := ""
			if near := nearest(name, known); near != "" {
				hint = ", perhaps " + near + " is meant"
			}
			p.fail("parameter %d is unknown%s (it is not shown, since it may be a part of a password, in which special characters must be "+
				"escaped, such as ? as %%3F and & as %%26); known are %s", i+1, hint, strings.Join(known, " "))
		}
	}
}

// nearest returns the name that differs from another one by case or by one or two letters, or "".
func nearest(name string, known []string) string {
	best, least := "", 3
	for _, k := range known {
		if d := distance(strings.ToLower(name), k); d < least && d < len(k)/2+1 {
			best, least = k, d
		}
	}
	return best
}

// distance returns how many letters must be put in, left out or replaced.
func distance(a, b string) int {
	if len(a) > 40 {
		return len(a)
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}

const mustEscape = "special characters in user and password must be escaped, such as # as %23, / as %2F, ? as %3F and @ as %40"

// split parses a URL and refuses one of which a part may not be what it seems: if a password has an
// unescaped # / or ?, what is before that looks like a host, and what follows like something else.
// No error shows a part of the URL.
func split(rawURL string) (*url.URL, error) {
	u, err := url.Parse(rawURL)
	if err != nil {
		return nil, invalid("this is not a URL: %s", mustEscape)
	}
	if u.Scheme != "redis" && u.Scheme != "rediss" || u.Opaque != "" {
		return nil, invalid("the URL must begin with redis:// or rediss://, as in redis://host:6379?ns=shop")
	}
	_, rest, _ := strings.Cut(rawURL, "://")
	if end := strings.IndexAny(rest, "/?#"); end >= 0 && strings.Contains(rest[end:], "@") {
		return nil, invalid("the URL has an @ after the host: %s", mustEscape)
	}
	if strings.Contains(rawURL, "#") {
		return nil, invalid("the URL has a #: %s", mustEscape)
	}
	if !isHost(u.Hostname(), strings.HasPrefix(u.Host, "[")) {
		return nil, invalid("the host of the URL has a special character: %s", mustEscape)
	}
	if port := u.Port(); port != "" {
		if n, err := strconv.Atoi(port); err != nil || n < 1 || n > 65535 {
			return nil, invalid("the port of the URL must be from 1 to 65535; %s", mustEscape)
		}
	}
	return u, nil
}

// isHost reports whether a host is a name or an address, and not a part of a password.
func isHost(host string, brackets bool) bool {
	if _, err := netip.ParseAddr(host); err == nil {
		return true
	}
	return !brackets && strings.IndexFunc(host, badInNamespace) < 0 && !strings.Contains(host, ":")
}

// parse handles this package's parameters of a URL, and leaves the others to go-redis.
func parse(rawURL string) (client redis.UniversalClient, server string, o *Options, err error) {
	u, err := split(rawURL)
	if err != nil {
		return nil, "", nil, err
	}
	q, bare := u.Query(), *u
	bare.RawQuery = "" // messages name the namespace on their own
	server = store.RedactURL(bare.String())
	if client, o, err = parseParts(u); err != nil {
		return nil, "", nil, invalid("the URL for %s: %w", server, err)
	}
	switch {
	case q.Has("cluster"):
		server = "the Cluster of " + server
	case q.Has("master"):
		server = "the master that the sentinels report at " + server
	}
	return client, server, o, nil
}

func parseParts(u *url.URL) (redis.UniversalClient, *Options, error) {
	q, err := url.ParseQuery(u.RawQuery)
	if err != nil { // which may quote a secret
		return nil, nil, errors.New("the parameters cannot be read: special characters in them must be escaped, such as % as %25 and ; as %3B")
	}
	p, o := &params{q: q}, new(Options)
	p.checkNames(u.RawQuery)
	path := strings.Trim(u.Path, "/")
	p.number("the database after the host", path)
	if path != "" && q.Has("db") {
		p.fail("the database is given twice, in the path and as db")
	}
	for _, name := range []string{"addr", "db"} {
		if slices.Contains(q[name], "") {
			p.fail("%s is empty", name)
		}
	}
	p.number("db", q.Get("db"))
	for _, a := range q["addr"] {
		if host, port, err := net.SplitHostPort(a); err != nil || host == "" || port == "" || strings.Trim(port, "0123456789") != "" || !isHost(host, strings.HasPrefix(a, "[")) {
			p.fail("addr must be a host and a port, as in addr=host2:6379")
		}
	}
	o.Namespace = p.take("ns")
	p.duration("interval", &o.Interval)
	p.duration("alive", &o.Alive)
	p.duration("timeout", &o.Timeout)
	p.duration("expire", &o.Expire)
	o.ServeStale = p.choice("stale", "serve")
	if v := p.take("shards"); v != "" {
		n, err := strconv.Atoi(v)
		if err != nil || n < 1 || n > store.MaxShards {
			p.fail("shards must be from 1 to %d", store.MaxShards)
		}
		o.Shards = n
	}
	cluster, master := p.choice("cluster", "true"), p.take("master")
	skipVerify := p.flag("skip_verify")
	sentinelUser, sentinelPassword := p.take("sentinel_username"), p.take("sentinel_password")
	switch {
	case cluster && master != "":
		p.fail("a Cluster has no sentinels: use either cluster or master")
	case cluster && (path != "" && path != "0" || q.Has("db")):
		p.fail("a Cluster has no databases but 0")
	case !cluster && master == "" && q.Has("addr"):
		p.fail("addr: further addresses are for a Cluster (cluster=true) or sentinels (master=...) only")
	case master == "" && (sentinelUser != "" || sentinelPassword != ""):
		p.fail("sentinel_username and sentinel_password are for sentinels (master=...)")
	case skipVerify && u.Scheme != "rediss":
		p.fail("skip_verify is for TLS (rediss://)")
	}
	if p.err == nil {
		p.err = o.check()
	}
	if p.err != nil {
		return nil, nil, p.err
	}
	open := func(q url.Values) (redis.UniversalClient, error) {
		v := *u
		v.RawQuery = q.Encode()
		switch {
		case cluster:
			return clusterClient(&v, skipVerify)
		case master != "":
			return sentinelClient(&v, skipVerify, master, sentinelUser, sentinelPassword)
		default:
			return singleClient(&v, skipVerify)
		}
	}
	client, err := open(q)
	if err == nil {
		return client, o, nil
	}
	// The error of go-redis quotes values, so the parameter is looked for.
	for _, name := range slices.Sorted(maps.Keys(q)) {
		if c, err := open(url.Values{name: q[name]}); err == nil {
			c.Close()
		} else if slices.Contains(furtherParams, name) {
			return nil, nil, fmt.Errorf("%s is not for a server of this kind, or has a wrong value", name)
		} else {
			return nil, nil, fmt.Errorf("%s has a wrong value", name)
		}
	}
	return nil, nil, errors.New("go-redis cannot use its parameters")
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
