//go:build linux

package tests_test

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gotheus/gotheus"
)

// Like TestKill, for instruments that change several words per observation. Workers are killed
// while they observe, and every page is still valid: the buckets add up to the count and do not
// exceed their maximum, quantiles are of observed values, no exemplar is torn, and no acknowledged
// observation is missing.

const killBuckets = 40

func init() { workers["kill distributions"] = killDistributionsWorker }

func killDistributions(r *gotheus.Registry) (*gotheus.Histogram, *gotheus.Summary) {
	return r.NewHistogram("h", "H.", &gotheus.HistogramOptions{
			Native: &gotheus.NativeOptions{Factor: 1.05, MaxBuckets: killBuckets}, Buckets: []float64{.5, 1},
		}),
		r.NewSummary("s", "S.", &gotheus.SummaryOptions{Objectives: []float64{.5, .99}, MaxAge: 50 * time.Millisecond})
}

func killDistributionsWorker() {
	_, acks := killJob()
	r := gotheus.NewRegistry(&gotheus.RegistryOptions{NoSelfMetrics: true})
	h, s := killDistributions(r)
	if err := r.Bind(context.Background(), os.Getenv("FILE")); err != nil {
		panic(err)
	}
	for g := range killGoroutines {
		go func() {
			rnd := rand.New(rand.NewPCG(rand.Uint64(), 1))
			for {
				n := rnd.IntN(60)
				v := math.Exp2(rnd.NormFloat64() * 10)
				if g == 0 {
					h.ObserveExemplar(v, gotheus.Labels{"text": strings.Repeat(string(rune('a'+n%26)), n), "v": fmt.Sprint(v)})
				} else {
					h.Observe(v)
				}
				s.Observe(v)
				acks[g].updates.Add(1)
			}
		}()
	}
	select {}
}

func TestKillWhileObserving(t *testing.T) {
	t.Parallel()
	c := newCampaign(t, "kill distributions")
	r, _ := newRegistry(t, &gotheus.RegistryOptions{NoSelfMetrics: true})
	killDistributions(r)
	bind(t, r, c.url)
	exemplars, quantiles := 0, 0
	check := func(least uint64) (count uint64) {
		d := distributions(r, "h")[""]
		n := d.Native
		total := n.ZeroCount
		for _, b := range slices.Concat(n.Positive, n.Negative) {
			total += b.Count
		}
		if total != d.Count || len(n.Positive)+len(n.Negative) > killBuckets || !slices.IsSorted(d.Buckets) || d.Buckets[len(d.Buckets)-1] > d.Count || d.Count < least {
			t.Errorf("count %d, acknowledged %d, %d exponential buckets with %d, buckets %v", d.Count, least, len(n.Positive), total, d.Buckets)
		}
		for i, e := range d.Exemplars {
			if e.Time == 0 {
				continue
			}
			exemplars++
			text, v, _ := strings.Cut(strings.TrimPrefix(e.Labels, `text="`), `",v="`)
			if text != "" && text != strings.Repeat(text[:1], len(text)) || v != fmt.Sprint(e.Value)+`"` || i < 2 && e.Value > []float64{.5, 1}[i] {
				t.Errorf("bucket %d has exemplar %+v", i, e)
			}
		}
		q := distributions(r, "s")[""]
		if q.Count < least || !(q.Quantiles[0] <= q.Quantiles[1]) && !math.IsNaN(q.Quantiles[0]) || q.Quantiles[1] <= 0 {
			t.Errorf("count %d, acknowledged %d, quantiles %v", q.Count, least, q.Quantiles)
		}
		if !math.IsNaN(q.Quantiles[0]) {
			quantiles++
		}
		return d.Count
	}
	deaths := uint64(c.run(*kills/2, func(int) { check(c.acks.total()) }))
	if got, acked := check(c.acks.total()), c.acks.total(); got > acked+deaths*killGoroutines {
		t.Errorf("count %d, acknowledged %d, possible %d more", got, acked, deaths*killGoroutines)
	}
	if exemplars == 0 || quantiles == 0 {
		t.Errorf("%d exemplars and %d quantiles seen: nothing was tested", exemplars, quantiles)
	}
	t.Logf("%d kills, %d observations, %d exemplars seen", deaths, c.acks.total(), exemplars)
}
