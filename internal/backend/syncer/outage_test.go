package syncer_test

import (
	"bytes"
	"fmt"
	"log/slog"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gotheus/gotheus/internal/backend"
	"github.com/gotheus/gotheus/internal/backend/backendtest"
	"github.com/gotheus/gotheus/store"
)

// Six hours without a store: at most one log line a minute, retries that back off and are not
// synchronised, and no memory growth, however much is counted. Then everything arrives.
func TestOutage(t *testing.T) { // not parallel: measures the heap
	synctest.Test(t, func(t *testing.T) {
		var (
			mem      = new(backendtest.Memory)
			mu       sync.Mutex
			attempts []time.Time
			down     = false
			log      lineCount
		)
		net := &backendtest.Faulty{Store: mem, Next: func() backendtest.Fault {
			mu.Lock()
			defer mu.Unlock()
			if !down {
				return backendtest.None
			}
			attempts = append(attempts, time.Now())
			return backendtest.LoseRequest
		}}
		s := newSyncer(t, net, &store.Options{Logger: slog.New(slog.NewTextHandler(&log, nil))})
		var words []backend.Words
		for i := range 100 {
			w, err := s.Cells(counter, fmt.Sprintf(`x="%d"`, i))
			if err != nil {
				t.Fatal(err)
			}
			words = append(words, w)
		}
		total := uint64(0)
		count := func(d time.Duration) {
			for range d / time.Second {
				for _, w := range words {
					w[backend.CounterInt].Add(1000)
				}
				total += 1000
				time.Sleep(time.Second)
			}
		}
		count(time.Minute)
		mu.Lock()
		attempts, down = make([]time.Time, 0, 20_000), true
		mu.Unlock()
		count(time.Hour)
		if n := log.Swap(0); n == 0 || n > 61 {
			t.Errorf("%d log lines in an hour", n)
		}
		before := heapSize()
		count(5 * time.Hour)
		if grown := heapSize() - before; grown > 64<<10 {
			t.Errorf("five hours without a store take %d bytes", grown)
		}
		if n := log.Swap(0); n == 0 || n > 301 {
			t.Errorf("%d log lines in five hours", n)
		}
		mu.Lock()
		tried := attempts
		down = false
		mu.Unlock()
		const most = 2500 * time.Millisecond // a quarter of Alive
		gaps := make(map[time.Duration]bool)
		for i := range tried[1:] {
			gap := tried[i+1].Sub(tried[i])
			gaps[gap] = true
			if gap < 500*time.Millisecond*7/8 || gap > most*9/8 {
				t.Fatalf("attempt %d after %v", i+1, gap)
			}
			if i > 5 && gap < most*7/8 {
				t.Fatalf("attempt %d after %v: no back-off", i+1, gap)
			}
		}
		if len(gaps) < len(tried)/2 {
			t.Errorf("%d attempts at %d different distances", len(tried), len(gaps))
		}
		if w, lag := s.Unpublished(); w != len(words) || lag < 6*time.Hour {
			t.Errorf("%d words unpublished for %v", w, lag)
		}
		time.Sleep(2 * most)
		n, _ := values(t, mem)
		for i := range words {
			if got := n[fmt.Sprintf(`x="%d"`, i)]; got != total {
				t.Fatalf("series %d is %d, of %d", i, got, total)
			}
		}
		if err := s.Close(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

// lineCount counts the lines written to it.
type lineCount struct{ atomic.Int64 }

func (l *lineCount) Write(b []byte) (int, error) {
	l.Add(int64(bytes.Count(b, []byte("\n"))))
	return len(b), nil
}

func heapSize() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
