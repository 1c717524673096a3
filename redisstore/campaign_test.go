//go:build linux

package redisstore_test

import (
	"context"
	"encoding/binary"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/gotheus/gotheus"
	_ "github.com/gotheus/gotheus/redisstore"
)

// The campaign:
//
//	go test -run TestCampaign -cuts 1000 -restarts 50 -failovers 20 -pauses 20 -kills 20 \\
//		-timeout 60m .
//
// The same with -shards 3.
var (
	cuts      = flag.Int("cuts", 40, "connection cuts of TestCampaign")
	restarts  = flag.Int("restarts", 2, "empty restarts of TestCampaign")
	failovers = flag.Int("failovers", 2, "failovers of TestCampaign, each of which loses acknowledged writes")
	pauses    = flag.Int("pauses", 1, "pauses of producers in TestCampaign, longer than they may be silent")
	kills     = flag.Int("kills", 2, "producers that TestCampaign kills")
	shards    = flag.Int("shards", 1, "shards of the namespace of TestCampaign")
	verbose   = flag.Bool("events", false, "TestCampaign says what happens")
)

const (
	campaignAlive    = 4 * time.Second
	campaignInterval = 50 * time.Millisecond
	campaignQuery    = "ns=campaign&interval=50ms&alive=4s&timeout=1s&dial_timeout=1s"
)

func init() { children["producer"] = produce }

