package gotheus

import (
	"context"
	"io"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/gotheus/gotheus/backend"
	"github.com/gotheus/gotheus/expo"
)

// pageFamily is a family of a page: a collector's, or one or several groups of the backend that differ
// in label names and help only.
type pageFamily struct {
	expo.Family
	groups    []backend.Group
	collected *collected
}

// page is what is needed to write one page, reused for the next.
type page struct {
	families []pageFamily
	shown    map[string]expo.Type
	next     []int // of each group while several are merged
	dist     distribution
	buf      []byte
}

var pages = sync.Pool{New: func() any { return &page{shown: make(map[string]expo.Type)} }}

const pieceSize = 32 << 10 // of a page, so that its beginning is on its way while the rest is encoded

// defaultTimeout is what a scrape without a deadline of its own may take.
const defaultTimeout = 10 * time.Second

// WriteText writes the page in the text format 0.0.4.
func (r *Registry) WriteText(w io.Writer) error {
	ctx, cancel := context.WithTimeout(context.Background(), defaultTimeout)
	defer cancel()
	return r.Write(ctx, w, expo.Text)
}

// Write writes the page in the given format: all families of the backend, whichever process made them,
// and those of the collectors, by name, each with its series by label text. It writes in pieces while
// it encodes. Collectors have until shortly before ctx's deadline. When the backend cannot say what
// other processes did, the page shows what is known and Write returns the backend's error; otherwise
// the error is the writer's or ctx's, and the page ends where it happened.
func (r *Registry) Write(ctx context.Context, w io.Writer, format expo.Format) error {
	p := pages.Get().(*page)
	defer p.release()
	release, syncErr := r.gather(ctx, p)
	defer release()
	e := expo.NewEncoder(format)
	buf := p.buf[:0]
	defer func() { p.buf = buf[:0] }()
	send := func(atLeast int) (err error) {
		if len(buf) >= atLeast {
			if err = ctx.Err(); err == nil && len(buf) > 0 {
				_, err = w.Write(buf)
			}
			buf = buf[:0]
		}
		return err
	}
	for i := range p.families {
		f := &p.families[i]
		buf = e.Family(buf, &f.Family)
		if f.collected != nil {
			for j := range f.collected.rows {
				buf = f.collected.rows[j].encode(buf, e, f.Type)
				if err := send(pieceSize); err != nil {
					return err
				}
			}
			continue
		}
		for s := range p.series(f) {
			buf = p.encode(buf, e, f.groups[0].Family, s)
			if len(buf) >= pieceSize {
				if err := send(pieceSize); err != nil {
					return err
				}
			}
		}
	}
	buf = e.End(buf)
	if err := send(0); err != nil {
		return err
	}
	return syncErr
}

func (w *row) encode(dst []byte, e expo.Encoder, t expo.Type) []byte {
	if t == expo.Histogram || t == expo.Summary {
		return e.Distribution(dst, w.labels, &w.dist)
	}
	return e.Number(dst, w.labels, expo.Number{Float: w.value})
}

// encode appends a series of the backend, unless it was deleted.
func (p *page) encode(dst []byte, e expo.Encoder, f *backend.Family, s *backend.Series) []byte {
	if s.Parts != nil {
		return encodeParts(dst, e, f.Mode, s)
	}
	if f.Sealed(s.Words) {
		return dst
	}
	switch f.Kind {
	case backend.Counter:
		return e.Number(dst, s.Labels, readCounter(s.Words))
	case backend.Gauge:
		return e.Number(dst, s.Labels, expo.Number{Float: loadFloat(&s.Words[backend.GaugeValue])})
	case backend.Histogram:
		readHistogram(&p.dist, s.Words)
	case backend.Summary:
		readSummary(&p.dist, s.Words)
	}
	return e.Distribution(dst, s.Labels, &p.dist)
}

// series ranges over a family's series by label text.
func (p *page) series(f *pageFamily) func(yield func(*backend.Series) bool) {
	return func(yield func(*backend.Series) bool) {
		if len(f.groups) == 1 {
			list := f.groups[0].Series
			for i := range list {
				if !yield(&list[i]) {
					return
				}
			}
			return
		}
		p.next = append(p.next[:0], make([]int, len(f.groups))...)
		for {
			var least *backend.Series
			from := 0
			for i, at := range p.next {
				if list := f.groups[i].Series; at < len(list) && (least == nil || list[at].Labels < least.Labels) {
					least, from = &list[at], i
				}
			}
			if least == nil || !yield(least) {
				return
			}
			p.next[from]++
		}
	}
}

func (p *page) release() {
	clear(p.families)
	p.families = p.families[:0]
	clear(p.shown)
	pages.Put(p)
}

