// Package strict has tests only: the newest versions of the judges read the pages that we write. They need a
// later Go than the other modules, so this one is not in go.work: run its tests with GOWORK=off.
package strict
