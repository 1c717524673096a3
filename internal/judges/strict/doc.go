// Package strict contains only tests, in which the newest versions of third-party parsers read our
// pages. They need a later Go than the other modules, so this one is not in go.work: run its tests
// with GOWORK=off.
package strict
