//go:build linux

package main

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// page has what is checked of a page: the grand total, and the values by tenant of the families
// that each operation adds 1 to.
type page struct {
	grand   float64
	tenants map[string]map[int]float64 // by family
}

// parse reads a page in the text format or OpenMetrics. It is not the library's parser, since the
// library must not check itself.
func parse(text string) (*page, error) {
	p := &page{grand: -1, tenants: make(map[string]map[int]float64)}
	for line := range strings.Lines(text) {
		name, rest, ok := strings.Cut(line, "{")
		if !ok {
			name, rest, _ = strings.Cut(line, " ")
		}
		if name != grand && !slices.Contains(perTenant, name) {
			continue
		}
		labels := ""
		if ok {
			labels, rest, _ = strings.Cut(rest, "} ")
		}
		fields := strings.Fields(rest) // OpenMetrics has more than the value
		if len(fields) == 0 {
			return nil, fmt.Errorf("not a sample: %q", line)
		}
		value, err := strconv.ParseFloat(fields[0], 64)
		if err != nil {
			return nil, fmt.Errorf("%w: %q", err, line)
		}
		if name == grand {
			p.grand = value
			continue
		}
		digits, okStart := strings.CutPrefix(labels, `tenant="tenant-`)
		tenant, err := strconv.Atoi(strings.TrimSuffix(digits, `"`))
		if !okStart || err != nil {
			return nil, fmt.Errorf("not a tenant: %q", line)
		}
		if p.tenants[name] == nil {
			p.tenants[name] = make(map[int]float64)
		}
		p.tenants[name][tenant] = value
	}
	if p.grand < 0 {
		return nil, fmt.Errorf("there is no %s on the page", grand)
	}
	return p, nil
}

// ledger says what must be on a page, exactly: what workers that ended and those that are alive
// have counted, less what tenants had that are deleted. Only for workers that were killed since the
// last check there are two bounds.
type ledger struct {
	ended     map[string]float64 // by family
	low, high float64            // of workers that were killed since the last check
	deleted   map[string]float64 // by family; what tenants had when they were deleted
	last      *page
}

func newLedger() *ledger {
	return &ledger{ended: make(map[string]float64), deleted: make(map[string]float64)}
}

// end adds what a worker counted that has ended properly.
func (l *ledger) end(done uint64) {
	for _, f := range append(perTenant, grand) {
		l.ended[f] += float64(done)
	}
}

// kill adds what a worker may have counted that was killed.
func (l *ledger) kill(low, high uint64) { l.low, l.high = l.low+float64(low), l.high+float64(high) }

// check compares a page with what live workers have counted, and says what is wrong. Workers and
// their tenants, which are from first to end, must have paused.
func (l *ledger) check(p *page, done uint64, first, end int) (problems []string) {
	for _, f := range append(perTenant, grand) {
		got := p.grand
		if f != grand {
			got = l.deleted[f]
			for _, tenant := range slices.Sorted(maps.Keys(p.tenants[f])) {
				v := p.tenants[f][tenant]
				got += v
				if tenant < first || tenant >= end {
					problems = append(problems, fmt.Sprintf("%s has tenant %d, which was deleted, with %v; %d to %d are alive", f, tenant, v, first, end-1))
				}
				if l.last != nil && v < l.last.tenants[f][tenant] {
					problems = append(problems, fmt.Sprintf("%s of tenant %d was %v, and is %v", f, tenant, l.last.tenants[f][tenant], v))
				}
			}
		}
		want := l.ended[f] + float64(done)
		if low, high := want+l.low, want+l.high; got < low || got > high {
			bounds := fmt.Sprint(low)
			if low != high {
				bounds = fmt.Sprintf("from %v to %v", low, high)
			}
			problems = append(problems, fmt.Sprintf("%s adds up to %v, workers acknowledged %s", f, got, bounds))
		}
		l.ended[f] = got - float64(done) // so that a difference is reported once
	}
	l.low, l.high, l.last = 0, 0, p
	return problems
}

// forget removes tenants that are deleted after a check.
func (l *ledger) forget(first, n int) {
	for _, f := range perTenant {
		for i := range n {
			l.deleted[f] += l.last.tenants[f][first+i]
			delete(l.last.tenants[f], first+i)
		}
	}
}
