package tests_test

import (
	"fmt"
	"runtime"
	"strings"
	"time"

	"github.com/gotheus/gotheus"
	"github.com/gotheus/gotheus/internal/backend"
)

func values(v ...string) []string { return v }

var stories = map[string]func(s *story){
	"counters add up": func(s *story) {
		s.all(command{Do: "counter", Name: "c_total"})
		for i, w := range s.w {
			w.do(command{Do: "inc", Name: "c_total", Values: values("a"), V: float64(i + 1)})
		}
		s.pages(`c_total{l="a"} 6`)
	},

	"delete one": func(s *story) {
		s.all(command{Do: "counter", Name: "c_total", Names: values("l", "m")})
		for i, w := range s.w {
			w.do(command{Do: "inc", Name: "c_total", Values: values("a", "x"), V: 1})
			w.do(command{Do: "inc", Name: "c_total", Values: values(fmt.Sprint(i), "y"), V: 1})
		}
		s.pages(`c_total{l="0",m="y"} 1`, `c_total{l="1",m="y"} 1`, `c_total{l="2",m="y"} 1`, `c_total{l="a",m="x"} 3`)
		if n := s.w[1].do(command{Do: "delete", Name: "c_total", Match: map[string]string{"l": "a", "m": "x"}}); n != "1" {
			s.Errorf("deleted %s", n)
		}
		s.pages(`c_total{l="0",m="y"} 1`, `c_total{l="1",m="y"} 1`, `c_total{l="2",m="y"} 1`)
		if n := s.w[0].do(command{Do: "delete", Name: "c_total", Match: map[string]string{"l": "a"}}); n != "0" {
			s.Errorf("deleted again %s", n)
		}
		// Delete by a partial match, another worker's series, and all.
		if n := s.w[2].do(command{Do: "delete", Name: "c_total", Match: map[string]string{"l": "0"}}); n != "1" {
			s.Errorf("deleted by a partial match: %s", n)
		}
		s.pages(`c_total{l="1",m="y"} 1`, `c_total{l="2",m="y"} 1`)
		if n := s.w[0].do(command{Do: "delete", Name: "c_total"}); n != "2" {
			s.Errorf("deleted all: %s", n)
		}
		s.pages()
		s.w[2].do(command{Do: "inc", Name: "c_total", Values: values("a", "x"), V: 5})
		s.pages(`c_total{l="a",m="x"} 5`)
	},

	"a kept instrument brings its series back": func(s *story) {
		s.all(command{Do: "counter", Name: "c_total"})
		s.all(command{Do: "gauge", Name: "g"})
		s.all(command{Do: "histogram", Name: "h"})
		for _, w := range s.w {
			w.do(command{Do: "keep", Name: "c_total", Values: values("a"), Key: "c"})
			w.do(command{Do: "keep", Name: "g", Values: values("a"), Key: "g"})
			w.do(command{Do: "use", Key: "c", V: 1.5})
			w.do(command{Do: "use", Key: "g", V: 1})
			w.do(command{Do: "observe", Name: "h", Values: values("a"), V: 2})
		}
		hist := func(n int) []string {
			return []string{`h_bucket{l="a",le="1"} 0`, fmt.Sprintf(`h_bucket{l="a",le="+Inf"} %d`, n), fmt.Sprintf(`h_sum{l="a"} %d`, 2*n), fmt.Sprintf(`h_count{l="a"} %d`, n)}
		}
		s.pages(append([]string{`c_total{l="a"} 4.5`, `g{l="a"} 3`}, hist(3)...)...)
		for _, name := range []string{"c_total", "g", "h"} {
			if n := s.w[0].do(command{Do: "delete", Name: name}); n != "1" {
				s.Errorf("deleted %s of %s", n, name)
			}
		}
		s.pages()
		s.w[2].do(command{Do: "use", Key: "c", V: .5})
		s.w[1].do(command{Do: "use", Key: "c", V: 2})
		s.w[0].do(command{Do: "inc", Name: "c_total", Values: values("a"), V: 1})
		s.w[1].do(command{Do: "use", Key: "g", V: -1})
		for range 2 {
			s.w[2].do(command{Do: "observe", Name: "h", Values: values("a"), V: 2})
		}
		s.pages(append([]string{`c_total{l="a"} 3.5`, `g{l="a"} -1`}, hist(2)...)...)
	},

	"one series however it is reached": func(s *story) {
		ways := values("values", "order", "names", "default", "override", "partial", "struct", "partial struct")
		for _, way := range ways {
			s.all(command{Do: "reach", Key: way})
		}
		n := len(ways)
		if s.shared() {
			n *= len(s.w)
		}
		s.pages(fmt.Sprintf(`reached_total{cached="true",code="200",method="GET"} %d`, n))
		if n := s.w[0].do(command{Do: "reach", Key: "delete"}); n != "1" {
			s.Errorf("deleted %s", n)
		}
		s.pages(`reached_total{cached="true",code="200",method="GET"} 0`)
		s.w[1].do(command{Do: "reach", Key: "struct"})
		s.pages(`reached_total{cached="true",code="200",method="GET"} 1`)
	},

	"declared sets": func(s *story) {
		s.all(command{Do: "declare", Name: "c_total", Names: values("l"), Values: values("a"), TTL: time.Hour})
		s.pages(`c_total{l="a"} 0`)
		s.w[0].do(command{Do: "inc", Name: "c_total", Values: values("b"), V: 1})
		for _, at := range []float64{360000, 367200} {
			for _, w := range s.w {
				w.do(command{Do: "sweep", V: at})
			}
		}
		s.pages(`c_total{l="a"} 0`)
	},

	"limit of series": func(s *story) {
		if !s.shared() {
			s.w[0].do(command{Do: "limited", Name: "c_total", Key: "a", V: 5})
			s.pages(`c_total{l="a0"} 1`, `c_total{l="a1"} 1`, `c_total{l="a2"} 1`, `c_total{l="gotheus_overflow"} 2`)
			return
		}
		// Limits and series are shared. Pages make a store's series known to the others.
		overflow := 0
		for i, key := range values("a", "b", "a") {
			s.w[i].do(command{Do: "limited", Name: "c_total", Key: key, V: 5})
			n := 1 + i/2
			overflow += []int{2, 5, 2}[i]
			s.pages(fmt.Sprintf(`c_total{l="a0"} %d`, n), fmt.Sprintf(`c_total{l="a1"} %d`, n), fmt.Sprintf(`c_total{l="a2"} %d`, n), fmt.Sprintf(`c_total{l="gotheus_overflow"} %d`, overflow))
		}
	},

	"measured calls": func(s *story) {
		n := 1
		if s.shared() {
			n = len(s.w)
		}
		s.all(command{Do: "measure"})
		s.pages(fmt.Sprint("errors_total ", n), "in_flight 0", fmt.Sprint("panics_total ", n),
			fmt.Sprintf(`seconds_bucket{le="+Inf"} %d`, 3*n), "seconds_sum 0", fmt.Sprint("seconds_count ", 3*n),
			fmt.Sprint("sizes_sum ", 6*n), fmt.Sprint("sizes_count ", 3*n))
	},

	"exponential buckets and quantiles": func(s *story) {
		s.all(command{Do: "native", Name: "h"})
		s.all(command{Do: "summary", Name: "s"})
		describe := func(name, want string) {
			s.Helper()
			for i, w := range s.w {
				if got := w.do(command{Do: "describe", Name: name, Key: `l="a"`}); got != want {
					s.Errorf("worker %d: %s, want %s", i, got, want)
				}
			}
		}
		observe := func() {
			for i, w := range s.w {
				for _, v := range []float64{0, 1, -4, float64(int(10) << (4 * i))} {
					w.do(command{Do: "observe", Name: "h", Values: values("a"), V: v})
					w.do(command{Do: "observe", Name: "s", Values: values("a"), V: v})
				}
			}
		}
		observe()
		describe("h", "count 12 schema 0 zeros 3 positive [{0 3} {4 1} {8 1} {12 1}] negative [{2 3}]")
		describe("s", "count 12 0.0 2571.7")
		// More buckets than are among the words of the series, and then more than the
		// maximum.
		for i := range 90 {
			s.w[i%3].do(command{Do: "observe", Name: "h", Values: values("b"), V: float64(uint64(1)<<(i%45)) * 1.5})
		}
		for _, w := range s.w {
			if got := w.do(command{Do: "describe", Name: "h", Key: `l="b"`}); !strings.HasPrefix(got, "count 90 schema 0 zeros 0 positive [{1 2} {2 2} ") {
				s.Error(got)
			}
		}
		for i := range 60 {
			s.w[i%3].do(command{Do: "observe", Name: "h", Values: values("b"), V: 1 / float64(uint64(1)<<i) * 1.5})
		}
		for _, w := range s.w {
			if got := w.do(command{Do: "describe", Name: "h", Key: `l="b"`}); !strings.HasPrefix(got, "count 150 schema -1 zeros 0 positive [{-29 1} {-28 2} ") {
				s.Error(got)
			}
		}
		for _, name := range []string{"h", "s"} {
			s.w[1].do(command{Do: "delete", Name: name})
			describe(name, "none")
		}
		observe()
		describe("h", "count 12 schema 0 zeros 3 positive [{0 3} {4 1} {8 1} {12 1}] negative [{2 3}]")
		describe("s", "count 12 0.0 2571.7")
	},

	"exemplars": func(s *story) {
		s.all(command{Do: "counter", Name: "c_total"})
		s.all(command{Do: "histogram", Name: "h"})
		for i, w := range s.w {
			w.do(command{Do: "example", Name: "c_total", Values: values("a"), V: 1, Match: map[string]string{"worker": fmt.Sprint(i)}})
			w.do(command{Do: "example", Name: "h", Values: values("a"), V: float64(i), Match: map[string]string{"worker": fmt.Sprint(i)}})
		}
		for _, w := range s.w {
			if got, want := w.do(command{Do: "describe", Name: "c_total", Key: `l="a"`}), `count 0 {worker="2"} 1`; got != want {
				s.Errorf("got %s", got)
			}
			if got, want := w.do(command{Do: "describe", Name: "h", Key: `l="a"`}), `count 3 {worker="1"} 1 {worker="2"} 2`; got != want {
				s.Errorf("got %s", got)
			}
		}
		s.pages(`c_total{l="a"} 3`, `h_bucket{l="a",le="1"} 2`, `h_bucket{l="a",le="+Inf"} 3`, `h_sum{l="a"} 3`, `h_count{l="a"} 3`)
	},

	"starts": func(s *story) {
		begin := func() { s.all(command{Do: "counter", Name: "c_total"}) }
		start := func() string {
			s.Helper()
			var all []string
			for _, w := range s.w {
				all = append(all, w.do(command{Do: "start", Name: "c_total", Key: `l="a"`}))
			}
			if all[0] != all[1] || all[1] != all[2] || all[0] == "0" {
				s.Errorf("started at %s", all)
			}
			return all[0]
		}
		begin()
		s.w[0].do(command{Do: "inc", Name: "c_total", Values: values("a"), V: 1})
		first := start()
		s.w[1].do(command{Do: "inc", Name: "c_total", Values: values("a"), V: 1})
		if again := start(); again != first {
			s.Errorf("%s became %s", first, again)
		}
		if s.shared() { // keeps the start through restarts of all programs
			for i, w := range s.w {
				if i%2 == 0 {
					w.kill()
				} else {
					w.stop()
				}
			}
			for i := range s.w {
				s.w[i] = startWorker(s.T, s.url)
			}
			begin()
			s.w[2].do(command{Do: "inc", Name: "c_total", Values: values("a"), V: 1})
			if again := start(); again != first {
				s.Errorf("%s became %s by a restart", first, again)
			}
		}
		s.w[1].do(command{Do: "delete", Name: "c_total"})
		s.pages()
		for before := time.Now().UnixMilli(); time.Now().UnixMilli() == before; {
			runtime.Gosched() // starts are in milliseconds
		}
		s.w[0].do(command{Do: "inc", Name: "c_total", Values: values("a"), V: 1})
		if again := start(); again == first {
			s.Error("another life has the same start")
		}
	},

	"unregister hides here only": func(s *story) {
		s.all(command{Do: "counter", Name: "c_total"})
		s.w[0].do(command{Do: "inc", Name: "c_total", Values: values("a"), V: 1})
		s.w[0].do(command{Do: "unregister", Name: "c_total"})
		s.w[0].do(command{Do: "inc", Name: "c_total", Values: values("a"), V: 1})
		if got := s.w[0].do(command{Do: "page"}); got != "" {
			s.Errorf("still shown: %s", got)
		}
		if s.shared() {
			if got := s.w[1].do(command{Do: "page"}); got != `c_total{l="a"} 2` {
				s.Errorf("another worker shows %s", got)
			}
		}
	},

	"shared gauge": func(s *story) {
		s.all(command{Do: "gauge", Name: "g"})
		s.w[0].do(command{Do: "set", Name: "g", Values: values("a"), V: 5})
		s.w[1].do(command{Do: "add", Name: "g", Values: values("a"), V: 2})
		s.pages(`g{l="a"} 7`)
		s.w[2].do(command{Do: "set", Name: "g", Values: values("a"), V: -1})
		s.pages(`g{l="a"} -1`)
	},

	"gauge modes": func(s *story) {
		modes := []struct {
			name    string
			mode    backend.Mode
			shared  string // 5 in worker 0, 2 in worker 1, no update in worker 2
			killed  string // after worker 1 has died
			nothing string // before any update
		}{
			{"latest", gotheus.ModeLatest, "2", "5", "0"},
			{"max", gotheus.ModeMax, "5", "5", "0"},
			{"mean", gotheus.ModeMean, "3.5", "5", "0"},
			{"min", gotheus.ModeMin, "2", "5", "0"},
			{"sum", gotheus.ModeSum, "7", "5", "0"},
		}
		var shared, killed, nothing, alone []string
		for _, m := range modes {
			s.all(command{Do: "gauge", Name: m.name, Mode: m.mode})
			s.all(command{Do: "touch", Name: m.name, Values: values("a")})
			shared = append(shared, m.name+`{l="a"} `+m.shared)
			killed = append(killed, m.name+`{l="a"} `+m.killed)
			nothing = append(nothing, m.name+`{l="a"} `+m.nothing)
			alone = append(alone, m.name+`{l="a"} 7`)
		}
		s.pages(nothing...)
		if !s.shared() { // in the heap all modes mean the same
			for _, m := range modes {
				s.w[0].do(command{Do: "set", Name: m.name, Values: values("a"), V: 5})
				s.w[0].do(command{Do: "add", Name: m.name, Values: values("a"), V: 2})
			}
			s.pages(alone...)
			return
		}
		for _, m := range modes {
			s.w[0].do(command{Do: "set", Name: m.name, Values: values("a"), V: 5})
			s.w[1].do(command{Do: "set", Name: m.name, Values: values("a"), V: 1})
			s.w[1].do(command{Do: "add", Name: m.name, Values: values("a"), V: 1})
		}
		s.pages(shared...)
		s.w[1].kill()
		s.w = []*worker{s.w[0], s.w[2]}
		s.pages(killed...)
		// Its successor starts from zero, with the same number.
		s.w = append(s.w, startWorker(s.T, s.url))
		for _, m := range modes {
			s.w[2].do(command{Do: "gauge", Name: m.name, Mode: m.mode})
			s.w[2].do(command{Do: "touch", Name: m.name, Values: values("a")})
		}
		s.pages(killed...)
		for _, m := range modes {
			s.w[2].do(command{Do: "set", Name: m.name, Values: values("a"), V: 2})
		}
		s.pages(shared...)
		// Deleted for all processes, and back with later updates.
		for _, m := range modes {
			if n := s.w[1].do(command{Do: "delete", Name: m.name}); n != "1" {
				s.Errorf("%s: deleted %s", m.name, n)
			}
		}
		s.pages()
		for i, m := range modes {
			s.w[0].do(command{Do: "add", Name: m.name, Values: values("a"), V: 3})
			killed[i] = m.name + `{l="a"} 3`
		}
		s.pages(killed...)
	},

	"gauge per process": func(s *story) {
		s.all(command{Do: "gauge", Name: "g", Mode: gotheus.ModePerProcess})
		if !s.shared() {
			s.w[0].do(command{Do: "set", Name: "g", Values: values("a"), V: 5})
			s.pages(`g{l="a"} 5`)
			return
		}
		for i, w := range s.w {
			w.do(command{Do: "set", Name: "g", Values: values("a"), V: float64(i)})
		}
		page := s.w[0].do(command{Do: "page"})
		var a, b, c, av, bv, cv int
		if _, err := fmt.Sscanf(page, `g{l="a",process="%d"} %d; g{l="a",process="%d"} %d; g{l="a",process="%d"} %d`, &a, &av, &b, &bv, &c, &cv); err != nil || a == b || b == c || a == c || av+bv+cv != 3 {
			s.Errorf("page %s: %v", page, err)
		}
		s.pages(page)
		s.w[1].kill()
		s.w = []*worker{s.w[0], s.w[2]}
		for _, w := range s.w {
			page := w.do(command{Do: "page"})
			if n, err := fmt.Sscanf(page, `g{l="a",process="%d"} %d; g{l="a",process="%d"} %d`, &a, &av, &b, &bv); n != 4 || av+bv != 2 {
				s.Errorf("after a death: %s: %v", page, err)
			}
		}
	},

	// In progress: the share of a killed worker disappears, and its counts stay.
	"a death": func(s *story) {
		if !s.shared() {
			return
		}
		s.all(command{Do: "gauge", Name: "in_flight", Mode: gotheus.ModeSum})
		s.all(command{Do: "counter", Name: "jobs_total"})
		for _, w := range s.w {
			w.do(command{Do: "add", Name: "in_flight", Values: values("a"), V: 1})
			w.do(command{Do: "inc", Name: "jobs_total", Values: values("a"), V: 1})
		}
		s.pages(`in_flight{l="a"} 3`, `jobs_total{l="a"} 3`)
		s.w[0].kill()
		s.w = s.w[1:]
		s.pages(`in_flight{l="a"} 2`, `jobs_total{l="a"} 3`)
		s.w[0].stop() // a regular end
		s.w = s.w[1:]
		s.pages(`in_flight{l="a"} 1`, `jobs_total{l="a"} 3`)
	},

	"time to live": func(s *story) {
		const hour = 3600
		s.all(command{Do: "counter", Name: "c_total", TTL: hour * 1e9})
		s.all(command{Do: "gauge", Name: "g", TTL: hour * 1e9})
		s.all(command{Do: "counter", Name: "stays_total"})
		sweep := func(w *worker, at float64) { w.do(command{Do: "sweep", V: at * hour}) }
		for _, w := range s.w {
			w.do(command{Do: "inc", Name: "c_total", Values: values("busy"), V: 1})
			w.do(command{Do: "inc", Name: "c_total", Values: values("idle"), V: 1})
			w.do(command{Do: "set", Name: "g", Values: values("busy"), V: 1})
			w.do(command{Do: "set", Name: "g", Values: values("idle"), V: 1})
			w.do(command{Do: "inc", Name: "stays_total", Values: values("a"), V: 1})
		}
		for _, w := range s.w {
			sweep(w, 100)
		}
		// One worker's updates keep a series from expiring, even if a gauge's value stays
		// the same.
		s.w[1].do(command{Do: "inc", Name: "c_total", Values: values("busy"), V: 1})
		s.w[1].do(command{Do: "set", Name: "g", Values: values("busy"), V: 1})
		for _, w := range s.w {
			sweep(w, 100.5)
			sweep(w, 100.9)
		}
		s.pages(`c_total{l="busy"} 4`, `c_total{l="idle"} 3`, `g{l="busy"} 1`, `g{l="idle"} 1`, `stays_total{l="a"} 3`)
		sweep(s.w[2], 101)
		s.pages(`c_total{l="busy"} 4`, `g{l="busy"} 1`, `stays_total{l="a"} 3`)
		// It comes back from zero, and a new process has to watch for a whole TTL.
		s.w[0].do(command{Do: "inc", Name: "c_total", Values: values("idle"), V: 7})
		s.w[0].do(command{Do: "add", Name: "g", Values: values("idle"), V: 7})
		sweep(s.w[0], 101.2)
		s.pages(`c_total{l="busy"} 4`, `c_total{l="idle"} 7`, `g{l="busy"} 1`, `g{l="idle"} 7`, `stays_total{l="a"} 3`)
		sweep(s.w[0], 101.6)
		s.pages(`c_total{l="idle"} 7`, `g{l="idle"} 7`, `stays_total{l="a"} 3`)
		sweep(s.w[0], 102.3)
		s.pages(`stays_total{l="a"} 3`)
	},

	"schemas of a rolling deploy": func(s *story) {
		if !s.shared() {
			return
		}
		s.w[0].do(command{Do: "counter", Name: "c_total", Help: "Old."})
		s.w[1].do(command{Do: "counter", Name: "c_total", Help: "New.", Names: values("l", "m")})
		s.w[2].do(command{Do: "gauge", Name: "c_total"})
		for i := range 2 {
			s.w[i].do(command{Do: "inc", Name: "c_total", Values: values("a", "b")[:i+1], V: 1})
		}
		s.w[2].do(command{Do: "set", Name: "c_total", Values: values("a"), V: 9})
		s.pages(`c_total{l="a"} 9`) // the newest definition has another type
		s.w[2].do(command{Do: "unregister", Name: "c_total"})
		if got, want := s.w[2].do(command{Do: "page"}), `c_total{l="a",m="b"} 1; c_total{l="a"} 1`; got != want && got != `c_total{l="a"} 1; c_total{l="a",m="b"} 1` {
			s.Errorf("got %s", got)
		}
	},
}
