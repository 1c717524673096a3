// Package collectors provides collectors that most Go programs can use: for the Go runtime, the
// process, the build and database connections. Package collectors/expvars is for the variables of
// package expvar.
//
// They describe the process that they run in. If processes share a backend, each page shows the
// values of all of them, distinguished by the label "process"; see [gotheus.ProcessCollector].
// Names and types are those that dashboards for Go programs expect.
package collectors

import (
	"context"
	"database/sql"
	"fmt"
	"runtime/debug"

	"github.com/gotheus/gotheus"
)

// Register adds [Go], [Process] and [BuildInfo] to r, or to the default registry if that is nil.
func Register(r *gotheus.Registry) (remove func()) {
	if r == nil {
		r = gotheus.Default()
	}
	var all []func()
	for _, c := range []gotheus.Collector{&Go{}, &Process{}, BuildInfo{}} {
		all = append(all, r.Register(c))
	}
	return func() {
		for _, remove := range all {
			remove()
		}
	}
}

// BuildInfo collects go_build_info: path, version and checksum of the program's main module, from
// [debug.ReadBuildInfo].
type BuildInfo struct{ perProcess }

// Collect implements gotheus.Collector.
func (BuildInfo) Collect(_ context.Context, s *gotheus.Sink) error {
	path, version, sum := "unknown", "unknown", "unknown"
	if info, ok := debug.ReadBuildInfo(); ok {
		path, version, sum = info.Main.Path, info.Main.Version, info.Main.Sum
	}
	s.Info("go_build_info", "Main module of the program.", "path", "version", "checksum").Put(path, version, sum)
	return nil
}

// DB collects go_sql_*, the statistics of a connection pool, see [sql.DBStats]. Several with
// different names may be registered.
type DB struct {
	perProcess
	DB   interface{ Stats() sql.DBStats } // a *sql.DB; required
	Name string                           // value of the label db_name
}

// Collect implements gotheus.Collector.
func (d *DB) Collect(_ context.Context, s *gotheus.Sink) error {
	if d.DB == nil {
		return fmt.Errorf("%w: collectors.DB with the name %q: DB is nil", gotheus.ErrInvalid, d.Name)
	}
	st := d.DB.Stats()
	gauge := func(name, help string, v int) { s.Gauge("go_sql_"+name, help, "db_name").Put(float64(v), d.Name) }
	counter := func(name, help string, v float64) { s.Counter("go_sql_"+name, help, "db_name").Put(v, d.Name) }
	gauge("max_open_connections", "Limit of open connections; 0: none.", st.MaxOpenConnections)
	gauge("open_connections", "Open connections, in use or idle.", st.OpenConnections)
	gauge("in_use_connections", "Connections in use.", st.InUse)
	gauge("idle_connections", "Idle connections.", st.Idle)
	counter("wait_count_total", "Connections that had to be waited for.", float64(st.WaitCount))
	counter("wait_duration_seconds_total", "Time spent waiting for connections.", st.WaitDuration.Seconds())
	counter("max_idle_closed_total", "Connections closed because too many were idle.", float64(st.MaxIdleClosed))
	counter("max_idle_time_closed_total", "Connections closed because they were idle for too long.", float64(st.MaxIdleTimeClosed))
	counter("max_lifetime_closed_total", "Connections closed because they were too old.", float64(st.MaxLifetimeClosed))
	return nil
}

// perProcess makes a collector a gotheus.ProcessCollector.
type perProcess struct{}

// PerProcess implements gotheus.ProcessCollector.
func (perProcess) PerProcess() {}
