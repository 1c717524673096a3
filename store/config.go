package store

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"time"
)

// What Options mean where they say nothing.
const (
	DefaultInterval = 500 * time.Millisecond
	DefaultAlive    = 10 * time.Second
	DefaultTimeout  = 5 * time.Second
)

// MaxShards is how many stores a Config may have.
const MaxShards = 64

// Config says which stores metrics are kept in, and how the stores are used.
type Config struct {
	// Shards is one store, or several that the series are spread over by a hash, so that no
	// single server has to hold and serve all of them. Each must keep its records apart from
	// those of the others. All processes must have the same number of shards in the same order;
	// it cannot be changed later without beginning anew.
	Shards []Store
	// Options are the same for all shards.
	Options Options
}

// Check returns an error if nothing can be kept in c: c is nil, it has no shards or more than
// MaxShards, a shard is nil, or the options make no sense.
func (c *Config) Check() error {
	switch {
	case c == nil:
		return errors.New("store: the Config is nil")
	case len(c.Shards) == 0:
		return errors.New("store: Config.Shards is empty: there must be a store")
	case len(c.Shards) > MaxShards:
		return fmt.Errorf("store: Config.Shards has %d stores: there can be 1 to %d", len(c.Shards), MaxShards)
	}
	for i, s := range c.Shards {
		if s == nil {
			return fmt.Errorf("store: Config.Shards[%d] is nil", i)
		}
	}
	return c.Options.Check()
}

// Options say how stores are used. The zero value is good.
type Options struct {
	// Interval is the time between publications of what this process has counted; 0:
	// DefaultInterval. A process that is killed loses what it has counted since the last one.
	Interval time.Duration
	// Alive is how long a process counts as alive after its last sign of life; 0: DefaultAlive.
	// It gives one at least four times as often, or every Interval. It must be at least twice
	// as long as Interval, and should be the same in all processes.
	Alive time.Duration
	// Timeout is how long the background waits for the store, each time; 0: DefaultTimeout.
	Timeout time.Duration
	// ServeStale shows pages of what is known while the store cannot be read. Without it, such
	// a scrape fails, because pages of several processes behind one address could go backwards.
	ServeStale bool
	// Logger gets a line a minute at most; nil: the logger of the registry that is bound.
	Logger *slog.Logger
}

// Check returns an error if a time is negative, or if Alive is too short for Interval.
func (o *Options) Check() error {
	for _, t := range []struct {
		name string
		d    time.Duration
	}{{"Interval", o.Interval}, {"Alive", o.Alive}, {"Timeout", o.Timeout}} {
		if t.d < 0 {
			return fmt.Errorf("store: %s=%v: must be a time above zero, or 0 for the default", t.name, t.d)
		}
	}
	interval, alive := cmp.Or(o.Interval, DefaultInterval), cmp.Or(o.Alive, DefaultAlive)
	if alive < 2*interval {
		return fmt.Errorf("store: Interval=%v with Alive=%v: Alive must be at least twice as long, "+
			"or a process looks dead between two publications", interval, alive)
	}
	return nil
}