// gather fills p with the families of a page in order. The registry is not bound to another backend
// before release is called. A page with err shows what was known before.
func (r *Registry) gather(ctx context.Context, p *page) (release func(), err error) {
	r.applyEnv(ctx)
	// The last fifth of the time is for writing the page without those that hang.
	deadline, ok := ctx.Deadline()
	if !ok {
		deadline = time.Now().Add(defaultTimeout)
	}
	early, cancel := context.WithDeadline(ctx, deadline.Add(-time.Until(deadline)/5))
	defer cancel()
	b := r.current()
	synced := make(chan error, 1)
	go func() { synced <- b.Sync(early) }()
	own := r.collect(early)
	select {
	case err = <-synced: // before a collector hung
	default:
		select {
		case err = <-synced:
		case <-early.Done():
			err = early.Err()
		}
	}
	if err := r.beginScrape(ctx); err != nil {
		return func() {}, err
	}
	if now := r.current(); now != b { // bound or closed meanwhile
		b, err = now, now.Sync(early)
	}
	if err != nil && ctx.Err() == nil {
		r.log(slog.LevelError, "sync", "the backend cannot be read; the page shows what is known", "error", err)
	}
	hidden := r.addGroups(p, b.Walk())
	// The backend's families are the same on every page, so they win over those that are made here.
	p.families = slices.DeleteFunc(p.families, func(f pageFamily) bool {
		if !r.leaveOut(p, &f) {
			return false
		}
		for _, g := range f.groups {
			hidden += len(g.Series)
		}
		return true
	})
	for _, c := range append(own, r.selfFamilies(hidden)...) {
		f := pageFamily{Family: c.Family, collected: c}
		if !r.leaveOut(p, &f) {
			p.families = append(p.families, f)
		} else if !r.opts.NoSelfMetrics {
			if c, err := newOwn(r, collectorErrorsName, collectorErrorsHelp); err == nil {
				c.Inc()
			}
		}
	}
	slices.SortFunc(p.families, func(a, b pageFamily) int { return strings.Compare(a.Name, b.Name) })
	return r.scrapeMu.RUnlock, err
}

// leaveOut reports whether f clashes with a family that is on the page, and notes its name if it does not.
func (r *Registry) leaveOut(p *page, f *pageFamily) bool {
	if what := p.clash(f); what != "" {
		r.log(slog.LevelError, "clash "+f.Name, "a family was left out of the page", "metric", f.Name, "clashes with", what)
		return true
	}
	p.shown[f.Name] = f.Type
	return false
}

// clash returns the family on the page that shows a name that f shows, too; "" if there is none.
func (p *page) clash(f *pageFamily) string {
	if _, ok := p.shown[f.Name]; ok {
		return f.Name
	}
	for _, suffix := range []string{"_bucket", "_sum", "_count"} {
		if base, ok := strings.CutSuffix(f.Name, suffix); ok {
			if t, ok := p.shown[base]; ok && hasSample(t, suffix) {
				return base
			}
		}
		if hasSample(f.Type, suffix) {
			if _, ok := p.shown[f.Name+suffix]; ok {
				return f.Name + suffix
			}
		}
	}
	return ""
}

func hasSample(t expo.Type, suffix string) bool {
	return t == expo.Histogram || t == expo.Summary && suffix != "_bucket"
}

// addGroups adds the backend's families. Of several with one name, the newest is shown together with
// those that differ in nothing but labels and help; it returns how many series of others are hidden.
func (r *Registry) addGroups(p *page, groups []backend.Group) (hidden int) {
	r.mu.Lock()
	unregistered := len(r.hidden) > 0
	r.mu.Unlock()
	for i := 0; i < len(groups); {
		first := -1 // the newest group of this name that is shown
		j := i
		for ; j < len(groups) && groups[j].Family.Name == groups[i].Family.Name; j++ {
			g := groups[j].Family
			switch {
			case unregistered && r.isHidden(g):
			case first < 0:
				first = len(p.families)
				p.families = append(p.families, pageFamily{
					Family: expo.Family{Name: g.Name, Help: g.Help, Unit: g.Unit, Type: typeOf(g.Kind), Bounds: g.Buckets},
					groups: groups[j : j+1 : j+1],
				})
			case p.families[first].groups[0].Family.Alike(g):
				p.families[first].groups = append(p.families[first].groups, groups[j])
			default:
				hidden += len(groups[j].Series)
			}
		}
		i = j
	}
	return hidden
}

func (r *Registry) isHidden(f *backend.Family) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.hidden[f.Schema()] != nil
}

func typeOf(k backend.Kind) expo.Type {
	switch k {
	case backend.Counter:
		return expo.Counter
	case backend.Gauge:
		return expo.Gauge
	case backend.Histogram:
		return expo.Histogram
	}
	return expo.Summary
}

// selfFamilies returns what the registry says about itself in this process, as soon as it was told to
// use a backend.
func (r *Registry) selfFamilies(hidden int) []*collected {
	if r.opts.NoSelfMetrics || r.asked.Load() == nil {
		return nil
	}
	up := 1.0
	if r.current().local {
		up = 0
	}
	s := &Sink{reg: r}
	s.Gauge(backendUpName, backendUpHelp).Put(up)
	s.Gauge(postponedName, postponedHelp).Put(float64(r.promote.len()))
	s.Gauge(hiddenName, hiddenHelp).Put(float64(hidden))
	s.check()
	return s.families
}
