//go:build race

package fleetsim

// share is how many of the random histories are run: the race detector makes them ten times as
// slow, and needs fewer of them.
const share = 5
