//go:build linux

package redisstore_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"
)

// startSentinels starts three sentinels that watch a master under the name "main", and waits until
// they know each other and its replica.
func startSentinels(t *testing.T, master *server, password string) (list []*server) {
	t.Helper()
	for range 3 {
		s := newServer(t)
		conf := fmt.Sprintf("port %s\nbind 127.0.0.1\ndir %s\nsentinel monitor main 127.0.0.1 %s 2\nsentinel down-after-milliseconds main 3000\n"+
			"sentinel failover-timeout main 4000\n", s.port, s.dir, master.port)
		if password != "" {
			conf += "sentinel auth-pass main " + password + "\n"
		}
		file := filepath.Join(s.dir, "sentinel.conf")
		if err := os.WriteFile(file, []byte(conf), 0o600); err != nil {
			t.Fatal(err)
		}
		s.run(&redis.Options{}, file, "--sentinel", "--loglevel", "warning")
		list = append(list, s)
	}
	for _, s := range list {
		s.await("know the others", func() bool {
			info, err := s.Do(t.Context(), "SENTINEL", "MASTER", "main").Result()
			text := fmt.Sprint(info)
			return err == nil && strings.Contains(text, "num-other-sentinels:2") && strings.Contains(text, "num-slaves:1")
		})
	}
	return list
}

// A master dies while processes count, and sentinels promote its replica. The server has a
// password, the sentinels do not.
func TestSentinel(t *testing.T) {
	t.Parallel()
	const password = "p%40ss"
	master := newServer(t)
	master.startWith("p@ss")
	replica := newServer(t)
	replica.startWith("p@ss", "--replicaof", "127.0.0.1", master.port)
	replica.await("replicate", func() bool {
		info, _ := replica.Info(t.Context(), "replication").Result()
		return strings.Contains(info, "master_link_status:up")
	})
	sentinels := startSentinels(t, master, "p@ss")
	l := startLoad(t, "redis://default:"+password+"@"+sentinels[0].addr()+"/0?master=main&addr="+sentinels[1].addr()+"&addr="+sentinels[2].addr()+
		"&ns=s&interval=50ms&alive=2s&timeout=5s&dial_timeout=1s&read_timeout=2s")
	l.settle("before")
	master.kill()
	l.refused("without a master", replica)
	l.settle("after a failover")
	if !replica.isMaster() {
		t.Error("the replica is not the master")
	}
	sentinels[0].kill() // the first one in the URL
	l.finish()
}
