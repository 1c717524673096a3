package backendtest

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/gotheus/gotheus/internal/backend"
)

func testConcurrent(t *testing.T, o *Backends) {
	place := o.Fresh(t)
	f := &backend.Family{Name: "many_total", Help: "M.", Kind: backend.Counter, Labels: []string{"x"}}
	peers := []*peer{o.start(t, place, "p0", false)}
	for i := range 3 {
		if !o.Alone {
			peers = append(peers, o.start(t, place, fmt.Sprint("p", i+1), o.Processes && i == 0))
		}
	}
	const each = 50 * manySeries
	q := about("many", f, "")
	q.Count = each
	var wg sync.WaitGroup
	stop := make(chan struct{})
	for _, p := range peers {
		wg.Go(func() {
			if a := p.ask(q); a.Err != "" {
				t.Errorf("%s: %s", p.name, a.Err)
			}
			if a := p.ask(request{Do: "flush"}); a.Err != "" {
				t.Errorf("%s: Flush: %s", p.name, a.Err)
			}
		})
	}
	var scrapes sync.WaitGroup
	for _, p := range peers {
		if p.here == nil {
			continue
		}
		scrapes.Go(func() {
			for last := 0; ; {
				select {
				case <-stop:
					return
				default:
				}
				p.ask(request{Do: "sync"})
				a := p.ask(request{Do: "walk"})
				n, err := sumCounters(a.Groups)
				if a.Err != "" || err != nil || n < last {
					t.Errorf("%s: a page with %d after one with %d, %s, %v", p.name, n, last, a.Err, err)
					return
				}
				last = n
			}
		})
	}
	wg.Wait()
	close(stop)
	scrapes.Wait()
	for _, p := range peers {
		if n, err := sumCounters(p.page()); n != each*len(peers) || err != nil {
			t.Errorf("%s shows %d, of %d that were counted, %v", p.name, n, each*len(peers), err)
		}
	}
}

// sumCounters adds up the integer words of counters.
func sumCounters(groups []group) (sum int, err error) {
	for _, g := range groups {
		for _, s := range g.Series {
			n, convErr := strconv.Atoi(strings.Fields(s.Value)[0])
			sum, err = sum+n, errors.Join(err, convErr)
		}
	}
	return sum, err
}

func testHistories(t *testing.T, o *Backends) {
	from, to := uint64(1), uint64(*histories)
	if *only > 0 {
		from, to = *only, *only
	}
	for seed := from; seed <= to; seed++ {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			t.Cleanup(func() {
				if t.Failed() {
					t.Logf("to repeat: -kit.seed %d", seed)
				}
			})
			history(t, o, seed)
		})
	}
}

// history lets instances take turns at random operations. Each one syncs before it does something.
func history(t *testing.T, o *Backends, seed uint64) {
	rnd := rand.New(rand.NewPCG(seed, 9))
	m := newModel(rnd)
	place := o.Fresh(t)
	var peers []*peer
	started, dying := 0, false
	start := func() {
		started++
		peers = append(peers, o.start(t, place, fmt.Sprint("p", started), o.Processes && rnd.IntN(3) == 0))
	}
	start()
	for range 150 {
		at := rnd.IntN(len(peers))
		p, f := peers[at], catalogue[rnd.IntN(len(catalogue))]
		p.must(request{Do: "sync"})
		switch k := rnd.IntN(100); {
		case k < 60:
			m.do(p, f, m.labels(f))
		case k < 75:
			m.expect(p, dying)
			dying = false
		case k < 80:
			p.must(about("declare", f, ""))
			p.must(request{Do: "flush"})
			m.declare(f)
		case k < 90:
			if f.Block.Role != 0 {
				break
			}
			p.must(about("declare", f, "")) // a deleter has always declared the family
			how, which := "delete", m.prefix(f)
			if rnd.IntN(2) == 0 {
				how, which = "delete one", m.labels(f)
			}
			n := m.delete(f, which)
			if got := p.must(about(how, f, which)).N; got != n && !dying {
				t.Fatalf("%s of %s{%s…} : %d deleted, want %d", how, f.Name, which, got, n)
			}
			p.must(request{Do: "flush"})
		case k < 94 && !o.Alone && len(peers) < 5:
			start()
		case k < 97 && len(peers) > 1:
			p.end()
			m.gone(p)
			dying = true // others may see it as alive for a moment
			peers = slices.Delete(peers, at, at+1)
		case k < 100 && len(peers) > 1 && (p.cmd != nil || o.Die != nil):
			p.kill()
			m.gone(p)
			dying = true
			peers = slices.Delete(peers, at, at+1)
		}
	}
	for _, p := range peers {
		m.expect(p, dying)
	}
}

func testDeath(t *testing.T, o *Backends) {
	place := o.Fresh(t)
	f := &backend.Family{Name: "death_total", Help: "D.", Kind: backend.Counter, Labels: []string{"x"}}
	watch := o.start(t, place, "watch", false)
	least, most := 0, 0
	for i := range 5 {
		p := o.start(t, place, fmt.Sprint("p", i), true)
		q := about("count", f, "")
		fmt.Fprintln(p.in, mustJSON(q))
		var counted, acknowledged int
		read := func() bool {
			line, err := p.out.ReadString('\n')
			what, n, _ := strings.Cut(strings.TrimSpace(line), " ")
			if err != nil { // the last line may be incomplete
				return false
			}
			switch k, _ := strconv.Atoi(n); what {
			case "counts":
				counted = k
			case "acknowledged":
				acknowledged = k
			default:
				t.Fatalf("a child process printed %q", line)
			}
			return true
		}
		for range 3 + 7*i {
			if !read() {
				t.Fatal("a child process has ended")
			}
		}
		p.cmd.Process.Kill()
		for read() {
		}
		p.cmd.Wait()
		p.over = true
		least, most = least+acknowledged, most+counted
		n, err := sumCounters(watch.page())
		if err != nil || n < least || n > most {
			t.Fatalf("after %d kills: %d, of which at least %d were flushed and at most %d counted, %v", i+1, n, least, most, err)
		}
	}
}
