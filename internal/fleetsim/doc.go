// Package fleetsim simulates fleets of processes on a store.
package fleetsim
