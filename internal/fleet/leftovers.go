//go:build linux

package main

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/gotheus/gotheus/redisstore"
)

const leftoverCounters = 5

type livesArgs struct {
	Place              place
	Lives, Concurrency int
}

// failures are the lives that have failed.
type failures struct {
	N       int
	Example string
}

// lives lets many registries live for a moment.
func lives(_ *worker, args livesArgs) (any, error) {
	places := make(chan place)
	var mu sync.Mutex
	var failed failures
	var group sync.WaitGroup
	for range args.Concurrency {
		group.Go(func() {
			for p := range places {
				if err := live(p); err != nil {
					mu.Lock()
					failed.N++
					failed.Example = err.Error()
					mu.Unlock()
				}
			}
		})
	}
	for range args.Lives {
		places <- args.Place
	}
	close(places)
	group.Wait()
	return failed, nil
}

// live is one life: it binds, counts and closes.
func live(p place) error {
	i := newInstance(p, "job")
	if err := i.bind(context.Background()); err != nil {
		return err
	}
	i.grow(leftoverCounters, 1)
	i.count(0, leftoverCounters, 1)
	return i.close(context.Background())
}

// size returns the memory of a namespace in bytes.
func (r *run) size(ctx context.Context, p place) (float64, error) {
	ns, err := redisstore.NewNamespace(r.server.client, p.Namespace)
	if err != nil {
		return 0, err
	}
	n, err := ns.Size(ctx)
	return float64(n), err
}

// leftovers lets very many registries live for a moment, and looks at what they leave.
func leftovers(ctx context.Context, r *run) error {
	for _, stays := range []bool{false, true} {
		if err := leftoversVariant(ctx, r, stays); err != nil {
			return err
		}
	}
	return nil
}

func leftoversVariant(ctx context.Context, r *run, stays bool) error {
	p := r.place(fmt.Sprint("leftovers-", stays))
	name := map[bool]string{false: "No other process", true: "With a process that stays"}[stays]
	if stays {
		q, err := r.start("stayer")
		if err != nil {
			return err
		}
		if err := q.call("open", openArgs{Place: p, Instances: 1, Counters: 1, Histograms: 1, Job: "stayer"}, nil); err != nil {
			return err
		}
		defer func() {
			q.kill()
			r.forget(q)
		}()
	}
	helpers, err := r.startAll(min(r.helpers, r.concurrency), "helper")
	if err != nil {
		return err
	}
	t := r.newTable("lives", "failed", "per second", "keys", "fields of heads", "all fields", "namespace KB", "server MB", "scripts/life", "commands/life", "KB in/life", "KB out/life")
	done := 0
	var sizes []float64
	for _, percent := range []int{1, 10, 50, 100} {
		until := max(r.options.leftovers*percent/100, 1)
		if until <= done {
			continue
		}
		before, err := r.server.read(ctx)
		if err != nil {
			return err
		}
		began := time.Now()
		failed := make([]failures, len(helpers))
		err = each(helpers, func(i int, q *process) error {
			q.limit = time.Hour
			args := livesArgs{Place: p, Lives: part(until-done, i, len(helpers)), Concurrency: part(r.concurrency, i, len(helpers))}
			return q.call("lives", args, &failed[i])
		})
		if err != nil {
			return err
		}
		failures := 0
		for _, f := range failed {
			if failures += f.N; f.N > 0 {
				r.wrong("%s, until %d: %d lives have failed, such as: %s", name, until, f.N, f.Example)
			}
		}
		took, n := time.Since(began), float64(until-done)
		done = until
		after, err := r.server.read(ctx)
		if err != nil {
			return err
		}
		d := after.since(before)
		keys, heads, fields, err := r.count(ctx, p)
		if err != nil {
			return err
		}
		size, err := r.size(ctx, p)
		if err != nil {
			return err
		}
		sizes = append(sizes, size)
		t.row(done, failures, n/took.Seconds(), keys, heads, fields, size/1024, after.memory/(1<<20), d.scripts/n, d.commands/n, d.in/n/1024, d.out/n/1024)
		r.note("%s: %d lives", name, done)
	}
	for _, q := range helpers {
		if err := q.end(); err != nil {
			return err
		}
		r.forget(q)
	}
	_, verdict, err := r.newcomerTotals(p, totals{Ops: float64(done * leftoverCounters), Count: float64(done), Series: -1}, name)
	if err != nil {
		return err
	}
	fmt.Fprintf(r.out, "%s; the total is: %s.\n\n", name, verdict)
	r.print(t)
	if n := len(sizes); n > 1 && sizes[n-1] > 1.3*sizes[n-2]+1<<16 {
		r.wrong("%s: the second half of all lives has let the namespace grow from %.0f to %.0f bytes", name, sizes[n-2], sizes[n-1])
	}
	return nil
}

// count returns the numbers of keys and fields of a namespace.
func (r *run) count(ctx context.Context, p place) (keys, heads, fields int64, err error) {
	ns, err := redisstore.NewNamespace(r.server.client, p.Namespace)
	if err != nil {
		return 0, 0, 0, err
	}
	list, err := ns.Keys(ctx)
	if err != nil {
		return 0, 0, 0, err
	}
	for _, k := range list {
		n, err := r.server.client.HLen(ctx, k).Result()
		if err != nil {
			return 0, 0, 0, fmt.Errorf("%s: %w", k, err)
		}
		if fields += n; strings.HasSuffix(k, ":heads") {
			heads = n
		}
	}
	return int64(len(list)), heads, fields, nil
}
