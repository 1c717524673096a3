package store

import (
	"cmp"
	"fmt"
	"log/slog"
	"time"
)

// Defaults for Options.
const (
	DefaultInterval = 500 * time.Millisecond
	DefaultAlive    = 10 * time.Second
	DefaultTimeout  = 5 * time.Second
)

// MaxShards is the maximum number of stores in a Config.
const MaxShards = 64

// Config selects the stores that metrics are kept in, and how they are used.
type Config struct {
	// Shards is one store, or several that share the series by a hash, so that no single server
	// has to hold and serve all of them. The stores must keep their records apart. All
	// processes must have the same number of shards in the same order. The number cannot be
	// changed later without starting from zero.
	Shards []Store
	// Options apply to all shards.
	Options Options
}

// Check returns an error that wraps ErrInvalid if c cannot be used: c is nil, it has no shards or
// more than MaxShards, a shard is nil, or the options are invalid.
func (c *Config) Check() error {
	switch {
	case c == nil:
		return fmt.Errorf("store: %w: the Config is nil", ErrInvalid)
	case len(c.Shards) == 0:
		return fmt.Errorf("store: %w: Config.Shards is empty: it must have at least one store", ErrInvalid)
	case len(c.Shards) > MaxShards:
		return fmt.Errorf("store: %w: Config.Shards has %d stores: it must have at most %d", ErrInvalid, len(c.Shards), MaxShards)
	}
	for i, s := range c.Shards {
		if s == nil {
			return fmt.Errorf("store: %w: Config.Shards[%d] is nil", ErrInvalid, i)
		}
	}
	return c.Options.Check()
}

// Options are settings for the use of stores. The zero value is good.
type Options struct {
	// Interval is the time between publications of this process's counts; 0: DefaultInterval. A
	// process that is killed loses what it has counted since the last one.
	Interval time.Duration
	// Alive is how long a process counts as alive after its last publication; 0: DefaultAlive.
	// An idle process publishes about four times in that period, or every Interval if that is
	// longer. Alive must be at least twice Interval, and should be the same in all processes.
	Alive time.Duration
	// Timeout limits each contact with the store in the background; 0: DefaultTimeout.
	Timeout time.Duration
	// ServeStale serves pages with the last known values while the store cannot be read. By
	// default such a scrape fails, because values on pages of several processes behind one
	// address could decrease.
	ServeStale bool
	// Logger receives at most one line a minute; nil: the logger of the bound registry.
	Logger *slog.Logger
}

// Check returns an error that wraps ErrInvalid if a duration is negative, or if Alive is too short
// for Interval.
func (o *Options) Check() error {
	for _, t := range []struct {
		name string
		d    time.Duration
	}{{"Interval", o.Interval}, {"Alive", o.Alive}, {"Timeout", o.Timeout}} {
		if t.d < 0 {
			return fmt.Errorf("store: %w: %s=%v: must be a time above zero, or 0 for the default", ErrInvalid, t.name, t.d)
		}
	}
	interval, alive := cmp.Or(o.Interval, DefaultInterval), cmp.Or(o.Alive, DefaultAlive)
	if alive < 2*interval {
		return fmt.Errorf("store: %w: Interval=%v with Alive=%v: Alive must be at least twice as long, "+
			"or a process looks dead between two publications", ErrInvalid, interval, alive)
	}
	return nil
}
