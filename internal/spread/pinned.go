//go:build go1.25 && !go1.28 && !purego

package spread

import _ "unsafe" // for go:linkname

// The runtime keeps these two functions for packages that depend on them, see go.dev/issue/67401. A
// Go release is added to the build tag once this package was tested with it.

//go:linkname procPin runtime.procPin
func procPin() int

//go:linkname procUnpin runtime.procUnpin
func procUnpin()

// Place returns the number of the processor (P) that runs the goroutine, and disables preemption
// until Free. It is a separate function from Free so that both are inlined.
func Place() int { return procPin() }

// Free must be called after Place.
func Free() { procUnpin() }
