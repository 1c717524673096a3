package redisstore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"regexp"
	"strings"

	"github.com/redis/go-redis/v9"

	"github.com/gotheus/gotheus/store"
)

// place says where a namespace is, for messages. It has no secrets.
type place struct{ server, namespace string }

func (p place) String() string { return p.server + ", namespace " + p.namespace }

// serverOf returns how messages name the server of a client.
func serverOf(client redis.UniversalClient) string {
	server := "the server"
	switch c := client.(type) {
	case *redis.Client:
		o := c.Options()
		switch server = o.Addr; {
		case o.Addr == "FailoverClient": // go-redis has no address before it has asked
			server = "the master that the sentinels report"
		case o.TLSConfig != nil:
			server = "rediss://" + o.Addr
		case o.Network != "unix":
			server = "redis://" + o.Addr
		}
	case *redis.ClusterClient:
		server = "the Cluster of " + strings.Join(c.Options().Addrs, " ")
	case *redis.Ring:
		server = "the Ring"
	}
	return server
}

// problem is an error of a server with its cause and remedy. It does not show the text of the
// error below, which may quote parts of a URL.
type problem struct {
	text    string
	err     error // what go-redis has returned
	refused bool  // wraps store.ErrRefused
}

func (p *problem) Error() string { return p.text }

func (p *problem) Unwrap() []error {
	if p.refused {
		return []error{p.err, store.ErrRefused}
	}
	return []error{p.err}
}

// explain returns err with the place, its cause and its remedy.
func (p place) explain(err error) error {
	what, refused := explanation(err)
	return &problem{fmt.Sprintf("redisstore: %s: %s", p, what), err, refused}
}

// answers are beginnings of a server's errors, or texts within them.
var answers = []struct {
	text    string
	what    string
	refused bool
}{
	{"NOAUTH", "the server wants a password (NOAUTH): give user and password before the host, as in redis://user:password@host", true},
	// For requests of more than a few arguments, servers say this instead.
	{"unauthenticated", "the server wants a password (NOAUTH): give user and password before the host, as in redis://user:password@host", true},
	{"WRONGPASS", "user or password are wrong (WRONGPASS), or the user is disabled: correct them before the host, " +
		"and escape special characters in them, such as # as %23", true},
	{"without any password configured", "the server has no password, but the client gives one: remove it", true},
	{"no password is set", "the server has no password, but the client gives one: remove it", true},
	{"DB index", "the server has no database with this number: correct it after the host, as in redis://host:6379/0, " +
		"or raise databases in the server's configuration", true},
	{"SELECT is not allowed", "a Cluster has only database 0: remove the number after the host", true},
	{"cluster support disabled", "the server is not part of a Cluster: remove cluster=true", true},
	{"MOVED", "the server is part of a Cluster: add cluster=true", true},
	{"WRONGTYPE", "a key of the namespace has a value of another program (WRONGTYPE): remove that key, or use another namespace", true},
	{"DENIED", "the server is in protected mode (DENIED): give it a password, or bind it to an address of this host", true},
	{"unknown command", "the server does not know a command that is needed: it must be Redis 6.2 or later, or Valkey, with scripts", true},
	{"READONLY", "the server is a replica, or read-only (READONLY): name the master", false},
	{"read only", "the server is a replica, or read-only (READONLY): name the master", false},
	{"OOM", "the server has used up its memory (OOM): raise its maxmemory", false},
	{"MISCONF", "the server cannot save its data to disk and refuses to write (MISCONF): see its log", false},
	{"NOREPLICAS", "the server has too few replicas to write (NOREPLICAS): see min-replicas-to-write", false},
	{"LOADING", "the server has just started and loads its data (LOADING): it will answer when that is done", false},
	{"MASTERDOWN", "the server is a replica without its master (MASTERDOWN): name the master", false},
	{"CLUSTERDOWN", "the Cluster is not complete (CLUSTERDOWN): see CLUSTER INFO", false},
	{"TRYAGAIN", "the keys of the namespace are being moved to another node (TRYAGAIN): that passes", false},
	{"BUSY", "the server is busy with another script (BUSY): that passes, or see SCRIPT KILL", false},
	{"max number of clients", "the server has no connections left: raise its maxclients", false},
}

var (
	deniedCommand = regexp.MustCompile(`run the '([a-zA-Z_|]{1,40})' command|can't run this .* in ([A-Z]{1,40})$`)
	deniedKeys    = regexp.MustCompile(`(?i)access (a|one of the|at least one of the) keys?`)
)

// explanation returns what is wrong and what helps, and whether retrying can't help.
func explanation(err error) (what string, refused bool) {
	var own *problem
	if errors.As(err, &own) {
		return own.text, own.refused
	}
	var answer redis.Error
	if errors.As(err, &answer) {
		return explainAnswer(answer.Error())
	}
	var timeout interface{ Timeout() bool }
	var op *net.OpError
	var dns *net.DNSError
	switch {
	case errors.Is(err, context.Canceled):
		return "the call was given up: " + context.Canceled.Error(), false
	case errors.As(err, &dns):
		return "the address of the server is not known: " + dns.Err, false
	case errors.As(err, &op) && op.Op == "dial" && op.Timeout():
		return "the server does not accept a connection: is it running, and is a firewall between? " + context.DeadlineExceeded.Error(), false
	case errors.As(err, &op) && op.Op == "dial":
		return "the server cannot be reached: is it running there? " + op.Err.Error(), false
	case errors.Is(err, context.DeadlineExceeded) || errors.As(err, &timeout) && timeout.Timeout():
		return "the server has not answered in time: " + context.DeadlineExceeded.Error(), false
	case errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF):
		return "the server has closed the connection: " + io.EOF.Error(), false
	case errors.As(err, &op):
		return "the connection has failed: " + op.Err.Error(), false
	}
	if text := err.Error(); !strings.Contains(text, "can't parse") && !strings.Contains(text, "invalid reply") {
		return text, false
	}
	return notRedis, true
}

// explainAnswer explains an error that the server has returned.
func explainAnswer(text string) (what string, refused bool) {
	if strings.HasPrefix(text, "NOPERM") || strings.Contains(text, "NOPERM ") || strings.Contains(text, "ACL failure") ||
		strings.Contains(text, "executing the script can't") {
		what := "the user lacks a right (NOPERM)"
		if m := deniedCommand.FindStringSubmatch(text); m != nil {
			what = fmt.Sprintf("the user may not use the command %s (NOPERM)", strings.ToUpper(m[1]+m[2]))
		} else if deniedKeys.MatchString(text) {
			what = "the user may not use the keys of the namespace (NOPERM)"
		}
		return what + ": give it all the rights that docs/redis.md lists, with ACL SETUSER", true
	}
	for _, a := range answers {
		if strings.HasPrefix(text, a.text) || strings.Contains(text, a.text) {
			return a.what, a.refused
		}
	}
	return "the server answers: " + text, false
}

// failed returns err with its cause and remedy. It makes a Cluster's client reload its slot map,
// since the client would otherwise keep asking a dead node until that answers, or for a minute.
func (s *shard) failed(ctx context.Context, err error) error {
	if c, ok := s.client.(interface{ ReloadState(context.Context) }); ok {
		c.ReloadState(ctx)
	}
	return s.place.explain(err)
}

// malformed is the error for what another program has written.
func (s *shard) malformed(what string) error {
	return &problem{
		text:    fmt.Sprintf("redisstore: %s: %s is not in the format of this version of the package: use another namespace", s.place, what),
		err:     errMalformed,
		refused: true,
	}
}

var errMalformed = errors.New("redisstore: not in the format of this package")
