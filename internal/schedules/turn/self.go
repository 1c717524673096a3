//go:build 386 || amd64 || arm64

package turn

// self identifies the goroutine that has called, for as long as it runs: it is the address of the
// runtime's own record. Printing its number, as is done elsewhere, takes nearly all of the time of
// a run.
func self() uintptr
