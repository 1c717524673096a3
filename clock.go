package gotheus

import (
	"math"
	"time"
)

// Now returns the time by the registry's clock, which is time.Now unless [RegistryOptions] has
// another.
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

// since returns the seconds that have passed since start. If start cannot be right, it is 0, and
// that is reported: the event has happened, whatever its time was.
func (f *family) since(op string, start time.Time) float64 {
	v := f.reg.since(start)
	if v < 0 || v > farBack && start.IsZero() {
		f.report("a time was taken for 0", op, start, "the start must be a time by the registry's clock, and not be later than now")
		return 0
	}
	return v
}

// farBack is from how many seconds before now on the zero time is one that was never set. A clock
// of a test may begin there.
const farBack = 1e9

// since returns the seconds that have passed since start by the registry's clock.
func (r *Registry) since(start time.Time) float64 {
	if r.opts.Now != nil {
		return r.opts.Now().Sub(start).Seconds()
	}
	return time.Since(start).Seconds() // cheaper than time.Now().Sub
}
