package gotheus

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/gotheus/gotheus/expo"
	"github.com/gotheus/gotheus/internal/backend"
)

// pageFamily is a family of a page: a collector's, or one or several groups of the backend that differ
// in label names and help only.
type pageFamily struct {
	expo.Family
	groups    []pageGroup
	collected *collected
}

// pageGroup is a group of the backend with the groups of its auxiliary families.
type pageGroup struct {
	backend.Group
	blocks []pageBlocks
}

// pageBlocks is the group of an auxiliary family while it is gone through side by side with that of the family.
type pageBlocks struct {
	backend.Group
	next int
}

// block is words that a series has besides its own.
type block struct {
	family *backend.Family
	words  backend.Words
}

// page is what is needed to write one page, reused for the next.
type page struct {
	families []pageFamily
	shown    shown
	name     []byte // scratch
	omitted  error  // the first thing that was left out
	format   expo.Format
	encoder  expo.Encoder // for format, used again
	scraping bool         // scrapeMu is held
	noStarts bool         // format does not show when series began
	groups   []pageGroup  // of all families
	blocks   []pageBlocks // of all groups
	next     []int        // of each group while several are merged
	scratch
	reg     *Registry
	only    *backend.Instance // whose words are shown where each instance has some; nil: those of all
	follows bool              // another process shows what is not its own
	dist    distribution
	number  expo.Number
	buf     []byte
}

var pages = sync.Pool{New: func() any {
	return &page{shown: make(shown), name: make([]byte, 0, 256), buf: make([]byte, 0, pieceSize+8<<10)}
}}

const pieceSize = 32 << 10 // of a page, so that its beginning is on its way while the rest is encoded

// ErrStale is wrapped by the error of a page of a backend that cannot be read, where what is known may be behind
// what another process has shown. Nothing was written.
var ErrStale = backend.ErrStale

// ErrPartial is wrapped by errors of strict pages that something would have been left out of.
var ErrPartial = errors.New("gotheus: the page would not be complete")

// WriteOptions are for Write. The zero value is the whole page in the text format 0.0.4.
type WriteOptions struct {
	Format expo.Format
	// Names selects families by the names of families or samples, with the prefix. Collectors are
	// asked only if the backend does not have all of them. Nil: all families.
	Names []string
	// Strict makes it an error that wraps ErrPartial, before anything is written, if the backend cannot
	// say what other processes did, or a collector or family would be left out.
	Strict bool
	// Scope says whose counts the page shows.
	Scope Scope
}

var wholePage WriteOptions

// WriteText writes the page in the text format 0.0.4. Collectors and the backend have ten seconds.
func (r *Registry) WriteText(w io.Writer) error { return r.Write(context.Background(), w, nil) }

// Write writes the page: all families of the backend, whichever process made them, and those of the
// collectors, by name, each with its series by label text. Nil options are the default. It writes in
// pieces while it encodes. Collectors have until shortly before ctx's deadline. When the backend cannot say
// what other processes did, the page shows what is known and Write returns the backend's error, but for one
// that wraps [ErrStale], with which nothing is written; otherwise the error is the writer's or ctx's, and the
// page ends where it happened. Families that would make a
// page that parsers reject are left out, logged, and counted in gotheus_hidden_series or
// gotheus_collector_errors_total.
func (r *Registry) Write(ctx context.Context, w io.Writer, o *WriteOptions) (err error) {
	start, size := time.Now(), 0
	defer func() { r.scraped(start, size, err) }()
	if o == nil {
		o = &wholePage
	}
	p := pages.Get().(*page)
	defer p.release()
	syncErr := r.gather(ctx, p, o)
	if errors.Is(syncErr, ErrStale) || errors.Is(syncErr, ErrScope) {
		return syncErr
	}
	if o.Strict {
		if err := cmp.Or(syncErr, p.omitted); err != nil {
			return fmt.Errorf("%w: %w", ErrPartial, err)
		}
	}
	e := p.encoderFor(o.Format)
	buf := p.buf[:0]
	defer func() { p.buf = buf[:0] }()
	send := func(atLeast int) (err error) {
		if len(buf) >= atLeast {
			if err = ctx.Err(); err == nil && len(buf) > 0 {
				size += len(buf)
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
				buf = f.collected.rows[j].encode(buf, e, f.collected)
				if err := send(pieceSize); err != nil {
					return err
				}
			}
			continue
		}
		for g, i := range p.series(f) {
			buf = p.encode(buf, e, g, i)
			if len(buf) >= pieceSize {
				if err := send(pieceSize); err != nil {
					return err
				}
			}
		}
	}
	buf = e.End(buf)
	p.encoder = e
	if err := send(0); err != nil {
		return err
	}
	return syncErr
}

