package page

import (
	"context"
	"io"

	"github.com/gotheus/gotheus/expo"
	"github.com/gotheus/gotheus/internal/backend"
	"github.com/gotheus/gotheus/internal/index"
	"github.com/gotheus/gotheus/internal/word"
)

// pieceSize is the number of bytes after which a part of the page is written, so that its beginning
// is on its way while the rest is encoded.
const pieceSize = 32 << 10

// Write encodes the page and writes it in pieces. It returns the number of bytes written.
func (p *Page) Write(ctx context.Context, w io.Writer) (size int, err error) {
	e := p.takeEncoder()
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
	for i := range p.Families {
		f := &p.Families[i]
		buf = e.Family(buf, &f.Family)
		if c := f.collected; c != nil {
			for j := range c.Rows {
				buf = c.Rows[j].encode(buf, e, c)
				if err := send(pieceSize); err != nil {
					return size, err
				}
			}
			continue
		}
		e := f.encoder(e)
		for g, i := range p.series(f) {
			buf = p.encode(buf, e, g, i)
			if len(buf) >= pieceSize {
				if err := send(pieceSize); err != nil {
					return size, err
				}
			}
		}
	}
	buf = e.End(buf)
	p.encoder = e
	return size, send(0)
}

// takeEncoder returns the encoder of the previous page if the format is the same, or else a new
// one.
func (p *Page) takeEncoder() expo.Encoder {
	f := p.o.Format
	if p.encoder == nil || p.encoded != f {
		p.encoded, p.encoder = f, expo.NewEncoder(f)
	}
	p.noStarts = !f.Created && f.Syntax != expo.OpenMetrics2 && f.Syntax != expo.Protobuf
	e := p.encoder
	p.encoder = nil // Write stores it again after End: one that stops halfway is not reusable
	return e
}

// encode appends the i-th series of a group, unless it was deleted.
func (p *Page) encode(dst []byte, e expo.Encoder, g *index.Joined, i int) []byte {
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
		n.Int, n.Float = Counter(f, s.Words)
		n.Start, n.Exemplar.Time = 0, 0
		if !p.noStarts {
			n.Start = start(f, s.Words)
		}
		if g.HasBlocks() {
			p.counterExemplar(g, s)
		}
		return e.Number(dst, s.Labels, n)
	case backend.Histogram:
		p.Blocks = g.Blocks(p.Blocks[:0], s.Labels)
		p.Histogram(&p.dist, f, s.Words)
		p.exemplars(&p.dist, f, s.Words)
	case backend.Summary:
		Summary(&p.dist, s.Words)
		if f.Sketch != nil {
			p.Blocks = g.Blocks(p.Blocks[:0], s.Labels)
			// The clock is read for each series: making the page may take longer than a
			// slot.
			p.quantiles(&p.dist, f, s.Words, f.Sketch.Epoch(p.source.Clock.Now()))
		}
	default:
		return p.value(dst, e, f, s.Labels, word.Float(&s.Words[backend.GaugeValue]))
	}
	if !p.noStarts {
		p.dist.Start = start(f, s.Words)
	}
	return e.Distribution(dst, s.Labels, &p.dist)
}

func (p *Page) counterExemplar(g *index.Joined, s *backend.Series) {
	p.Blocks = g.Blocks(p.Blocks[:0], s.Labels)
	p.readExemplars(g.Family, s.Words, func(_ int, e expo.Exemplar) { p.number.Exemplar = e })
}

// value appends a series with a single value, which is always 1 for an info. It appends a state set
// as one series per state.
func (p *Page) value(dst []byte, e expo.Encoder, f *backend.Family, labels string, v float64) []byte {
	switch f.Kind {
	case backend.StateSet:
		return encodeStates(dst, e, f, labels, backend.StateBits(v))
	case backend.Info:
		v = 1 // regardless of what another process has written
	}
	p.number = expo.Number{Float: v}
	return e.Number(dst, labels, &p.number)
}

// series ranges over a family's series in order of label text. It yields a series' group and index.
func (p *Page) series(f *Family) func(yield func(*index.Joined, int) bool) {
	p.source = f.source
	return func(yield func(*index.Joined, int) bool) {
		for i := range f.groups {
			f.groups[i].Rewind()
		}
		if len(f.groups) == 1 {
			list := f.groups[0].Series
			for i := range list {
				if i%prefetched == 0 {
					p.prefetch(list[i:min(i+prefetched, len(list))])
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
