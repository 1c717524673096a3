// Package inside lets packages of this module reach what a registry is made of, where the API
// offers nothing of the kind. Tests choose by it when series expire and windows move.
package inside

import "github.com/gotheus/gotheus/internal/series"

// Home returns what a *gotheus.Registry has for its families. Package gotheus sets it.
var Home func(registry any) *series.Home
