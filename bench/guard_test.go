//go:build !race

package main

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// TestRatios fails if a path has become several times slower. Bounds are at least three times the
// ratio on an idle machine. It compares the minima of interleaved rounds that are short enough for
// some to run undisturbed, so other programs slow down both sides. It is skipped under the race
// detector, which distorts all costs.
func TestRatios(t *testing.T) {
	for _, guard := range []struct {
		table       *table
		row, beside string  // prefixes
		most        float64 // times
		measured    float64
	}{
		{counterTable(1), ours + " heap", "bare atomic add", 3, 1.07},
		{counterTable(1), ours + " shm", "bare atomic add, mapped page", 3, 1.07},
		{stripedCounterTable(1), ours + " heap, 8 stripes", ours + " heap", 12, 3.4},
		{lookupTable(1), ours + " heap, With", peer, 1, .33},
		{observeTable(1), ours + " heap", peer, 1.2, .39},
		{observeTable(1), ours + " heap, 8 stripes", peer, 2, .6},
		{nativeTable(), ours + " heap", peer, 1.2, .3},
		{quantilesTable(), ours + " heap", peer, .1, .02},
		{pageTable(2000, "counters", counterPage), ours + " heap", peer, .1, .025},
		{pageTable(2000, "counters", counterPage), ours + " heap", "VictoriaMetrics", .6, .18},
		{pageTable(500, "histograms", histogramPage), ours + " heap", peer, .15, .04},
		{gzipTable(2000, "counters", counterPage), ours + " heap, gzip", peer, .3, .08},
	} {
		t.Run(fmt.Sprint(guard.table.title, ", ", guard.row, " by ", guard.beside), func(t *testing.T) {
			e := &env{dir: t.TempDir()}
			t.Cleanup(e.close)
			all, err := guard.table.contenders(e)
			if err != nil {
				t.Fatal(err)
			}
			var two []contender
			for _, prefix := range []string{guard.row, guard.beside} {
				for _, c := range all {
					if strings.HasPrefix(c.name, prefix) {
						two = append(two, c)
						break
					}
				}
			}
			if len(two) != 2 {
				t.Fatalf("%d rows", len(two))
			}
			results := measure(two, guard.table, 40, 4*time.Millisecond)
			if got := results[0].min / results[1].min; got > guard.most {
				t.Errorf("%.3f times, at most %v, usually %v: %v beside %v", got, guard.most, guard.measured, duration(results[0].min), duration(results[1].min))
			}
		})
	}
}
