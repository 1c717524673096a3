package tests_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"strings"
	"testing"

	"github.com/gotheus/gotheus"
	"github.com/gotheus/gotheus/internal/backend/backendtest"
	"github.com/gotheus/gotheus/internal/hostilestore"
	"github.com/gotheus/gotheus/store"
)

// A page says how many records it lacks because they cannot be read, and a strict one is refused.
func TestDamagedRecords(t *testing.T) {
	t.Parallel()
	var mem backendtest.Memory
	r := gotheus.NewRegistry(&gotheus.RegistryOptions{Logger: slog.New(slog.DiscardHandler)})
	if err := r.BindStore(t.Context(), &store.Config{Shards: []store.Store{&mem}}); err != nil {
		t.Fatal(err)
	}
	defer r.Close(context.Background())
	r.NewCounter("c_total", "C.", nil).Add(7)
	if err := r.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	strict := func() error { return r.Write(t.Context(), io.Discard, &gotheus.WriteOptions{Strict: true}) }
	if err := strict(); err != nil {
		t.Errorf("before the damage: %v", err)
	}
	for _, a := range hostilestore.Attacks {
		if a.Name == "garbage" {
			if _, err := a.Fill(t.Context(), &mem, 4); err != nil {
				t.Fatal(err)
			}
		}
	}
	var page strings.Builder
	if err := r.WriteText(&page); err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{"\nc_total 7\n", "\ngotheus_damaged_records 4\n"} {
		if !strings.Contains(page.String(), line) {
			t.Errorf("the page has no %q: %s", line, &page)
		}
	}
	if err := strict(); !errors.Is(err, gotheus.ErrPartial) {
		t.Errorf("a strict page: %v", err)
	}
}
