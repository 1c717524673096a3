package gotheus_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"time"

	"github.com/gotheus/gotheus"
)

func ExampleProbe_Do() {
	r := new(gotheus.Registry)
	saves := &gotheus.Probe{
		Seconds:  r.NewHistogram("save_seconds", "Time to save.", nil).Observe,
		InFlight: r.NewGauge("saves_in_flight", "Saves going on.", &gotheus.GaugeOptions{Mode: gotheus.ModeSum}),
		Errors:   r.NewCounter("save_errors_total", "Saves that failed.", nil),
		Panics:   r.NewCounter("save_panics_total", "Saves that panicked.", nil),
	}
	save := func(name string) error {
		return saves.Do(func() error {
			if name == "" {
				return errors.New("no name")
			}
			return nil
		})
	}
	fmt.Println(save("a"), save(""))
	fmt.Println("errors", saves.Errors.Value(), "panics", saves.Panics.Value(), "in flight", saves.InFlight.Value())
	// Output:
	// <nil> no name
	// errors 1 panics 0 in flight 0
}

// A panic is measured, and propagates.
func ExampleProbe_Run() {
	r := new(gotheus.Registry)
	cleaning := &gotheus.Probe{
		Seconds: r.NewGauge("last_cleaning_seconds", "How long the last cleaning took.", nil).Set,
		Panics:  r.NewCounter("cleaning_panics_total", "Cleanings that panicked.", nil),
	}
	defer func() {
		fmt.Println(recover(), cleaning.Panics.Value())
	}()
	cleaning.Run(func() {
		panic("the disk is gone")
	})
	// Output: the disk is gone 1
}

// Run can measure a function of any signature.
func ExampleProbe_Run_results() {
	var sorting gotheus.Probe
	var n, m int
	sorting.Run(func() { n, m = 1, 2 })
	fmt.Println(n, m)
	// Output: 1 2
}

func ExampleCall() {
	r := new(gotheus.Registry)
	parse := &gotheus.Probe{
		Seconds: r.NewSummary("parse_seconds", "Time to parse.", nil).Observe,
		Errors:  r.NewCounter("parse_errors_total", "What could not be parsed.", nil),
	}
	atoi := func(ctx context.Context, text string) (int, error) {
		return gotheus.Call(ctx, parse, func(context.Context) (int, error) { return strconv.Atoi(text) })
	}
	fmt.Println(atoi(context.Background(), "12"))
	_, err := atoi(context.Background(), "twelve")
	fmt.Println(err, parse.Errors.Value())
	// Output:
	// 12 <nil>
	// strconv.Atoi: parsing "twelve": invalid syntax 1
}

func ExampleMatchErrors() {
	r := new(gotheus.Registry)
	query := &gotheus.Probe{
		Errors: r.NewCounter("lost_connections_total", "Queries that lost the connection.", nil),
		Match:  gotheus.MatchErrors(sql.ErrConnDone, io.ErrUnexpectedEOF),
	}
	for _, err := range []error{sql.ErrNoRows, fmt.Errorf("query: %w", sql.ErrConnDone), nil} {
		_ = query.Do(func() error { return err })
	}
	fmt.Println(query.Errors.Value())
	// Output: 1
}

// Errors of a type are matched with errors.As, and all but some errors with a negation.
func ExampleProbe_match() {
	r := new(gotheus.Registry)
	dial := &gotheus.Probe{
		Errors: r.NewCounter("dns_errors_total", "Names that were not found.", nil),
		Match:  func(err error) bool { var e *net.DNSError; return errors.As(err, &e) },
	}
	load := &gotheus.Probe{
		Errors: r.NewCounter("load_errors_total", "Loads that failed, but for those that were cancelled.", nil),
		Match:  func(err error) bool { return !errors.Is(err, context.Canceled) },
	}
	for _, err := range []error{&net.DNSError{}, context.Canceled} {
		_ = dial.Do(func() error { return err })
		_ = load.Do(func() error { return err })
	}
	fmt.Println(dial.Errors.Value(), load.Errors.Value())
	// Output: 1 1
}

// Counts from elsewhere that are already aggregated.
func ExampleHistogram_ObserveN() {
	r := new(gotheus.Registry)
	sizes := r.NewHistogram("message_bytes", "Sizes of messages.", &gotheus.HistogramOptions{Buckets: []float64{100, 1000}})
	for size, n := range map[float64]uint64{64: 1000, 512: 20, 4096: 0} {
		sizes.ObserveN(size, n)
	}
	fmt.Println(sizes.Count(), sizes.Sum())
	// Output: 1020 74240
}

func ExampleSummary_ObserveN() {
	r := new(gotheus.Registry)
	sizes := r.NewSummary("row_bytes", "Sizes of rows.", nil)
	batch := []string{"row1", "row2", "row3"} // all of the same size
	sizes.ObserveN(4, uint64(len(batch)))
	fmt.Println(sizes.Count(), sizes.Sum())
	// Output: 3 12
}

// A test of timed code uses its own clock and does not sleep.
func ExampleRegistry_Now() {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	r := gotheus.NewRegistry(&gotheus.RegistryOptions{Now: func() time.Time { return now }})
	latency := r.NewHistogram("order_seconds", "Time to take an order.", nil)
	order := func() {
		defer latency.ObserveSince(r.Now()) // not time.Now: both ends by the same clock
		now = now.Add(300 * time.Millisecond)
	}
	order()
	fmt.Println(latency.Count(), latency.Sum())

	// A Probe takes the clock.
	refund := &gotheus.Probe{Seconds: latency.Observe, Now: r.Now}
	refund.Run(func() { now = now.Add(2 * time.Second) })
	fmt.Println(latency.Count(), latency.Sum())
	// Output:
	// 1 0.3
	// 2 2.3
}

// Calls in progress. Dec is deferred, so that the gauge is right even after a panic.
func ExampleGauge_Inc() {
	r := new(gotheus.Registry)
	inFlight := r.NewGauge("orders_in_flight", "Orders being taken.", nil)
	order := func() {
		inFlight.Inc()
		defer inFlight.Dec()

		fmt.Println("during:", inFlight.Value())
		panic("out of stock")
	}
	func() {
		defer func() { fmt.Println("panic:", recover()) }()
		order()
	}()
	fmt.Println("after:", inFlight.Value())
	// Output:
	// during: 1
	// panic: out of stock
	// after: 0
}

// The rate of busy seconds is the number of busy workers.
func ExampleCounter_AddSince() {
	r := new(gotheus.Registry)
	busySeconds := r.NewCounter("worker_busy_seconds_total", "Time that workers spent on jobs.", nil)
	job := func() {
		defer busySeconds.AddSince(time.Now())
	}
	job()
	fmt.Println(busySeconds.Value() > 0)
	// Output: true
}

func ExampleGauge_SetSince() {
	r := new(gotheus.Registry)
	duration := r.NewGauge("backup_duration_seconds", "How long the last backup took.", nil)
	success := r.NewGauge("backup_last_success_timestamp_seconds", "When a backup succeeded last.", nil)
	backup := func() error {
		defer duration.SetSince(time.Now())
		// ... the backup
		success.SetToCurrentTime()
		return nil
	}
	fmt.Println(backup(), duration.Value() >= 0, success.Value() > 1.7e9)
	// Output: <nil> true true
}
