package main

import (
	"bytes"
	"maps"
	"strings"
	"testing"
)

func TestCompare(t *testing.T) {
	t.Parallel()
	home, slow, sold := httpSample("/{$}", 200), httpSample("/slow", 200), `shop_orders_total{item="tea",result="sold"}`
	good := page{
		home: 110, slow: 8, sold: 118,
		"shop_delivery_seconds_count": 8,
		"shop_delivery_seconds_sum":   1.5,
		"gotheus_backend_up":          1,
		httpSample("/metrics", 200):   5,
	}
	before := page{home: 10, sold: 10}
	for _, tt := range []struct {
		name    string
		tamper  func(t *tally, second page)
		workers bool
		clients bool
		problem string
	}{
		{"nothing", func(*tally, page) {}, true, true, ""},
		{"page requests", func(_ *tally, p page) { p[httpSample("/metrics", 200)]++ }, true, true, ""},
		{"own families", func(_ *tally, p page) { delete(p, "gotheus_backend_up") }, true, true, ""},
		{"worker has less", func(_ *tally, p page) { p[home]-- }, false, false, "/{$}"},
		{"worker has more", func(_ *tally, p page) { p[sold] += 2 }, false, false, "shop_orders_total"},
		{"worker has none", func(_ *tally, p page) { delete(p, home) }, false, false, "missing for pid 2"},
		{"worker has another", func(_ *tally, p page) { p[httpSample("/{$}", 500)] = 1 }, false, false, "missing for pid 1"},
		{"worker within the cut ones", func(_ *tally, p page) { p[slow]-- }, false, true, "/slow"},
		{"sum", func(_ *tally, p page) { p["shop_delivery_seconds_sum"] = 2 }, false, true, "seconds_sum"},
		{"count missing", func(t *tally, _ page) { t.add([]string{home}, count{done: 1}) }, true, false, "/{$}"},
		{"count extra", func(t *tally, _ page) { t.samples[home] = count{done: 99} }, true, false, "/{$}"},
		{"unknown", func(t *tally, _ page) { delete(t.samples, sold) }, true, false, "shop_orders_total"},
		{"all unknown", func(t *tally, _ page) { clear(t.samples) }, true, false, "no request"},
		{"too few even with cut ones", func(t *tally, _ page) { t.add([]string{slow}, count{done: 3}) }, true, false, "/slow"},
		{"too many even with cut ones", func(t *tally, _ page) { t.samples[slow] = count{5, 2} }, true, false, "/slow"},
		{"more cut than can be", func(t *tally, _ page) { t.add([]string{slow}, count{cut: 1}) }, true, false, "4 requests were cut"},
	} {
		tally := newTally()
		tally.add([]string{home, sold}, count{done: 100})
		tally.add([]string{slow, sold, "shop_delivery_seconds_count"}, count{done: 6, cut: 3})
		second := maps.Clone(good)
		tt.tamper(tally, second)
		// 100+6 orders and 3 that were cut: 2 of these were counted.
		v := compare(tally, before, []reading{{1, good}, {2, second}}, 3)
		problems := strings.Join(v.Problems, "\n")
		if v.WorkersAgree != tt.workers || v.ClientsAgree != tt.clients || (tt.problem == "") != (problems == "") || !strings.Contains(problems, tt.problem) {
			t.Errorf("%s: workers agree %v, clients agree %v, want %v, %v and a problem with %q; problems:\n%s",
				tt.name, v.WorkersAgree, v.ClientsAgree, tt.workers, tt.clients, tt.problem, problems)
		}
		for _, r := range v.Rows {
			if strings.Contains(r.Sample, "/metrics") {
				t.Errorf("%s: row %s", tt.name, r.Sample)
			}
		}
	}
	if v := compare(newTally(), before, nil, 0); v.WorkersAgree || v.ClientsAgree || len(v.Problems) == 0 {
		t.Errorf("without workers: %+v", v)
	}
}

func TestReport(t *testing.T) {
	t.Parallel()
	r := &result{Killed: 7, Replaced: 8, Cut: 2, Requests: 12, verdict: verdict{
		Rows: []row{
			{Sample: httpSample("/slow", 200), Clients: 10, Cut: 2, OK: true},
			{Sample: "shop_delivery_seconds_count", Clients: 10, Cut: 2},
		},
		WorkersAgree: true,
		Problems:     []string{"something"},
	}}
	for _, workers := range []int{1, maxColumns, maxColumns + 1} {
		r.Workers = make([]workerResult, workers)
		for i := range r.Rows {
			r.Rows[i].Metrics = make([]float64, workers)
			r.Rows[i].Metrics[workers-1] = 11
		}
		var b bytes.Buffer
		r.write(&b)
		for _, want := range []string{
			"GET /slow, status 200", "WRONG: shop_delivery_seconds_count", "problem: something", "12 requests",
			"pid 7 was killed and pid 8 took its place; 2 requests were cut", "workers agree: yes", "with the clients: no", "exit status 1", "  11\n",
		} {
			if !strings.Contains(b.String(), want) {
				t.Errorf("%d workers: no %q in\n%s", workers, want, &b)
			}
		}
	}
}
