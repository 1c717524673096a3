package page

import (
	"fmt"
	"log/slog"
	"slices"
	"strings"

	"github.com/gotheus/gotheus/expo"
	"github.com/gotheus/gotheus/internal/backend"
	"github.com/gotheus/gotheus/internal/index"
)

// once is an encoder that writes each series of a family once. To Prometheus, a label without a
// value is none: where programs disagree about the labels of x, their series x and x{a=""} are the
// same. Within a group, all series have the same labels, so there are no such series.
type once struct {
	expo.Encoder
	escaping expo.Escaping
	shown    map[string]string // label texts, by what Prometheus makes of them
}

func (o *once) Number(dst []byte, labels string, n *expo.Number) []byte {
	if o.repeats(labels) {
		return dst
	}
	return o.Encoder.Number(dst, labels, n)
}

func (o *once) Distribution(dst []byte, labels string, d *expo.Distribution) []byte {
	if o.repeats(labels) {
		return dst
	}
	return o.Encoder.Distribution(dst, labels, d)
}

// repeats reports whether the series is the same to Prometheus as another one, which was there
// before.
func (o *once) repeats(labels string) bool {
	key := o.key(labels)
	shown, ok := o.shown[key]
	if !ok {
		o.shown[key] = labels
	}
	return ok && shown != labels
}

// key returns the labels that Prometheus sees on the page.
func (o *once) key(labels string) string {
	if o.escaping == expo.AllowUTF8 && !withoutValue(labels) {
		return labels
	}
	var list []string
	for name, value := range backend.ParseLabels(labels) {
		if value != "" {
			list = append(list, backend.AppendLabel("", o.escaping.LabelName(name), value))
		}
	}
	if o.escaping != expo.AllowUTF8 { // escaping may change the order of the names
		slices.Sort(list)
	}
	return strings.Join(list, ",")
}

// withoutValue reports whether one of the labels has no value. In values and names, there is a
// backslash before a quote.
func withoutValue(labels string) bool { return strings.Contains(labels, `=""`) }

// showOnce returns the encoder that the groups of a family need, which are those of the page, the
// newest first. It is nil if all series differ. Of those that are the same, the first one that
// exists is shown. The others are logged, and it returns their number.
func (p *Page) showOnce(s *Source, groups []index.Joined) (o *once, hidden int) {
	if len(groups) < 2 || !slices.ContainsFunc(groups, func(g index.Joined) bool {
		return slices.ContainsFunc(g.Series, func(s *backend.Series) bool { return withoutValue(s.Labels) })
	}) {
		return nil, 0
	}
	return p.findRepeated(s, groups)
}

// findRepeated is showOnce where series can be the same. It is a function of its own since it
// allocates.
func (p *Page) findRepeated(s *Source, groups []index.Joined) (o *once, hidden int) {
	f := groups[0].Family
	o = &once{escaping: p.o.Format.NameEscaping(), shown: make(map[string]string)}
	other, repeated := "", ""
	w := &walker{yield: func(labels string, _ *expo.Number, _ *expo.Distribution) bool {
		if o.repeats(labels) {
			hidden++
			other, repeated = o.shown[o.key(labels)], labels
		}
		return true
	}}
	p.source = s
	for i := range groups {
		for j := range groups[i].Series {
			p.encode(nil, w, &groups[i], j)
		}
	}
	hidden /= max(len(f.States), 1) // each of which is a sample
	if hidden > 0 {
		p.o.Log.Log(slog.LevelWarn, "labels "+f.Name,
			"programs disagree about a metric's labels, and some of its series differ only in labels without a value, which Prometheus takes for none; "+
				"the page shows those of the last definition by a live process; the others keep counting; give such labels a value",
			"metric", f.Name, "shown", "{"+other+"}", "hidden", "{"+repeated+"}", "series", hidden)
		p.Omit(fmt.Errorf("programs disagree about the labels of %s: {%s} and {%s} are the same series", f.Name, other, repeated))
	}
	return o, hidden
}

// encoder returns the encoder for the series of f on a page that e encodes.
func (f *Family) encoder(e expo.Encoder) expo.Encoder {
	if f.once == nil {
		return e
	}
	f.once.Encoder = e
	return f.once
}
