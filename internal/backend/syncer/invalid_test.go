package syncer_test

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/gotheus/gotheus/internal/backend"
	"github.com/gotheus/gotheus/internal/backend/backendtest"
	"github.com/gotheus/gotheus/internal/backend/syncer"
	"github.com/gotheus/gotheus/store"
)

// Invalid data from another process is left out of pages and logged.
func TestStrange(t *testing.T) {
	t.Parallel()
	for what, put := range map[string]func(s *syncer.Syncer){
		"label": func(s *syncer.Syncer) {
			f := &backend.Family{Name: "c_total", Help: "C.", Kind: backend.Counter, Labels: []string{"l"}}
			for _, labels := range []string{`l="a"`, "l=\"\"} 1\nevil_total{l=\"\""} {
				w, err := s.Cells(f, labels)
				if err != nil {
					t.Fatal(err)
				}
				w[0].Store(1)
			}
		},
		"exemplar": func(s *syncer.Syncer) {
			f := &backend.Family{Name: "c_total", Help: "C.", Kind: backend.Counter}
			aux := f.With(backend.Block{Role: backend.ExemplarRole, Size: 4})
			w, err := s.Cells(aux, "")
			if err != nil {
				t.Fatal(err)
			}
			aux.WriteExemplar(w, 0, 1, &backend.Exemplar{Labels: "a=\"\x00\"", Value: 1, Time: 5})
		},
	} {
		var mem backendtest.Memory
		var log bytes.Buffer
		now := func() time.Time { return time.Unix(1e9, 0) }
		neighbour := syncer.NewManual(&mem, store.Options{}, now)
		s := syncer.NewManual(&mem, store.Options{Logger: slog.New(slog.NewTextHandler(&log, nil))}, now)
		put(neighbour)
		if err := neighbour.Publish(t.Context()); err != nil {
			t.Fatal(err)
		}
		for range 3 {
			if err := s.Sync(t.Context()); err != nil {
				t.Fatalf("%s: %v", what, err)
			}
		}
		groups := s.Walk()
		s.Close(t.Context()) // logging happens after the call
		neighbour.Close(t.Context())
		if n := strings.Count(log.String(), "left out of pages"); n != 1 || !strings.Contains(log.String(), what) {
			t.Errorf("%s: %d lines: %s", what, n, &log)
		}
		for _, g := range groups {
			for _, row := range g.Series {
				if strings.Contains(row.Labels, "evil") {
					t.Errorf("%s is shown", row.Labels)
				}
				if g.Family.Block.Role == backend.ExemplarRole {
					if e, ok := g.Family.ReadExemplar(row.Words, 0, 1); ok {
						t.Errorf("%v is shown", e)
					}
				}
			}
		}
	}
}

// forgetful is a store that breaks the contract: it returns no parts.
type forgetful struct{ *backendtest.Memory }

func (forgetful) Get(context.Context, []store.Key) ([][]byte, error) { return nil, nil }

// A store that does not return a part for each key makes reading fail, instead of going on for
// ever.
func TestStoreWithoutParts(t *testing.T) {
	t.Parallel()
	var mem backendtest.Memory
	now := func() time.Time { return time.Unix(1e9, 0) }
	neighbour := syncer.NewManual(&mem, store.Options{}, now)
	if err := neighbour.Declare(&backend.Family{Name: "c_total", Help: "C.", Kind: backend.Counter}); err != nil {
		t.Fatal(err)
	}
	if err := neighbour.Publish(t.Context()); err != nil {
		t.Fatal(err)
	}
	defer neighbour.Close(t.Context())
	s := syncer.NewManual(forgetful{&mem}, store.Options{Logger: slog.New(slog.DiscardHandler)}, now)
	if err := s.Sync(t.Context()); err == nil || !strings.Contains(err.Error(), "0 parts for 1 key") {
		t.Errorf("got error %v", err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	s.Close(ended)
}
