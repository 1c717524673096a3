//go:build go1.25 && !go1.28 && !purego

package spread

import _ "unsafe" // for go:linkname

// The runtime keeps these two for packages that have come to depend on them, see go.dev/issue/67401. Releases are
// named in the build tag once this package was tested with them.

//go:linkname procPin runtime.procPin
func procPin() int

//go:linkname procUnpin runtime.procUnpin
func procUnpin()

// Place returns the number of the processor (P) that runs the goroutine, which is not preempted until Free. Both are
// functions so that they are inlined.
func Place() int { return procPin() }

// Free must follow Place.
func Free() { procUnpin() }
