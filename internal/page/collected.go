package page

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/gotheus/gotheus/expo"
	"github.com/gotheus/gotheus/internal/backend"
)

// Collected is a family that a collector provides.
type Collected struct {
	expo.Family
	Def  backend.Family // has its labels and states, and defines how it is stored
	Rows []Row          // in ascending order of label text, after Sort
}

// Row is a series of a collected family.
type Row struct {
	Labels string
	Number expo.Number
	Dist   expo.Distribution
}

// Sort sorts the rows by label text. It returns an error if two have the same labels.
func (c *Collected) Sort() error {
	slices.SortFunc(c.Rows, func(a, b Row) int { return strings.Compare(a.Labels, b.Labels) })
	for i := 1; i < len(c.Rows); i++ {
		if c.Rows[i].Labels == c.Rows[i-1].Labels {
			return fmt.Errorf("the series {%s} is given twice", c.Rows[i].Labels)
		}
	}
	return nil
}

// Join returns the rows of c together with another collector's rows of the same family.
func (c *Collected) Join(other *Collected) ([]Row, error) {
	if !c.Def.Alike(&other.Def) || !slices.Equal(c.Def.Labels, other.Def.Labels) || c.Type != other.Type || c.Help != other.Help || !slices.Equal(c.Bounds, other.Bounds) {
		return nil, errors.New("two collectors disagree about its definition")
	}
	all := *c
	all.Rows = append(slices.Clone(c.Rows), other.Rows...)
	err := all.Sort()
	return all.Rows, err
}

func (r *Row) encode(dst []byte, e expo.Encoder, c *Collected) []byte {
	switch c.Type {
	case expo.Histogram, expo.Summary:
		return e.Distribution(dst, r.Labels, &r.Dist)
	case expo.StateSet:
		return encodeStates(dst, e, &c.Def, r.Labels, r.Number.Int)
	}
	return e.Number(dst, r.Labels, &r.Number)
}
