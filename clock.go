package gotheus

import "time"

// Now returns the time by the registry's clock, which is time.Now unless [RegistryOptions] has another.
func (r *Registry) Now() time.Time {
	if r.opts.Now != nil {
		return r.opts.Now()
	}
	return time.Now()
}

// since returns the seconds that have passed since start by the registry's clock.
func (r *Registry) since(start time.Time) float64 {
	if r.opts.Now != nil {
		return r.opts.Now().Sub(start).Seconds()
	}
	return time.Since(start).Seconds() // cheaper than time.Now().Sub
}
