//go:build race

package tests_test

// With the race detector, a sync.Pool drops some of what is put into it.
func init() { poolsDrop = true }
