//go:build linux

package redisstore_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/gotheus/gotheus/redisstore"
	"github.com/gotheus/gotheus/store"
)

// openStore returns the first shard of a URL.
func openStore(t testing.TB, url string) store.Store {
	t.Helper()
	c, err := redisstore.Open(url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for _, s := range c.Shards {
			s.Close()
		}
	})
	return c.Shards[0]
}

func commit(t testing.TB, s store.Store, c *store.Commit) {
	t.Helper()
	if err := s.Commit(t.Context(), c); err != nil {
		t.Fatal(err)
	}
}

// content returns all keys with their fields, without expiry, and without the field "" of heads,
// which nothing reads: a commit that is refused may leave it.
func content(t testing.TB, s *server) string {
	t.Helper()
	all := make(map[string]map[string]string)
	for _, k := range s.Client.Keys(t.Context(), "*").Val() {
		fields := s.HGetAll(t.Context(), k).Val()
		if strings.HasSuffix(k, ":heads") {
			delete(fields, "")
		}
		if len(fields) > 0 || !strings.HasSuffix(k, ":heads") {
			all[k] = fields
		}
	}
	return fmt.Sprint(all) // in order of the keys
}

const (
	foldedID, liveID = "i0123456789abcdef", "ifedcba9876543210"
	allRights        = "+@all"
)

// A commit that the server refuses in part changes nothing, whichever command or key is refused,
// also if the namespace is empty.
func TestWholeCommits(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	fold := &store.Commit{
		If:    map[string][]byte{"meta": []byte("1"), foldedID: []byte("2")},
		Heads: map[string][]byte{"base": []byte("3"), liveID: []byte("4"), foldedID: nil},
		Parts: map[store.Key][]byte{{Group: "b", Part: 0}: []byte("sum"), {Group: "d", Part: 0}: []byte("names")},
		Drop:  []string{foldedID},
	}
	for i, c := range []struct {
		name   string
		rights string // NS is the namespace
		query  string
		spoil  func(ns string) // what else is wrong
		mend   func(ns string)
	}{
		{"no HDEL", "~* -hdel", "", nil, nil},
		{"no UNLINK", "~* -unlink", "", nil, nil},
		{"no HSET", "~* -hset", "", nil, nil},
		{"no PEXPIRE", "~* -pexpire", "&expire=24h&alive=1h", nil, nil},
		{"no HDEL, expiring", "~* -hdel", "&expire=24h&alive=1h", nil, nil},
		{"not the base", "~gotheus:{NS}:heads ~gotheus:{NS}:i* ~gotheus:{NS}:f ~gotheus:{NS}:d", "", nil, nil},
		{"not the directory", "~gotheus:{NS}:heads ~gotheus:{NS}:i* ~gotheus:{NS}:f ~gotheus:{NS}:b*", "", nil, nil},
		{"not the instances", "~gotheus:{NS}:heads ~gotheus:{NS}:d ~gotheus:{NS}:f ~gotheus:{NS}:b*", "", nil, nil},
		{"not the heads", "~gotheus:{NS}:d ~gotheus:{NS}:f ~gotheus:{NS}:b* ~gotheus:{NS}:i*", "", nil, nil},
		{"only another namespace", "~gotheus:{other}:*", "", nil, nil},
		{
			"another type", "~*", "",
			func(ns string) { s.Set(t.Context(), "gotheus:{"+ns+"}:b", "text", 0) },
			func(ns string) { s.Del(t.Context(), "gotheus:{"+ns+"}:b") },
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			ns, user := fmt.Sprint("whole", i), fmt.Sprint("user", i)
			begun := openStore(t, s.url("ns="+ns))
			url := "redis://" + user + ":pw@" + s.addr() + "?ns=" + ns + c.query
			st := openStore(t, url)
			allow := func(rights string) {
				t.Helper()
				args := []any{"ACL", "SETUSER", user, "reset", "on", ">pw", allRights}
				for _, r := range strings.Fields(strings.ReplaceAll(rights, "NS", ns)) {
					args = append(args, r)
				}
				if err := s.Do(t.Context(), args...).Err(); err != nil {
					t.Fatal(err)
				}
			}
			for _, empty := range []bool{true, false} {
				tried := *fold
				if empty {
					tried.If = map[string][]byte{"meta": nil}
				} else {
					commit(t, begun, &store.Commit{
						Heads: map[string][]byte{"meta": []byte("1"), foldedID: []byte("2")},
						Parts: map[store.Key][]byte{{Group: foldedID, Part: 0}: []byte("counts")},
					})
				}
				if c.spoil != nil {
					c.spoil(ns)
				}
				allow(c.rights)
				before := content(t, s)
				known, _ := begun.Heads(t.Context(), nil)
				err := st.Commit(t.Context(), &tried)
				if !errors.Is(err, store.ErrRefused) || errors.Is(err, store.ErrConflict) || !strings.Contains(err.Error(), ns) {
					t.Errorf("empty %v: the commit ends with %v", empty, err)
				}
				if _, err := openStore(t, url).Heads(t.Context(), []string{"meta"}); !errors.Is(err, store.ErrRefused) {
					t.Errorf("empty %v: the first contact ends with %v", empty, err)
				}
				after, _ := begun.Heads(t.Context(), nil)
				if len(after) != len(known) {
					t.Errorf("empty %v: heads %v, before: %v", empty, after, known)
				}
				if got := content(t, s); got != before {
					t.Errorf("empty %v: changed in part:\n%s\nbefore:\n%s", empty, got, before)
				}
				if c.mend != nil {
					c.mend(ns)
				}
			}
			allow("~*")
			commit(t, st, fold)
			now, err := st.Heads(t.Context(), nil)
			if delete(now, store.HeadServer); err != nil || len(now) != 3 || now[foldedID].Value != nil {
				t.Errorf("once it is allowed: %v, %v", now, err)
			}
		})
	}
}

