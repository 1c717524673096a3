// Package inside gives packages of this module access to the internals of a registry that the API
// does not expose. Tests use it to decide when series expire and windows advance, and to bind
// registries to backends of their own.
package inside

import (
	"context"

	"github.com/gotheus/gotheus/internal/backend"
	"github.com/gotheus/gotheus/internal/series"
)

// Home returns the series.Home of a *gotheus.Registry. Package gotheus sets it.
var Home func(registry any) *series.Home

// Bind is like Bind of a *gotheus.Registry, for a backend that is already open. From then on the
// registry owns it, and Close closes it. On error, nothing has changed. Package gotheus sets it.
var Bind func(ctx context.Context, registry any, b backend.Backend) error
