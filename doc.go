// Package gotheus is Prometheus metrics for programs that run as more than one process.
//
// Code declares metrics and updates them:
//
//	var requests = gotheus.NewCounterVec("requests_total", "Requests.", nil, "method", "path")
//
//	requests.With("GET", "/").Inc()
//
// Options come third, where nil stands for the usual ones, as with the handlers of log/slog; labels
// come last, since their number varies; and a wrong order does not compile.
//
// Where the values live is chosen elsewhere, by [Bind] or the environment variable GOTHEUS_BACKEND:
// in the memory of the process, in a file that all processes of a host map, in Redis or Valkey for
// processes on any hosts (module redisstore), or in a store of one's own. The metrics, their cost
// and their behaviour are the same everywhere. The page of any process is the exact total of all of
// them.
//
// # Concepts
//
// A family is a name with a help text, a type and label names. It consists of series, one for each
// set of label values. [Counter], [Gauge], [Histogram] and [Summary] are series that code updates,
// its instruments. A [Vec] is a family with labels; [Vec.With] finds the instrument for a set of
// label values, or makes it; [VecOf] is the same with a struct for the values. [CounterVec] and its
// like are short for Vec[Counter] and so on, for fields and parameters. A [Registry] has families,
// collectors, a prefix and constant labels, and lives in one backend. Package-level functions use
// the registry that [Default] returns.
//
// # Processes
//
// Metrics are usually package variables, made before main can choose a backend. They count in the
// heap until then. Binding carries over what was counted, at any moment and under full load,
// without losing or doubling an update. A backend that cannot be opened stops nothing: counting
// goes on in the heap and the registry tries again.
//
// In shared memory, an update is seen by all processes when the call returns, and survives the
// death of the process, however sudden. A store, such as Redis, has it half a second later.
// Counters, histograms and summaries add up over processes. A gauge is one value for all, unless it
// has another mode in [GaugeOptions]: the sum over live processes, for instance, for what is in
// progress.
//
// What shares a backend shares a page: two registries of one process that are bound to the same
// backend both show the families of both. To keep them apart, give each a backend, or a namespace
// of a store, of its own.
//
// # Life of a series
//
// A series exists, at zero, from its first look-up on, or from when it is declared. [Vec.Delete]
// removes one for all processes, [Vec.DeleteMatching] those with some label values; with a time to
// live in [CounterOptions], those that nobody has updated for so long vanish. An instrument of a
// series that is gone still works: its next update brings the series back, from zero.
//
// # Timing
//
// ObserveSince, SetSince and AddSince are deferred and measure a function whichever way it is left.
// A [Probe] measures calls with their errors and panics. Tests give a registry a clock of its own,
// see [RegistryOptions].
//
// # Cost
//
// An update is an atomic operation on a word of memory, in every backend: no lock, no allocation,
// no system call. Looking up label values that were seen before takes no lock and allocates
// nothing; a kept instrument saves even that. Making a series costs some microseconds. Look-ups of
// a process make 10000 series of a family, unless told otherwise; after that, new label values
// share one, see [Vec].
//
// # Errors
//
// Definitions are checked when they are made. NewCounter and its like, and [Vec.With], panic with
// an error that names the metric and the value; [TryNew], [TryNewVec] and [Vec.TryWith] return it.
// It is so for all names: X panics where TryX returns the error, and the error wraps [ErrInvalid],
// [ErrConflict] or [ErrLabels]. Asking again for a metric that is there returns it; options that
// are zero then mean what it has. Updates never fail: a value that makes no sense, such as a
// negative addition to a counter, is ignored, counted in gotheus_rejected_updates_total and logged.
// The environment (disk, other processes) never causes a panic. The library logs through log/slog,
// the same cause at most once a minute.
//
// # Pages
//
// Package metrichttp serves pages over HTTP. [Registry.WriteText] writes one anywhere;
// [Registry.Families] ranges over one. Families are ordered by name, series by their label text.
package gotheus
