//go:build !race

package fleetsim

const share = 1
