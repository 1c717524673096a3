package collect

import (
	"fmt"
	"slices"

	"github.com/gotheus/gotheus/internal/series"
)

// Samples are the series that a process collector has stored. Each round of it overwrites them. It
// is not safe for concurrent use.
type Samples struct {
	Home   *series.Home
	Labels series.Labels // constant ones

	round    uint64
	families map[*series.Family]bool
}

// Store stores a round of a collector's families, and removes series that are not in the round from
// pages. It returns the number of new series, and *FamilyErrors about what was not stored.
func (s *Samples) Store(families []*Draft) (isNew uint64, errs []error) {
	s.round++
	for _, d := range families {
		f, err := s.Home.Enter(s.define(d))
		if err != nil {
			errs = append(errs, &FamilyError{d.Name, err})
			continue
		}
		if s.families == nil {
			s.families = make(map[*series.Family]bool)
		}
		s.families[f] = true
		table := f.Table().(*series.Sampled)
		for i := range d.Rows {
			row := &d.Rows[i]
			added, ok := table.Write(s, s.round, &series.Value{Labels: row.Labels, Number: row.Number.Value(), Dist: &row.Dist})
			if added {
				isNew++
			}
			if !ok {
				err := fmt.Errorf("%w: %s: two collectors have the series {%s}", series.ErrConflict, d.Name, row.Labels)
				errs = append(errs, &FamilyError{d.Name, err})
			}
		}
	}
	s.forget()
	return isNew, errs
}

func (s *Samples) define(d *Draft) *series.Family {
	def := d.Def
	open := slices.DeleteFunc(slices.Clone(def.Labels), func(l string) bool { _, ok := s.Labels[l]; return ok })
	f := &series.Family{Home: s.Home, Def: &def, Shared: s.Labels, Constant: s.Labels, Open: open, IsVec: true, Source: "a collector"}
	f.Given.Buckets = true
	f.SetMax(-1)
	f.Prepare()
	series.NewSampled(f)
	return f
}

// Drop removes all series from pages.
func (s *Samples) Drop() {
	s.round++
	s.forget()
}

// forget removes the series that are not in this round from pages.
func (s *Samples) forget() {
	for f := range s.families {
		f.Table().(*series.Sampled).Forget(s, s.round)
	}
}
