//go:build race

package tests_test

// With the race detector, a sync.Pool drops some objects at random.
func init() { poolsDrop = true }
