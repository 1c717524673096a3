package store_test

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gotheus/gotheus/store"
	"github.com/gotheus/gotheus/store/storetest"
)

func noDriver(context.Context, *url.URL, store.DriverOptions) (*store.Config, error) {
	return nil, errors.New("never opens")
}

func TestRegister(t *testing.T) {
	t.Parallel()
	store.Register("test-a.1+x", noDriver)
	if store.Lookup("test-a.1+x") == nil || !slices.Contains(store.Schemes(), "test-a.1+x") {
		t.Errorf("the driver is not registered: %q", store.Schemes())
	}
	if store.Lookup("test-b") != nil {
		t.Error("Lookup returns a driver that was not registered")
	}
	for _, c := range []struct {
		scheme string
		open   store.Driver
		want   string
	}{
		{"", noDriver, `scheme ""`},
		{"Upper", noDriver, `scheme "Upper": may have lower-case letters`},
		{"1st", noDriver, `scheme "1st"`},
		{"with space", noDriver, `scheme "with space"`},
		{"colon:", noDriver, `scheme "colon:"`},
		{"ümlaut", noDriver, "must begin with a lower-case letter"},
		{"heap", noDriver, `scheme "heap" is reserved for gotheus itself`},
		{"shm", noDriver, `scheme "shm" is reserved for gotheus itself`},
		{"test-b", nil, `the driver for scheme "test-b" is nil`},
		{"test-a.1+x", noDriver, `scheme "test-a.1+x" already has a driver`},
	} {
		func() {
			defer func() {
				got := recover()
				if err, ok := got.(error); !ok || !errors.Is(err, store.ErrInvalid) || !strings.Contains(err.Error(), c.want) {
					t.Errorf("scheme %q: panics with %v, want an ErrInvalid: %s", c.scheme, got, c.want)
				}
			}()
			if err := store.TryRegister(c.scheme, c.open); !errors.Is(err, store.ErrInvalid) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("scheme %q: error %v, want an ErrInvalid: %s", c.scheme, err, c.want)
			}
			store.Register(c.scheme, c.open)
		}()
	}
	if store.Lookup("test-b") != nil || store.Lookup("heap") != nil {
		t.Error("a refused driver is registered")
	}
}

func TestCheck(t *testing.T) {
	t.Parallel()
	one := []store.Store{newMapStore()}
	for want, c := range map[string]*store.Config{
		"the Config is nil":            nil,
		"Config.Shards is empty":       {},
		"has 65 stores":                {Shards: slices.Repeat(one, store.MaxShards+1)},
		"Config.Shards[1] is nil":      {Shards: []store.Store{one[0], nil}},
		"Interval=-1s":                 {Shards: one, Options: store.Options{Interval: -time.Second}},
		"Alive=-1s":                    {Shards: one, Options: store.Options{Alive: -time.Second}},
		"Timeout=-1s":                  {Shards: one, Options: store.Options{Timeout: -time.Second}},
		"Alive must be at least twice": {Shards: one, Options: store.Options{Interval: 6 * time.Second}},
	} {
		if err := c.Check(); !errors.Is(err, store.ErrInvalid) || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want an ErrInvalid: %s", err, want)
		}
	}
	for _, o := range []store.Options{{}, {Interval: time.Second, Alive: 2 * time.Second, Timeout: 1}} {
		c := &store.Config{Shards: slices.Repeat(one, store.MaxShards), Options: o}
		if err := c.Check(); err != nil {
			t.Errorf("%+v: %v", o, err)
		}
	}
}

// The store of the example passes the conformance kit.
func TestMapStore(t *testing.T) {
	t.Parallel()
	places := make(map[string]*mapStore)
	storetest.TestStore(t, storetest.Stores{
		Fresh: func(testing.TB) string {
			place := fmt.Sprint(len(places))
			places[place] = newMapStore()
			return place
		},
		Open: func(place string) (*store.Config, error) {
			return &store.Config{Shards: []store.Store{places[place]}}, nil
		},
	})
}
