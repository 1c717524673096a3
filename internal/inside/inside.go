// Package inside gives packages of this module access to the internals of a registry that the API
// does not expose. Tests use it to decide when series expire and windows advance.
package inside

import "github.com/gotheus/gotheus/internal/series"

// Home returns the series.Home of a *gotheus.Registry. Package gotheus sets it.
var Home func(registry any) *series.Home