// A server without memory refuses before anything has changed, too.
func TestWholeCommitsWithoutMemory(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	for _, query := range []string{"ns=a", "ns=a&expire=1h"} {
		st := openStore(t, s.url(query))
		commit(t, st, &store.Commit{Heads: map[string][]byte{"meta": []byte("1"), foldedID: []byte("2")}, Parts: map[store.Key][]byte{{Group: foldedID}: []byte("x")}})
		before := content(t, s)
		config(t, s, "maxmemory", "1")
		for _, condition := range []map[string][]byte{{"meta": []byte("1")}, {"base": nil}} {
			err := st.Commit(t.Context(), &store.Commit{
				If: condition, Heads: map[string][]byte{"base": []byte("3"), foldedID: nil},
				Parts: map[store.Key][]byte{{Group: "b"}: []byte("x")}, Drop: []string{foldedID},
			})
			if err == nil || errors.Is(err, store.ErrRefused) || !strings.Contains(err.Error(), "OOM") || !strings.Contains(err.Error(), "maxmemory") {
				t.Errorf("%s: %v", query, err)
			}
			if got := content(t, s); got != before {
				t.Errorf("%s: changed in part:\n%s\nbefore:\n%s", query, got, before)
			}
		}
		config(t, s, "maxmemory", "0")
	}
}

// A process that may not remove anything cannot be folded, however often that is tried: its counts
// are on pages once, also when it may.
func TestRightsForHalf(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	url := s.url("ns=half&interval=10ms&alive=200ms")
	for _, lacks := range []string{"HDEL", "UNLINK"} {
		acl(t, s, "-"+lacks)
		r := newRegistry()
		if err := r.Bind(t.Context(), url); !errors.Is(err, store.ErrRefused) || !strings.Contains(err.Error(), lacks) {
			t.Errorf("without %s: Bind returns %v", lacks, err)
		}
		r.NewCounter("c_total", "C.", nil).Add(5)
		ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
		defer cancel()
		if err := r.Close(ctx); err == nil {
			t.Errorf("without %s: Close has succeeded", lacks)
		}
		acl(t, s, "+"+lacks)
		reader := open(t, url)
		if p := page(t, reader); strings.Contains(p, "c_total") {
			contains(t, p, "c_total 5")
		}
		// Otherwise it would restore what is removed.
		if err := reader.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		ns, err := redisstore.OpenNamespace(url)
		if err != nil {
			t.Fatal(err)
		}
		defer ns.Close()
		if err := ns.Remove(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}
