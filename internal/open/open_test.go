package open_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"strings"
	"testing"

	"github.com/gotheus/gotheus/internal/backend"
	"github.com/gotheus/gotheus/internal/backend/backendtest"
	"github.com/gotheus/gotheus/internal/backend/heap"
	"github.com/gotheus/gotheus/internal/backend/syncer"
	"github.com/gotheus/gotheus/internal/open"
	"github.com/gotheus/gotheus/store"
)

var quiet = slog.New(slog.DiscardHandler)

// memory is a Store that counts calls of Close.
type memory struct {
	backendtest.Memory
	closed int
	logger *slog.Logger
}

func (m *memory) SetLogger(l *slog.Logger) { m.logger = l }

func (m *memory) Close() error { m.closed++; return nil }

func init() {
	store.Register("test-stores", func(_ context.Context, u *url.URL, o store.DriverOptions) (*store.Config, error) {
		o.Logger.Info("opening")
		c := new(store.Config)
		for range len(u.Query()["shard"]) {
			c.Shards = append(c.Shards, new(memory))
		}
		return c, nil
	})
	store.Register("test-fails", func(_ context.Context, u *url.URL, _ store.DriverOptions) (*store.Config, error) {
		return nil, fmt.Errorf("cannot open %q: %w", u, errNoServer)
	})
	store.Register("test-nothing", func(context.Context, *url.URL, store.DriverOptions) (*store.Config, error) { return nil, nil })
	store.Register("test-bad", func(context.Context, *url.URL, store.DriverOptions) (*store.Config, error) {
		return &store.Config{Shards: []store.Store{leftOpen, nil}}, nil
	})
	store.Register("test-typed-nil", func(context.Context, *url.URL, store.DriverOptions) (*store.Config, error) {
		return &store.Config{Shards: []store.Store{(*memory)(nil)}}, nil
	})
	open.Register("test-opener", func(context.Context, *url.URL) (backend.Backend, error) { return opened, nil })
}

var (
	errNoServer = errors.New("no server")
	leftOpen    = new(memory)
	opened      = heap.New()
)

func TestURL(t *testing.T) {
	t.Parallel()
	var log strings.Builder
	logger := slog.New(slog.NewTextHandler(&log, nil))
	for rawURL, want := range map[string]string{
		"heap:":                        fmt.Sprintf("%T", new(heap.Backend)),
		"test-stores:?shard=a":         fmt.Sprintf("%T", new(syncer.Syncer)),
		"test-stores:?shard=a&shard=b": fmt.Sprintf("%T", new(syncer.Sharded)),
	} {
		b, err := open.URL(t.Context(), rawURL, logger)
		if err != nil {
			t.Errorf("%s: %v", rawURL, err)
			continue
		}
		if got := fmt.Sprintf("%T", b); got != want {
			t.Errorf("%s: got a %s, want a %s", rawURL, got, want)
		}
		if err := b.Close(t.Context()); err != nil {
			t.Errorf("%s: %v", rawURL, err)
		}
	}
	if n := strings.Count(log.String(), "opening"); n != 2 {
		t.Errorf("the drivers logged %d lines, want 2: %s", n, &log)
	}
	if b, err := open.URL(t.Context(), "test-opener:", quiet); err != nil || b != backend.Backend(opened) {
		t.Errorf("got %v, %v", b, err)
	}
}

// Errors about a URL do not contain its secrets.
func TestErrors(t *testing.T) {
	t.Parallel()
	for rawURL, want := range map[string]string{
		"nosuch://u:secret@h/":                   `unknown scheme "nosuch" in "nosuch://h": the program must import the package that registers it (known: heap: shm: test-`,
		"redis://u:secret@h/":                    `unknown scheme "redis" in "redis://h": the program must have: import _ "github.com/gotheus/gotheus/redisstore" (go get github.com`,
		"rediss://u:secret@h/":                   `import _ "github.com/gotheus/gotheus/redisstore"`,
		"/dev/shm/x":                             "unknown scheme: ",
		"":                                       "a URL begins with one, as in shm:",
		"::secret":                               "this is not a URL",
		"heap://u:secret@h":                      "must be exactly",
		"heap:?password=secret":                  "must be exactly",
		"shm://u:secret@h/x":                     "the absolute path of a file",
		"test-fails://u:secret@h/x":              `cannot open "test-fails://h": no server`,
		"test-fails://u:sec%2Fret@h/x":           `"test-fails://h": no server`,
		"test-fails://u@h?db_password=sec%26ret": `"test-fails://h": no server`,
		"test-nothing:":                          `the driver for "test-nothing:" returned neither stores nor an error`,
		"test-bad:":                              "Config.Shards[1] is nil",
		"test-typed-nil:":                        "Config.Shards[0] is a nil *open_test.memory",
		"test-stores:":                           "Config.Shards is empty",
	} {
		b, err := open.URL(t.Context(), rawURL, quiet)
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "secret") || strings.Contains(err.Error(), "ret@") {
			t.Errorf("%s: got error %v, want %s", rawURL, err, want)
		}
		if b != nil {
			t.Errorf("%s: got a backend and the error %v", rawURL, err)
		}
		if fails := strings.HasPrefix(rawURL, "test-fails") || rawURL == "test-nothing:"; errors.Is(err, store.ErrInvalid) == (fails || errors.Is(err, open.ErrScheme)) {
			t.Errorf("%s: ErrInvalid is wrapped: %v: %v", rawURL, fails, err)
		}
		if unknown := strings.Contains(err.Error(), "unknown scheme"); unknown != errors.Is(err, open.ErrScheme) {
			t.Errorf("%s: %v", rawURL, err)
		}
		if strings.HasPrefix(rawURL, "test-fails") && !errors.Is(err, errNoServer) {
			t.Errorf("%s: the driver's error is lost: %v", rawURL, err)
		}
	}
	if leftOpen.closed != 1 {
		t.Errorf("the store of a failed open was closed %d times, want once", leftOpen.closed)
	}
}

// If Stores returns an error, the stores still belong to the caller.
func TestStores(t *testing.T) {
	t.Parallel()
	m := new(memory)
	for _, c := range []*store.Config{nil, {}, {Shards: []store.Store{m, nil}}, {Shards: []store.Store{m, (*memory)(nil)}}, {Shards: []store.Store{m}, Options: store.Options{Alive: 1}}} {
		if b, err := open.Stores(c, quiet); !errors.Is(err, store.ErrInvalid) || b != nil {
			t.Errorf("%+v: %v, %v", c, b, err)
		}
	}
	if m.closed != 0 {
		t.Error("a store was closed")
	}
	b, err := open.Stores(&store.Config{Shards: []store.Store{m}}, quiet)
	if err != nil {
		t.Fatal(err)
	}
	if m.logger != quiet {
		t.Error("the store does not have the registry's logger")
	}
	own, other := slog.New(slog.DiscardHandler), new(memory)
	withOwn, err := open.Stores(&store.Config{Shards: []store.Store{other}, Options: store.Options{Logger: own}}, quiet)
	if err != nil {
		t.Fatal(err)
	}
	defer withOwn.Close(t.Context())
	if other.logger != own {
		t.Error("the store does not have the logger of the options")
	}
	if err := b.Close(t.Context()); err != nil || m.closed != 1 {
		t.Errorf("%v; the store was closed %d times", err, m.closed)
	}
}
