package main

import (
	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/attribute"
	exporter "go.opentelemetry.io/otel/exporters/prometheus"
	"go.opentelemetry.io/otel/metric"
	sdk "go.opentelemetry.io/otel/sdk/metric"
)

// OpenTelemetry's instruments have no handle for a series: an update names its attributes, which
// are ready-made sets here, the fastest way. Its pages are made by its exporter for client_golang's
// registry.

const otel = "OpenTelemetry"

// otelMeter returns a meter without a reader.
func otelMeter() metric.Meter {
	return sdk.NewMeterProvider(sdk.WithReader(sdk.NewManualReader()), sdk.WithCardinalityLimit(0)).Meter("bench")
}

// otelPage returns a meter and the registry that exports it.
func otelPage() (metric.Meter, *prometheus.Registry, error) {
	r := prometheus.NewRegistry()
	reader, err := exporter.New(exporter.WithRegisterer(r), exporter.WithoutScopeInfo(), exporter.WithoutTargetInfo())
	if err != nil {
		return nil, nil, err
	}
	return sdk.NewMeterProvider(sdk.WithReader(reader), sdk.WithCardinalityLimit(0)).Meter("bench"), r, nil
}

// otelSet returns attributes as an option of an update.
func otelSet(pairs ...string) metric.MeasurementOption {
	var list []attribute.KeyValue
	for i := 0; i < len(pairs); i += 2 {
		list = append(list, attribute.String(pairs[i], pairs[i+1]))
	}
	return metric.WithAttributeSet(attribute.NewSet(list...))
}

// otelCounter returns a counter of m.
func otelCounter(m metric.Meter, name string) metric.Int64Counter {
	c, err := m.Int64Counter(name, metric.WithDescription("Requests."))
	if err != nil {
		panic(err) // cannot happen: the name is valid
	}
	return c
}

// otelHistogram returns a histogram of m with the common bounds.
func otelHistogram(m metric.Meter, name string) metric.Float64Histogram {
	h, err := m.Float64Histogram(name, metric.WithDescription("Time."), metric.WithExplicitBucketBoundaries(bounds...))
	if err != nil {
		panic(err) // cannot happen: the name is valid
	}
	return h
}
