//go:build linux

package redisstore_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/gotheus/gotheus"
)

func init() { children["replica"] = serveReplica }

// serveReplica counts once, and answers each line with its page in ScopeLeader.
func serveReplica() {
	r := newRegistry()
	if err := r.Bind(context.Background(), os.Getenv("URL")); err != nil {
		fmt.Println(err)
		return
	}
	r.NewCounter("c_total", "C.", nil).Inc()
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
		var page strings.Builder
		err := r.Write(ctx, &page, &gotheus.WriteOptions{Scope: gotheus.ScopeLeader})
		cancel()
		_, rest, total := strings.Cut(page.String(), "\nc_total ")
		n, _, _ := strings.Cut(rest, "\n")
		switch {
		case err != nil:
			fmt.Println("error", err)
		case total:
			fmt.Println("total", n)
		default:
			fmt.Println("own")
		}
	}
}

// scrape returns which processes show the total.
func scrape(t *testing.T, fleet []*child) (leaders []int) {
	t.Helper()
	for i, c := range fleet {
		io.WriteString(c.in, "\n")
		if !c.lines.Scan() {
			t.Fatalf("process %d says nothing", i)
		}
		switch text := c.lines.Text(); text {
		case "total 4":
			leaders = append(leaders, i)
		case "own":
		default:
			t.Fatalf("process %d says %s", i, text)
		}
	}
	return leaders
}

// One process of a fleet shows the total. If it is killed or hangs, another one does; in a steady
// state, it is never more than one.
func TestLeader(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	var fleet []*child
	for range 4 {
		fleet = append(fleet, startChild(t, "replica", "URL="+s.url("interval=50ms&alive=6s&shards=2")))
	}
	flush := open(t, s.url("interval=50ms&alive=6s&shards=2")) // never leads
	s.await("have what all have counted", func() bool {
		var b strings.Builder
		return flush.WriteText(&b) == nil && strings.Contains(b.String(), "\nc_total 4\n")
	})
	scrape(t, fleet) // now all of them are candidates
	settled := func() int {
		t.Helper()
		leader := -1
		s.await("have a leader", func() bool {
			leaders := scrape(t, fleet)
			if len(leaders) == 1 {
				leader = leaders[0]
			}
			return leader >= 0
		})
		for range 3 {
			if leaders := scrape(t, fleet); len(leaders) != 1 || leaders[0] != leader {
				t.Fatalf("%v lead, after %d did", leaders, leader)
			}
		}
		return leader
	}
	leader := settled()
	fleet[leader].cmd.Process.Kill()
	fleet[leader].cmd.Wait()
	fleet = append(fleet[:leader], fleet[leader+1:]...)
	leader = settled()
	hung := fleet[leader]
	hung.cmd.Process.Signal(syscall.SIGSTOP)
	fleet = append(fleet[:leader], fleet[leader+1:]...)
	settled()
	hung.cmd.Process.Signal(syscall.SIGCONT)
	fleet = append(fleet, hung)
	scrape(t, fleet) // it learns that it does not lead
	settled()
}
