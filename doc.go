// Package gotheus provides Prometheus metrics for programs that run as more than one process.
//
// Code declares metrics and updates them:
//
//	var requests = gotheus.NewCounterVec("requests_total", "Requests.", nil, "method", "path")
//
//	requests.With("GET", "/").Inc()
//
// Options are the third argument, and nil stands for the defaults, as with the handlers of
// log/slog. Labels come last, since their number varies. A wrong order does not compile.
//
// Where the values live is chosen elsewhere, by [Bind] or, taking precedence, the environment
// variable GOTHEUS_BACKEND: in the memory of the process, in a file that all processes of a host
// map, in Redis or Valkey for processes on any number of hosts (module redisstore), or in a store
// of your own. The metrics, their cost and their behaviour are the same everywhere. The page of any
// process is the exact total of all of them.
//
// # Concepts
//
// A family is a name with a help text, a type and label names. It consists of series, one for each
// set of label values. [Counter], [Gauge], [Histogram], [Summary] and [StateSet] are instruments:
// the series that code updates. A [Vec] is a family with labels; [Vec.With] finds or creates the
// instrument for a set of label values; [VecOf] is the same with a struct for the values.
// [CounterVec] and the like are short for Vec[Counter] and so on, for fields and parameters. A
// [Registry] has families, collectors, a prefix and constant labels, and uses one backend at a
// time. Package-level functions use the registry that [Default] returns.
//
// # Processes
//
// Metrics are usually package variables, defined before main can choose a backend. Until then they
// count in the heap. Binding carries over what was counted, at any moment and under full load,
// without losing or doubling an update. If a backend cannot be opened, counting goes on in the heap
// and the registry retries.
//
// In shared memory, all processes see an update when the call returns, and it survives the death of
// the process, however sudden. A store, such as Redis, receives it half a second later. Counters,
// histograms and summaries add up over processes. A gauge is one value for all, unless its
// [GaugeOptions] have another mode, such as the sum over live processes for what is in progress.
//
// Registries that share a backend share a page: two registries of one process that are bound to the
// same backend both show the families of both. To keep them apart, give each its own backend, or
// its own namespace in a store.
//
// # Life of a series
//
// A series exists, at zero, from its first look-up on, or from when it is declared. [Vec.Delete]
// deletes one for all processes, [Vec.DeleteMatching] those with some label values. With a time to
// live in [CounterOptions], series that no process has updated for that long are deleted. An
// instrument of a deleted series still works: its next update brings the series back, from zero.
//
// # Timing
//
// Deferred, ObserveSince, SetSince and AddSince measure a function whether it returns or panics. A
// [Probe] measures calls with their errors and panics. Tests can give a registry its own clock, see
// [RegistryOptions].
//
// # Cost
//
// In every backend, an update is an atomic operation on 8 bytes of memory: no lock, no allocation,
// no system call. Looking up label values that were seen before takes no lock and allocates
// nothing; keeping the instrument saves even that. Creating a series takes some microseconds. By
// default, look-ups create at most 10000 series in a family; beyond that, new label
// values share one series, see [Vec].
//
// # Errors
//
// Definitions are checked when they are made. NewCounter and the like, and [Vec.With], panic with
// an error that names the metric and the value; [TryNew], [TryNewVec] and [Vec.TryWith] return it.
// This is the rule for all names: X panics where TryX returns the error, and the error wraps
// [ErrInvalid], [ErrConflict] or [ErrLabels]. Defining an existing metric again returns it; zero
// options then take its settings. Updates never fail: a value that makes no sense, such as a
// negative addition to a counter, is ignored, counted in gotheus_rejected_updates_total and logged.
// The environment (disk, other processes) never causes a panic. The library logs through log/slog,
// at most once a minute for the same cause.
//
// # Pages
//
// Package metrichttp serves pages over HTTP. [Registry.WriteText] writes one anywhere;
// [Registry.Families] ranges over one. Families are ordered by name, series by their labels.
package gotheus