// produce counts at the given rate, and reports what it has counted and what was acknowledged.
func produce() {
	r := gotheus.NewRegistry(nil)
	ctx := context.Background()
	if err := r.Bind(ctx, os.Getenv("URL")); err != nil {
		fmt.Println(err)
		return
	}
	id := os.Getenv("ID")
	mine := r.NewCounterVec("campaign_mine_total", "By producer.", nil, "producer").With(id)
	all := r.NewCounter("campaign_all_total", "Of all.", nil)
	sizes := r.NewHistogram("campaign_size", "A histogram.", &gotheus.HistogramOptions{Buckets: []float64{1, 10}})
	gauge := r.NewGauge("campaign_balance", "A shared gauge.", nil)
	stop := make(chan string)
	go func() {
		var cmd string
		fmt.Scanln(&cmd)
		stop <- cmd
	}()
	// The numbers of counted and acknowledged updates are in a shared file, so readers see them
	// at once, even those written just before a kill.
	state, err := os.OpenFile(os.Getenv("STATE"), os.O_WRONLY, 0)
	if err != nil {
		fmt.Println(err)
		return
	}
	tell := func(at int64, n int) {
		if _, err := state.WriteAt(binary.LittleEndian.AppendUint64(nil, uint64(n)), at); err != nil {
			fmt.Println(err)
		}
	}
	n := 0
	for i := 0; ; i++ {
		n += 10
		tell(stateCounted, n) // before counting, so that no count is missed
		for range 10 {
			mine.Inc()
			all.Inc()
			sizes.Observe(5)
			gauge.Inc()
		}
		if i%4 == 0 {
			at := n
			flush, cancel := context.WithTimeout(ctx, 100*time.Millisecond)
			if r.Flush(flush) == nil {
				tell(stateAcked, at)
			}
			cancel()
		}
		select {
		case <-stop:
			end, cancel := context.WithTimeout(ctx, 30*time.Second)
			defer cancel()
			if err := r.Close(end); err != nil {
				fmt.Println(err)
			}
			tell(stateAcked, n)
			return
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// producer is a child process that counts.
type producer struct {
	*child
	id     string
	shared *os.File
	err    string // after it has ended
	ended  chan struct{}
}

// Offsets in a producer's file.
const (
	stateCounted = 0
	stateAcked   = 8
	stateSize    = 16
)

func startProducer(t testing.TB, url, id string) *producer {
	path := filepath.Join(t.TempDir(), "state")
	if err := os.WriteFile(path, make([]byte, stateSize), 0o600); err != nil {
		t.Fatal(err)
	}
	shared, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { shared.Close() })
	p := &producer{child: startChild(t, "producer", "URL="+url, "ID="+id, "STATE="+path), id: id, shared: shared, ended: make(chan struct{})}
	go func() {
		defer close(p.ended)
		for p.lines.Scan() {
			p.err += p.lines.Text()
		}
	}()
	return p
}

func (p *producer) state() (counted, acked int) {
	b := make([]byte, stateSize)
	if _, err := p.shared.ReadAt(b, 0); err != nil {
		p.t.Fatal(err)
	}
	return int(binary.LittleEndian.Uint64(b[stateCounted:])), int(binary.LittleEndian.Uint64(b[stateAcked:]))
}

// Whatever is cut, lost, paused or killed: every acknowledged count is on the page exactly once.
func TestCampaign(t *testing.T) {
	t.Parallel()
	begun := time.Now()
	c := &campaign{t: t, master: startServer(t)}
	c.replica = c.master.replica()
	c.net = newProxy(t, c.master.addr())
	c.url = fmt.Sprintf("redis://%s?%s&shards=%d", c.net.addr(), campaignQuery, *shards)
	c.observer = gotheus.NewRegistry(nil)
	if err := c.observer.Bind(t.Context(), c.url); err != nil {
		t.Fatal(err)
	}
	defer c.observer.Close(context.Background())
	for range 4 {
		c.add()
	}
	c.settled("start")
	var events []func()
	for what, n := range map[*int]func(){cuts: c.cut, restarts: c.restart, failovers: c.failover, pauses: c.pause, kills: c.kill} {
		for range *what {
			events = append(events, n)
		}
	}
	seed := rand.Uint64()
	c.rnd = rand.New(rand.NewPCG(seed, 0))
	c.rnd.Shuffle(len(events), func(i, j int) { events[i], events[j] = events[j], events[i] })
	for _, event := range events {
		event()
	}
	c.settled("end")
	c.finish()
	t.Logf("seed %d, %d shards: %d cuts, %d empty restarts, %d failovers, %d pauses, %d kills in %v", seed, *shards, *cuts, *restarts, *failovers, *pauses, *kills, time.Since(begun).Round(time.Second))
}

type campaign struct {
	t               *testing.T
	rnd             *rand.Rand
	master, replica *server
	net             *proxy
	url             string
	observer        *gotheus.Registry
	alive, dead     []*producer
	n               int
}

func (c *campaign) say(format string, args ...any) {
	if *verbose {
		c.t.Logf(format, args...)
	}
}

func (c *campaign) add() {
	c.n++
	c.alive = append(c.alive, startProducer(c.t, c.url, fmt.Sprint("p", c.n)))
}

func (c *campaign) rest(most time.Duration) { time.Sleep(time.Duration(c.rnd.Int64N(int64(most)))) }

func (c *campaign) cut() {
	c.rest(60 * time.Millisecond)
	c.net.cut()
}

// restart replaces the server by an empty one.
func (c *campaign) restart() {
	c.settled("before a restart")
	c.say("restart")
	c.net.lead("")
	c.master.kill()
	c.replica.kill()
	c.rest(500 * time.Millisecond)
	c.master = startServer(c.t)
	c.net.lead(c.master.addr())
	c.replica = c.master.replica()
	c.settled("after a restart")
}

// failover switches to a replica that has missed the last acknowledged commits.
func (c *campaign) failover() {
	c.settled("before a failover")
	c.say("failover")
	ctx := context.Background()
	if err := c.replica.ReplicaOf(ctx, "no", "one").Err(); err != nil {
		c.t.Fatal(err)
	}
	c.rest(time.Second)
	c.settled("in a failover") // a survivor knows the counts of the dead
	c.net.lead("")
	c.master.kill()
	c.master = c.replica
	c.net.lead(c.master.addr())
	c.replica = c.master.replica()
	c.settled("after a failover")
}

// pause stops a producer for longer than alive.
func (c *campaign) pause() {
	p := c.alive[c.rnd.IntN(len(c.alive))]
	c.say("pause of %s", p.id)
	p.cmd.Process.Signal(syscall.SIGSTOP)
	time.Sleep(campaignAlive * 5 / 2) // long enough to be folded
	p.cmd.Process.Signal(syscall.SIGCONT)
}

func (c *campaign) kill() {
	i := c.rnd.IntN(len(c.alive))
	p := c.alive[i]
	c.say("kill of %s", p.id)
	p.cmd.Process.Kill()
	<-p.ended // before Wait closes its output
	p.cmd.Wait()
	c.alive = append(c.alive[:i], c.alive[i+1:]...)
	c.dead = append(c.dead, p)
	c.add()
}

// page returns a page's values by name and producer.
func (c *campaign) page() (map[string]float64, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	values := make(map[string]float64)
	for f, err := range c.observer.Families(ctx) {
		if err != nil {
			return nil, err
		}
		for s := range f.Samples() {
			key := strings.TrimPrefix(s.Name, "campaign_")
			if f.Name == "campaign_mine_total" {
				key = s.Labels[0].Value
			}
			values[key] = s.Value
		}
	}
	return values, nil
}

// settled waits for a page, and checks that it has everything acknowledged before and no more than
// was counted after.
func (c *campaign) settled(when string) map[string]float64 {
	c.t.Helper()
	for deadline := time.Now().Add(90 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		low := make(map[string]int)
		for _, p := range append(append([]*producer{}, c.alive...), c.dead...) {
			_, low[p.id] = p.state()
		}
		page, err := c.page()
		if err != nil {
			if time.Now().After(deadline) {
				c.t.Fatalf("%s: no page: %v", when, err)
			}
			continue
		}
		for _, p := range append(append([]*producer{}, c.alive...), c.dead...) {
			counted, _ := p.state()
			v := int(page[p.id])
			if v < low[p.id] || v > counted {
				c.t.Fatalf("%s: the page has %d of %s, which has counted %d, of which %d were acknowledged", when, v, p.id, counted, low[p.id])
			}
		}
		return page
	}
}

// finish stops all producers and checks the last page.
func (c *campaign) finish() {
	for _, p := range c.alive {
		fmt.Fprintln(p.in, "stop")
	}
	for _, p := range c.alive {
		<-p.ended
		if err := p.cmd.Wait(); err != nil || p.err != "" {
			c.t.Errorf("%s: %v %s", p.id, err, p.err)
		}
	}
	page := c.settled("at the end")
	sum, unpublished := 0.0, 0
	for _, p := range append(c.alive, c.dead...) {
		v := page[p.id]
		counted, acked := p.state()
		sum += v
		if lost := counted - int(v); lost > 0 {
			unpublished += lost
			if acked == counted {
				c.t.Errorf("%s ended in good order, and %d of its %d are missing", p.id, lost, counted)
			}
		}
	}
	// The other metrics are counted along with it; after a kill, they may differ by one round.
	for _, name := range []string{"all_total", "size_count", "balance"} {
		if d := page[name] - sum; d > float64(10*len(c.dead)) || d < -float64(10*len(c.dead)) {
			c.t.Errorf("%s is %v, beside %v", name, page[name], sum)
		}
	}
	c.t.Logf("%v counted and on the page; %d were not published when their producers were killed", sum, unpublished)
}
