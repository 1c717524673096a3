//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/gotheus/gotheus"
)

// polling makes pages in the background.
type polling struct {
	stop chan struct{}
	done sync.WaitGroup
	seen polled
}

// polled is what became of pages.
type polled struct {
	Pages, Refused int
	Longest        time.Duration // the time for a page that was made
	Failed         string
}

// startPolling begins to make pages of the first instance, with an interval in between.
func startPolling(w *worker, interval time.Duration) (any, error) {
	p := &polling{stop: make(chan struct{})}
	w.poll = p
	i := w.list[0]
	p.done.Go(func() {
		for {
			began := time.Now()
			_, err := i.totals(context.Background())
			switch {
			case errors.Is(err, gotheus.ErrStale):
				p.seen.Refused++
			case err != nil:
				p.seen.Failed = err.Error()
			default:
				p.seen.Pages++
				p.seen.Longest = max(p.seen.Longest, time.Since(began))
			}
			select {
			case <-time.After(interval):
			case <-p.stop:
				return
			}
		}
	})
	return nil, nil
}

func endPolling(w *worker, _ none) (any, error) {
	close(w.poll.stop)
	w.poll.done.Wait()
	return w.poll.seen, nil
}

// deleteAll deletes all series of the first instance for all processes. It returns how long the
// call took; the deletion is not published yet.
func deleteAll(w *worker, _ none) (any, error) {
	i := w.list[0]
	began := time.Now()
	n := i.ops.DeleteAll()
	took := time.Since(began)
	if n != len(i.counters) {
		return nil, fmt.Errorf("%d of %d series were deleted", n, len(i.counters))
	}
	i.counters = nil
	return took, nil
}

// deletions makes very many series, deletes them, and makes them again, twice.
func deletions(ctx context.Context, r *run) error {
	p := r.place("deletions")
	maker, err := r.start("maker")
	if err != nil {
		return err
	}
	reader, err := r.start("reader")
	if err != nil {
		return err
	}
	for _, q := range []*process{maker, reader} {
		if err := q.call("open", openArgs{Place: p, Instances: 1, Job: "job"}, nil); err != nil {
			return err
		}
		if err := q.call("flush", none{}, nil); err != nil {
			return err
		}
	}
	t := r.newTable("step", "calls", "published after", "pages meanwhile", "refused", "longest page", "longest command", "of them 1 ms or longer",
		"page", "its CPU", "its KB", "maker heap/RSS MB", "reader heap/RSS MB", "newcomer heap/RSS MB", "server MB", "namespace MB")
	for _, step := range []string{"nothing", "made", "deleted", "made again", "deleted again"} {
		r.note("%s", step)
		if err := deletionStep(ctx, r, t, p, step, maker, reader); err != nil {
			return err
		}
	}
	r.print(t)
	return nil
}

func deletionStep(ctx context.Context, r *run, t *table, p place, step string, maker, reader *process) error {
	if _, _, _, err := r.server.longest(ctx); err != nil { // of what was before
		return err
	}
	if err := reader.call("poll", 50*time.Millisecond, nil); err != nil {
		return err
	}
	var calls, published time.Duration
	want := totals{Count: 0}
	switch step {
	case "made", "made again":
		began := time.Now()
		if err := maker.call("grow", r.options.deletions, nil); err != nil {
			return err
		}
		calls = time.Since(began)
		began = time.Now()
		if err := r.publish(maker, "count", countArgs{To: r.options.deletions}, step); err != nil {
			return err
		}
		published = time.Since(began)
		want.Ops, want.Series = float64(r.options.deletions), r.options.deletions
	case "deleted", "deleted again":
		if err := maker.call("delete", none{}, &calls); err != nil {
			return err
		}
		began := time.Now()
		if err := r.publish(maker, "flush", none{}, step); err != nil {
			return err
		}
		published = time.Since(began)
	}
	// The reader learns of it within a quarter of alive, a page at once.
	if err := wait(ctx, p.aliveFor()/4); err != nil {
		return err
	}
	var seen polled
	if err := reader.call("polled", none{}, &seen); err != nil {
		return err
	}
	if seen.Failed != "" {
		r.wrong("%s: a page failed: %s", step, seen.Failed)
	}
	longest, what, slow, err := r.server.longest(ctx)
	if err != nil {
		return err
	}
	if r.script > 0 && longest > r.script {
		r.wrong("%s: %s took %v, %v are allowed", step, what, longest, r.script)
	}
	var page timed
	if err := reader.call("timed totals", 30*time.Second, &page); err != nil {
		return err
	}
	newcomer, err := r.start("newcomer")
	if err != nil {
		return err
	}
	if err := newcomer.call("open", openArgs{Place: p, Instances: 1, Job: "job"}, nil); err != nil {
		return err
	}
	var its timed
	if err := newcomer.call("timed totals", 30*time.Second, &its); err != nil {
		return err
	}
	for name, got := range map[string]totals{"reader": page.Totals, "newcomer": its.Totals} {
		if d := got.compare(want); d != "" {
			r.wrong("%s: the %s's page has %v, must have %v", step, name, got, want)
		}
	}
	memory := make([]any, 3)
	for i, q := range []*process{maker, reader, newcomer} {
		var u usage
		if err := q.call("stat", none{}, &u); err != nil {
			return err
		}
		memory[i] = fmt.Sprintf("%.0f / %.0f", u.Heap/(1<<20), u.Resident/(1<<20))
	}
	if err := newcomer.call("close", none{}, nil); err != nil {
		return err
	}
	newcomer.kill()
	r.forget(newcomer)
	now, err := r.server.read(ctx)
	if err != nil {
		return err
	}
	size, err := r.size(ctx, p)
	if err != nil {
		return err
	}
	t.row(step, calls, published, seen.Pages, seen.Refused, seen.Longest, strings.TrimSpace(fmt.Sprintf("%v %s", longest, what)), slow,
		page.Time, page.CPU, float64(page.Bytes)/1024, memory[0], memory[1], memory[2], now.memory/(1<<20), size/(1<<20))
	return nil
}
