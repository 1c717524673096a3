package gotheus_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/gotheus/gotheus"
	"github.com/gotheus/gotheus/expo"
)

// Metrics whose values functions return, and an info, in the default registry.
func ExampleNewGaugeFunc() {
	r := gotheus.NewRegistry(&gotheus.RegistryOptions{NoSelfMetrics: true})
	gotheus.SetDefault(r) // for this example only

	queue := make(chan string, 10)
	gotheus.NewGaugeFunc("queue_length", "Messages waiting in this process.", nil,
		func() (float64, error) { return float64(len(queue)), nil })
	gotheus.NewCounterFunc("cache_hits_total", "Hits of the cache.", nil, func() (float64, error) { return 41, nil })
	gotheus.NewUntypedFunc("device_reading", "What the device says.", nil, func() (float64, error) { return 17, nil })
	gotheus.NewInfo("shop_info", "Which shop this is.", gotheus.Labels{"version": "1.2"})
	queue <- "hello"
	show(r)
	// Output:
	// cache_hits_total 41
	// device_reading 17
	// queue_length 1
	// shop_info{version="1.2"} 1
}

// A definition from outside the program returns an error instead of panicking. The mode determines
// how the values of several processes are combined.
func ExampleTryNewFunc() {
	r := gotheus.NewRegistry(&gotheus.RegistryOptions{NoSelfMetrics: true})
	connections := func() (float64, error) { return 12, nil }
	for _, name := range []string{"connections", "my connections\n"} {
		_, err := gotheus.TryNewFunc[gotheus.Gauge](r, name, "Connections of all processes.",
			&gotheus.GaugeOptions{Mode: gotheus.ModeSum}, connections)
		fmt.Println(errors.Is(err, gotheus.ErrInvalid))
	}
	r.WriteText(os.Stdout)
	// Output:
	// false
	// true
	// # HELP connections Connections of all processes.
	// # TYPE connections gauge
	// connections 12
}

// Facts that every process reports in the same way.
func ExampleCollectorFunc() {
	r := gotheus.NewRegistry(&gotheus.RegistryOptions{NoSelfMetrics: true})
	remove := r.Register(gotheus.CollectorFunc(func(ctx context.Context, s *gotheus.Sink) error {
		// From a database, by ctx.
		depth := s.Gauge("queue_messages", "Messages waiting, by queue.", "queue")
		depth.Put(3, "mail")
		depth.Put(0, "print")
		return nil
	}))
	defer remove()
	r.WriteText(os.Stdout)
	// Output:
	// # HELP queue_messages Messages waiting, by queue.
	// # TYPE queue_messages gauge
	// queue_messages{queue="mail"} 3
	// queue_messages{queue="print"} 0
}

// What breaks a rule costs its own family: a negative counter, and a series without the value of
// its label. A help text may be empty, and a family may have no series.
func ExampleSink() {
	r := gotheus.NewRegistry(&gotheus.RegistryOptions{Logger: slog.New(slog.DiscardHandler)})
	r.Register(gotheus.CollectorFunc(func(_ context.Context, s *gotheus.Sink) error {
		s.Gauge("temperature_celsius", "").Put(21.5)
		s.Gauge("humidity_ratio", "Of the air.")
		s.Counter("pulses_total", "Of the meter.").Put(-1)
		s.Gauge("pressure_pascals", "Of the air.", "room").Put(101300)
		s.Error(errors.New("the anemometer does not answer"))
		return nil
	}))
	var page strings.Builder
	r.WriteText(&page)
	fmt.Print(strings.ReplaceAll(page.String(), " \n", "\n"))
	// Output:
	// # HELP gotheus_collector_errors_total Collectors, or single families of collectors, left out of a page because of an error.
	// # TYPE gotheus_collector_errors_total counter
	// gotheus_collector_errors_total 3
	// # HELP humidity_ratio Of the air.
	// # TYPE humidity_ratio gauge
	// # HELP temperature_celsius
	// # TYPE temperature_celsius gauge
	// temperature_celsius 21.5
}

// Facts about this process. If processes share a backend, every page shows those of each.
func ExampleProcessCollectorFunc() {
	r := gotheus.NewRegistry(&gotheus.RegistryOptions{NoSelfMetrics: true})
	r.Register(gotheus.ProcessCollectorFunc(func(ctx context.Context, s *gotheus.Sink) error {
		s.Gauge("pool_connections", "Connections, by state.", "state").Put(3, "idle")
		s.Info("pool_info", "The pool's driver.", "driver").Put("example")
		return nil
	}))
	r.WriteText(os.Stdout)
	// Output:
	// # HELP pool_connections Connections, by state.
	// # TYPE pool_connections gauge
	// pool_connections{state="idle"} 3
	// # HELP pool_info The pool's driver.
	// # TYPE pool_info gauge
	// pool_info{driver="example"} 1
}

// A collector whose values have timestamps and exemplars.
func ExampleNumberWriter_PutNumber() {
	measured := time.Unix(1700000000, 0).UnixNano()
	r := gotheus.NewRegistry(&gotheus.RegistryOptions{NoSelfMetrics: true})
	r.Register(gotheus.CollectorFunc(func(ctx context.Context, s *gotheus.Sink) error {
		s.Counter("meter_pulses_total", "Pulses of the meter.").PutNumber(expo.Number{
			Int: 42, Time: measured, Exemplar: expo.Exemplar{Labels: `trace_id="4bf9"`, Value: 1, Time: measured},
		})
		return nil
	}))
	r.Write(context.Background(), os.Stdout, &gotheus.WriteOptions{Format: expo.Format{Syntax: expo.OpenMetrics1}})
	// Output:
	// # TYPE meter_pulses counter
	// # HELP meter_pulses Pulses of the meter.
	// meter_pulses_total 42 1700000000.0 # {trace_id="4bf9"} 1.0 1700000000.0
	// # EOF
}

// The library logs to the program's logger, also for metrics that are package variables.
func ExampleRegistry_SetLogger() {
	r := new(gotheus.Registry) // or gotheus.Default()
	c := r.NewCounter("c_total", "C.", nil)
	r.SetLogger(slog.New(slog.NewTextHandler(os.Stdout, &slog.HandlerOptions{
		ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
			switch a.Key {
			case slog.TimeKey, slog.LevelKey, "rule": // for a short line
				return slog.Attr{}
			}
			return a
		},
	})))
	c.Add(-1)
	c.Add(-1) // the same, within a minute
	// Output:
	// msg="gotheus: an update was ignored" metric=c_total operation=Counter.Add value=-1
}
