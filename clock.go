package gotheus

import (
	"math"
	"time"
)

// Now returns the time by the registry's clock, which is time.Now unless [RegistryOptions] has another.
func (r *Registry) Now() time.Time {
	if r.opts.Now != nil {
		return r.opts.Now()
	}
	return time.Now()
}

// nanoseconds returns t in nanoseconds since 1970, or 0 if it is before that or centuries after.
func nanoseconds(t time.Time) int64 {
	if s := t.Unix(); s < 0 || s >= math.MaxInt64/int64(time.Second) {
		return 0
	}
	return t.UnixNano()
}

// since returns the seconds that have passed since start by the registry's clock.
func (r *Registry) since(start time.Time) float64 {
	if r.opts.Now != nil {
		return r.opts.Now().Sub(start).Seconds()
	}
	return time.Since(start).Seconds() // cheaper than time.Now().Sub
}
