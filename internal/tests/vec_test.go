package tests_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"

	"github.com/gotheus/gotheus"
)

func TestLookUp(t *testing.T) {
	t.Parallel()
	r, _ := newRegistry(t, nil)
	v := r.NewCounterVec("v_total", "V.", nil, "method", "code", "a")
	m := v.With("GET", "200", "x")
	try, err := v.TryWith("GET", "200", "x")
	labels := gotheus.Labels{"a": "x", "code": "200", "method": "GET"}
	tryLabels, err2 := v.TryWithLabels(labels)
	if err != nil || err2 != nil || m != try || m != tryLabels || m != v.WithLabels(labels) {
		t.Error("the ways of looking up lead to different series")
	}
	for _, other := range [][]string{{"GET", "200", ""}, {"GET2", "00", "x"}, {"200", "GET", "x"}, {"", "GET200", "x"}, {"GET\x00", "200", "x"}} {
		if v.With(other...) == m {
			t.Errorf("%q is the same series", other)
		}
	}
	for want, err := range map[string]error{
		`["method" "code" "a"], but the values given are ["GET" "200"]`: second(v.TryWith("GET", "200")),
		`the values given are []`:                    second(v.TryWith()),
		`the values given are ["GET" "200" "x" "y"]`: second(v.TryWith("GET", "200", "x", "y")),
		`"a" is missing, "b" is not one of them`:     second(v.TryWithLabels(gotheus.Labels{"b": "x", "code": "200", "method": "GET"})),
		`"a" is missing`:                             second(v.TryWithLabels(gotheus.Labels{"code": "200", "method": "GET"})),
		`"b" is not one of them`:                     second(v.TryWithLabels(gotheus.Labels{"a": "", "b": "x", "code": "200", "method": "GET"})),
	} {
		if !errors.Is(err, gotheus.ErrLabels) || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "v_total") {
			t.Errorf("got %v, want %q", err, want)
		}
	}
	for name, f := range map[string]func(){
		"With":       func() { v.With("GET") },
		"WithLabels": func() { v.WithLabels(nil) },
	} {
		func() {
			defer func() {
				if err, ok := recover().(error); !ok || !errors.Is(err, gotheus.ErrLabels) {
					t.Errorf("%s: panic %v", name, err)
				}
			}()
			f()
		}()
	}
}

// The caller may reuse the memory of its strings.
func TestStringsAreCloned(t *testing.T) {
	t.Parallel()
	r, _ := newRegistry(t, nil)
	labels := []string{"x", "y"}
	v := r.NewCounterVec("v_total", "V.", nil, labels...)
	labels[0] = "z"
	values := []string{"1", "2"}
	v.With(values...).Inc()
	values[0] = "3"
	v.WithLabels(gotheus.Labels{"x": "1", "y": "2"}).Inc()
	pageHas(t, r, `v_total{x="1",y="2"} 2`)
}

// Many goroutines look up and create series at random; a map under a lock is the model.
func TestLookUpConcurrently(t *testing.T) {
	t.Parallel()
	for _, where := range []string{"heap", "shm"} {
		r, _ := newRegistry(t, nil)
		if where == "shm" {
			bind(t, r, shmURL(t))
		}
		v := r.NewCounterVec("v_total", "V.", nil, "a", "b")
		w := r.NewCounterVec("v_total", "V.", nil, "b", "a")
		var mu sync.Mutex
		model := map[string]int{}
		var wait sync.WaitGroup
		for g := range 8 {
			wait.Add(1)
			go func() {
				defer wait.Done()
				rnd := rand.New(rand.NewPCG(1, uint64(g)))
				mine := map[string]int{}
				for range 3000 {
					a, b := fmt.Sprint(rnd.IntN(30)), fmt.Sprint(rnd.IntN(20))
					switch rnd.IntN(3) {
					case 0:
						v.With(a, b).Inc()
					case 1:
						w.With(b, a).Inc()
					case 2:
						v.WithLabels(gotheus.Labels{"a": a, "b": b}).Inc()
					}
					mine[fmt.Sprintf(`v_total{a="%s",b="%s"}`, a, b)]++
				}
				mu.Lock()
				defer mu.Unlock()
				for k, n := range mine {
					model[k] += n
				}
			}()
		}
		wait.Wait()
		lines := strings.Split(strings.TrimSpace(page(t, r)), "\n")[2:]
		if len(lines) != len(model) {
			t.Errorf("%s: %d series, want %d", where, len(lines), len(model))
		}
		for _, line := range lines {
			name, value, _ := strings.Cut(line, " ")
			if value != fmt.Sprint(model[name]) {
				t.Errorf("%s: %s, want %d", where, line, model[name])
			}
		}
	}
}
