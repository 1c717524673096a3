package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

const (
	minClients   = 8 // otherwise two for each worker
	clientsMost  = 64
	requestLimit = 30 * time.Second
	redial       = 20 * time.Millisecond
)

// kind is a request that clients make, with the samples that it must add 1 to. Which sample counts
// the request itself follows from the answer's status.
type kind struct {
	path, route string
	status      int // that is expected
	samples     []string
}

// kinds has the common requests several times, since clients choose uniformly.
var kinds = func() []kind {
	var list []kind
	for _, item := range []string{"tea", "coffee", "cake"} {
		sold := fmt.Sprintf(`shop_orders_total{item=%q,result="sold"}`, item)
		failed := fmt.Sprintf(`shop_orders_total{item=%q,result="failed"}`, item)
		home := kind{"/?item=" + item, "/{$}", 200, []string{sold}}
		list = append(list, home, home, home, home, home,
			kind{"/slow?item=" + item, "/slow", 200, []string{sold, "shop_delivery_seconds_count"}},
			kind{"/fail?item=" + item, "/fail", 500, []string{failed}},
			kind{"/" + item + ".html", "404", 404, nil})
	}
	return list
}()

// httpSample is the sample that the middleware counts a request in.
func httpSample(route string, status int) string {
	return fmt.Sprintf(`http_request_duration_seconds_count{method="GET",route=%q,status_code="%d"}`, route, status)
}

// count is the clients' count of a sample: how many increments are certain, and how many more are
// possible because requests were cut.
type count struct{ done, cut uint64 }

// tally holds the counts of clients.
type tally struct {
	samples map[string]count
	servers map[string]uint64 // answers, by Server header
}

func newTally() *tally { return &tally{make(map[string]count), make(map[string]uint64)} }

func (t *tally) add(samples []string, c count) {
	for _, s := range samples {
		old := t.samples[s]
		t.samples[s] = count{old.done + c.done, old.cut + c.cut}
	}
}

// load is a number of running clients.
type load struct {
	addr      string
	done, cut atomic.Uint64 // requests so far
	late      atomic.Uint64 // of those cut: no answer in time
	clients   sync.WaitGroup

	mu    sync.Mutex
	total *tally
}

// startLoad starts n clients that send requests to addr until ctx ends.
func startLoad(ctx context.Context, n int, addr string) *load {
	l := &load{addr: addr, total: newTally()}
	for range n {
		l.clients.Go(func() {
			t := newTally()
			l.work(ctx, t)
			l.mu.Lock()
			defer l.mu.Unlock()
			for sample, c := range t.samples {
				l.total.add([]string{sample}, c)
			}
			for server, n := range t.servers {
				l.total.servers[server] += n
			}
		})
	}
	return l
}

// wait returns what all clients counted, after ctx has ended and the last answers have arrived.
func (l *load) wait() *tally {
	l.clients.Wait()
	return l.total
}

func (l *load) work(ctx context.Context, t *tally) {
	c := client{addr: l.addr}
	defer c.close()
	for ctx.Err() == nil {
		k := &kinds[rand.IntN(len(kinds))]
		status, server, sent, err := c.get(k.path)
		switch {
		case err == nil:
			l.done.Add(1)
			t.servers[server]++
			t.add([]string{httpSample(k.route, status)}, count{done: 1})
			t.add(k.samples, count{done: 1})
		case sent:
			l.cut.Add(1)
			if errors.Is(err, os.ErrDeadlineExceeded) {
				l.late.Add(1)
			}
			t.add([]string{httpSample(k.route, k.status)}, count{cut: 1})
			t.add(k.samples, count{cut: 1})
		default: // no worker can have counted it
			select {
			case <-time.After(redial):
			case <-ctx.Done():
			}
		}
	}
}

// client is an HTTP client that never sends a request twice. The Transport of net/http silently
// does if the connection breaks, and then the expected count is unknown.
type client struct {
	addr string
	conn net.Conn
	in   *bufio.Reader
	left int // requests until the next connection, which is perhaps with another worker
}

// get sends one request and reads the whole answer. After an error, sent says whether the server
// may have got the request.
func (c *client) get(path string) (status int, server string, sent bool, err error) {
	if c.conn == nil {
		if c.conn, err = net.DialTimeout("tcp", c.addr, requestLimit); err != nil {
			c.conn = nil
			return 0, "", false, err
		}
		c.in = bufio.NewReader(c.conn)
		c.left = 40 + rand.IntN(20)
	}
	c.left--
	c.conn.SetDeadline(time.Now().Add(requestLimit))
	n, err := fmt.Fprintf(c.conn, "GET %s HTTP/1.1\r\nHost: %s\r\n\r\n", path, c.addr)
	if err != nil {
		c.close()
		return 0, "", n > 0, err
	}
	resp, err := http.ReadResponse(c.in, nil)
	if err != nil {
		c.close()
		return 0, "", true, err
	}
	_, err = io.Copy(io.Discard, resp.Body)
	if err != nil {
		c.close()
		return 0, "", true, err
	}
	if resp.Close || c.left <= 0 {
		c.close()
	}
	return resp.StatusCode, resp.Header.Get("Server"), true, nil
}

func (c *client) close() {
	if c.conn != nil {
		c.conn.Close()
		c.conn = nil
	}
}
