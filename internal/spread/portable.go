//go:build go1.28 || purego

package spread

// Place returns a number from a pool.
func Place() int { return pooled() }

// Free must be called after Place.
func Free() {}