// encoderFor takes an encoder, if possible that of the page before.
func (p *page) encoderFor(f expo.Format) expo.Encoder {
	if p.encoder == nil || p.format != f {
		p.format, p.encoder = f, expo.NewEncoder(f)
	}
	p.noStarts = !f.Created && f.Syntax != expo.OpenMetrics2 && f.Syntax != expo.Protobuf
	e := p.encoder
	p.encoder = nil // until the page is complete: in the middle of one, it has something of that left
	return e
}

// encode appends the i-th series of a group, unless it was deleted.
func (p *page) encode(dst []byte, e expo.Encoder, g *pageGroup, i int) []byte {
	f, s := g.Family, g.Series[i]
	if g.Parts != nil {
		return p.encodeParts(dst, e, f, s.Labels, g.Parts[i].List())
	}
	if f.Sealed(s.Words) {
		return dst
	}
	switch f.Kind {
	case backend.Counter:
		n := &p.number
		n.Int, n.Float = readCounter(f, s.Words)
		n.Start, n.Exemplar.Time = 0, 0
		if !p.noStarts {
			n.Start = readStart(f, s.Words)
		}
		if len(g.blocks) > 0 {
			p.counterExemplar(g, s)
		}
		return e.Number(dst, s.Labels, n)
	case backend.Histogram:
		p.further = g.blocksOf(p.further[:0], s.Labels)
		p.readHistogram(&p.dist, f, s.Words)
		p.exemplarsOf(&p.dist, f, s.Words)
	case backend.Summary:
		readSummary(&p.dist, s.Words)
		if f.Sketch != nil {
			p.further = g.blocksOf(p.further[:0], s.Labels)
			// The clock is asked for each series: a page may take longer than a slot.
			p.readQuantiles(&p.dist, f, s.Words, f.Sketch.Epoch(p.reg.Now()))
		}
	default:
		return p.float(dst, e, f, s.Labels, loadFloat(&s.Words[backend.GaugeValue]))
	}
	if !p.noStarts {
		p.dist.Start = readStart(f, s.Words)
	}
	return e.Distribution(dst, s.Labels, &p.dist)
}

func (p *page) counterExemplar(g *pageGroup, s *backend.Series) {
	p.further = g.blocksOf(p.further[:0], s.Labels)
	p.readExemplars(g.Family, s.Words, func(_ int, e expo.Exemplar) { p.number.Exemplar = e })
}

// float appends a series with nothing but a value, which is 1 for an info; the states of a state
// set are a series each.
func (p *page) float(dst []byte, e expo.Encoder, f *backend.Family, labels string, v float64) []byte {
	switch f.Kind {
	case backend.StateSet:
		return encodeStates(dst, e, f, labels, stateBits(v))
	case backend.Info:
		v = 1 // whatever another process has written
	}
	p.number = expo.Number{Float: v}
	return e.Number(dst, labels, &p.number)
}

// series ranges over a family's series by label text: groups, and where the series is in it.
func (p *page) series(f *pageFamily) func(yield func(*pageGroup, int) bool) {
	return func(yield func(*pageGroup, int) bool) {
		for i := range f.groups {
			for j := range f.groups[i].blocks {
				f.groups[i].blocks[j].next = 0
			}
		}
		if len(f.groups) == 1 {
			list := f.groups[0].Series
			for i := range list {
				if i%touched == 0 {
					p.touch(list[i:min(i+touched, len(list))])
				}
				if !yield(&f.groups[0], i) {
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
					least, from = list[at], i
				}
			}
			if least == nil || !yield(&f.groups[from], p.next[from]) {
				return
			}
			p.next[from]++
		}
	}
}

// blocksOf returns what else there is of a series. It is to be asked for series in ascending order.
func (g *pageGroup) blocksOf(into []block, labels string) []block {
	for i := range g.blocks {
		b := &g.blocks[i]
		for b.next < len(b.Series) && b.Series[b.next].Labels < labels {
			b.next++
		}
		if b.next < len(b.Series) && b.Series[b.next].Labels == labels {
			into = append(into, block{b.Family, b.Series[b.next].Words})
		}
	}
	return into
}

func (p *page) release() {
	if p.scraping {
		p.scraping = false
		p.reg.scrapeMu.RUnlock()
	}
	clear(p.families)
	p.families = p.families[:0]
	clear(p.groups)
	p.groups = p.groups[:0]
	clear(p.blocks)
	p.blocks = p.blocks[:0]
	clear(p.further[:cap(p.further)])
	p.reg, p.number, p.noStarts = nil, expo.Number{}, false
	p.only, p.follows = nil, false
	clear(p.shown)
	p.omitted = nil
	pages.Put(p)
}
