//go:build !go1.28 && !purego

package spread

import _ "unsafe" // for go:linkname

// The runtime keeps these two for packages that have come to depend on them, see
// go.dev/issue/67401, but promises nothing. So the build tag above ends at the first release that
// this package was not checked with; from there on, the twin in portable.go takes over. To admit a
// release:
//
//  1. see in its src/runtime/proc.go that procPin and procUnpin still have a go:linkname of their
//     own, these signatures, and the meaning that Place relies on;
//  2. raise the release in the build tags of both files, and run this package's tests and
//     benchmarks, and the root package's tests of stripes, with that release.

//go:linkname procPin runtime.procPin
func procPin() int

//go:linkname procUnpin runtime.procUnpin
func procUnpin()

// Place returns the number of the processor (P) that runs the goroutine, and disables preemption
// until Free. It is a separate function from Free so that both are inlined.
func Place() int { return procPin() }

// Free must be called after Place.
func Free() { procUnpin() }
