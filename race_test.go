//go:build race

package gotheus_test

// With the race detector, a sync.Pool drops some of what is put into it.
func init() { poolsDrop = true }
